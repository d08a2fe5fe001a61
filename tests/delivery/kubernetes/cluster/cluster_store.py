"""The objects of the cluster: in memory, with one version number for all, and a history for watches.

Everything runs in one thread, so code without an await in between needs no lock.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster_resources import Resource
from cluster_status import ApiError, already_exists, conflict, not_found

Object = dict[str, Any]
KEPT = 5000  # changes that a watch can still request


def now() -> str:
    """The current time in Kubernetes' format."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    """One change: `old` is None for a new object, `new` None for a deleted one."""

    version: int
    resource: Resource
    old: Object | None
    new: Object | None


class Store:
    """All objects. `get` and `all` return the store's own objects, which must not be modified."""

    def __init__(self) -> None:
        self.version = 1
        self.changed = asyncio.Event()
        self._objects: dict[Resource, dict[tuple[str, str], Object]] = {}
        self._history: deque[Change] = deque(maxlen=KEPT)
        self._watchers: set[asyncio.Queue[Change | None]] = set()

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """An object; raises ApiError 404."""
        found = self.peek(resource, namespace, name)
        if found is None:
            raise not_found(resource.plural, resource.group, name)
        return found

    def peek(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """An object or None."""
        return self._objects.get(resource, {}).get((namespace, name))

    def all(self, resource: Resource, namespace: str = "") -> list[Object]:
        """The objects of a kind, of one namespace or of all (""), by name."""
        found = self._objects.get(resource, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def everything(self) -> Iterator[tuple[Resource, Object]]:
        """Every object of every kind."""
        for resource, found in list(self._objects.items()):
            for value in list(found.values()):
                yield resource, value

    def create(self, resource: Resource, value: Object) -> Object:
        """Add an object; raises ApiError 409 when the name is taken."""
        value = deepcopy(value)
        meta = value["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if key in self._objects.get(resource, {}):
            raise already_exists(resource.plural, resource.group, meta["name"])
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if "spec" in value or resource.subresources:
            meta["generation"] = 1
        return self._write(resource, key, None, value)

    def update(self, resource: Resource, value: Object) -> Object:
        """Replace an object; raises ApiError 409 when `value` was made from an older state."""
        value = deepcopy(value)
        meta = value["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        old = self.get(resource, *key)
        if meta.get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise conflict(resource.plural, resource.group, meta["name"])
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        if value == old:
            return old
        if "generation" in old["metadata"]:
            same = value.get("spec") == old.get("spec")
            meta["generation"] = old["metadata"]["generation"] + (0 if same else 1)
        if "deletionTimestamp" in meta and not meta.get("finalizers") and not _lingers(value):
            return self.remove(resource, *key)
        return self._write(resource, key, old, value)

    def change(self, resource: Resource, namespace: str, name: str, how: Callable[[Object], None]) -> Object | None:
        """Modify a copy of an object and store it; None when there is no such object."""
        found = self.peek(resource, namespace, name)
        if found is None:
            return None
        value = deepcopy(found)
        how(value)
        return self.update(resource, value)

    def remove(self, resource: Resource, namespace: str, name: str) -> Object:
        """Remove an object; return its last state."""
        old = self.get(resource, namespace, name)
        del self._objects[resource][(namespace, name)]
        self._tell(Change(self._next(), resource, old, None))
        return old

    def since(self, version: int) -> list[Change]:
        """The changes after a version; raises ApiError 410 when they are no longer kept."""
        if len(self._history) == KEPT and version < self._history[0].version - 1:
            raise ApiError(410, "Expired", f"too old resource version: {version} ({self._history[0].version})")
        return [change for change in self._history if change.version > version]

    def watch(self) -> asyncio.Queue[Change | None]:
        """A queue that gets every change from now on, and None at the end; pass it to `unwatch`."""
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._watchers.add(queue)
        return queue

    def unwatch(self, queue: asyncio.Queue[Change | None]) -> None:
        """Remove a queue."""
        self._watchers.discard(queue)

    def end_watches(self) -> None:
        """Send the end to all watches."""
        for queue in self._watchers:
            queue.put_nowait(None)

    def _next(self) -> int:
        self.version += 1
        return self.version

    def _write(self, resource: Resource, key: tuple[str, str], old: Object | None, value: Object) -> Object:
        value["metadata"]["resourceVersion"] = str(self._next())
        self._objects.setdefault(resource, {})[key] = value
        self._tell(Change(self.version, resource, old, value))
        return value

    def _tell(self, change: Change) -> None:
        self._history.append(change)
        self.changed.set()
        for queue in self._watchers:
            queue.put_nowait(change)


def _lingers(value: Object) -> bool:
    """Whether an object being deleted still waits: a pod for its process, a namespace for its contents."""
    return value["kind"] == "Pod" or bool(
        value.get("spec", {}).get("finalizers") if value["kind"] == "Namespace" else False
    )
