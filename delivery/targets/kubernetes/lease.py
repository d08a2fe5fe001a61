"""A lock between deploying machines: the Lease `slipway-delivery` in the environment's namespace.

Its holder renews it while it works. A lease not renewed for SECONDS belongs to a killed run; it is taken over after it
was observed unchanged, because clocks differ but a live holder writes.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from delivery.targets.kubernetes import kubectl
from delivery.targets.kubernetes.kubectl import Cluster, KubectlError
from pipeline.errors import BusyError

NAME = "slipway-delivery"
SECONDS = 60
STILL_SECONDS = SECONDS / 4 + 5  # a live holder renews its lease within this time
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@contextlib.contextmanager
def held(cluster: Cluster, holder: str) -> Iterator[Callable[[], None]]:
    """Hold the lease; yields a function that raises BusyError when it may be lost, as after this machine slept.

    Raises BusyError, naming the holder, when another run has it.
    """
    lease, renewed = _take(cluster, holder), time.time()  # wall-clock time, because it continues while a machine sleeps
    ended, lost, trouble = threading.Event(), threading.Event(), ""

    def renew() -> None:
        nonlocal lease, renewed, trouble
        while not ended.wait(SECONDS / 4):
            began = time.time()
            try:
                lease, renewed = _renewed(cluster, lease), began
            except Exception as error:
                trouble = str(error)
                if isinstance(error, KubectlError) and error.reason in ("Conflict", "NotFound"):
                    lost.set()
                    return  # other errors may be transient: the next renewal comes in time

    def still_ours() -> None:
        if lost.is_set():
            raise BusyError(f"another run took over {cluster.environment}", "see what it did, then run this again")
        if (ago := time.time() - renewed) > SECONDS:
            raise BusyError(
                f"the lease of {cluster.environment} ran out: not renewed for {ago:.0f} s{trouble and f' ({trouble})'}",
                "another run may be at work there; run this again, which repairs what was left",
            )

    renewal = threading.Thread(target=renew, daemon=True)
    renewal.start()
    try:
        yield still_ours
    finally:
        ended.set()
        renewal.join()
        if not lost.is_set():
            with contextlib.suppress(KubectlError):  # it expires by itself; the original error matters more
                _write(cluster, lease, holderIdentity="")


def _take(cluster: Cluster, holder: str) -> dict[str, Any]:
    """Create the lease, or take one that nobody holds any more."""
    ours: dict[str, Any] = {
        "holderIdentity": holder,
        "leaseDurationSeconds": SECONDS,
        "acquireTime": _now(),
        "renewTime": _now(),
    }
    new = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME}}
    try:
        return _write(cluster, new, "create", **ours)
    except KubectlError as error:
        if error.reason != "AlreadyExists":
            raise
    found = kubectl.find(cluster, f"lease/{NAME}")[f"lease/{NAME}"]
    if not _free(found):
        raise _busy(cluster, found)
    if found["spec"].get("holderIdentity") and (moved := _moved(cluster, found)):
        raise _busy(cluster, moved)
    try:
        return _write(cluster, found, **ours)
    except KubectlError as error:
        if error.reason != "Conflict":
            raise
        raise BusyError(
            f"another run began to deploy to {cluster.environment} just now", "wait, then run this again"
        ) from None


def _write(cluster: Cluster, lease: dict[str, Any], verb: str = "replace", **spec: Any) -> dict[str, Any]:
    """Write these fields to the lease; its resourceVersion makes the write fail if somebody else wrote meanwhile."""
    changed = lease | {"spec": lease.get("spec", {}) | spec}
    how = ("--filename=-", "--output=json")
    return json.loads(kubectl.run(cluster, verb, *how, stdin=json.dumps(changed), patient=verb == "create"))


def _renewed(cluster: Cluster, lease: dict[str, Any]) -> dict[str, Any]:
    """Renew the lease and return it; an earlier renewal may have arrived although its response did not."""
    try:
        return _write(cluster, lease, renewTime=_now())
    except KubectlError as error:
        found = kubectl.find(cluster, f"lease/{NAME}").get(f"lease/{NAME}") if error.reason == "Conflict" else None
        if not found or any(found["spec"].get(key) != lease["spec"][key] for key in ("holderIdentity", "acquireTime")):
            raise
        return _write(cluster, found, renewTime=_now())


def _free(lease: dict[str, Any]) -> bool:
    return not lease.get("spec", {}).get("holderIdentity") or _until(lease) < datetime.now(UTC)


def _moved(cluster: Cluster, lease: dict[str, Any]) -> dict[str, Any] | None:
    """Watch the lease for a moment; return it when its holder renews it, None when nobody does."""
    print(
        f"{lease['spec']['holderIdentity']} seems to have stopped deploying to {cluster.environment}; watching its lease for a moment",
        flush=True,
    )
    time.sleep(STILL_SECONDS)
    now = kubectl.find(cluster, f"lease/{NAME}").get(f"lease/{NAME}", lease)
    return now if now["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] else None


def _until(lease: dict[str, Any]) -> datetime:
    """The time when a lease expires; with unreadable times it counts as expired, and watching it decides."""
    try:
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
        return renewed.astimezone(UTC) + timedelta(seconds=lease["spec"]["leaseDurationSeconds"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)


def _busy(cluster: Cluster, lease: dict[str, Any]) -> BusyError:
    spec = lease["spec"]
    return BusyError(
        f"{spec.get('holderIdentity') or 'another run'} is deploying to {cluster.environment} since {str(spec.get('acquireTime'))[:19].replace('T', ' ')} UTC",
        f"wait until that has ended; if it was killed, run this again after {_until(lease):%H:%M:%S} UTC",
    )


def _now() -> str:
    return datetime.now(UTC).strftime(TIME)
