"""Watches: streams of changes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from cluster_ask import Ask
from cluster_selectors import fields_match, matches, parse_fields, parse_labels
from cluster_status import ApiError
from cluster_store import Change, Object, Store
from cluster_tables import as_table
from cluster_writes import chosen


async def watch(store: Store, ask: Ask) -> AsyncIterator[bytes]:
    """The changes to objects that match a request's selectors, one line of JSON each, until its time is up."""
    ends = time.monotonic() + float(ask.query.get("timeoutSeconds") or 3600)
    queue = store.watch()
    try:
        for event in _backlog(store, ask):
            yield event
        while (left := ends - time.monotonic()) > 0:
            try:
                change = await asyncio.wait_for(queue.get(), left)
            except TimeoutError:
                return
            if change is None:
                return
            if (seen := _event(ask, change)) is not None:
                yield seen
    finally:
        store.unwatch(queue)


def _backlog(store: Store, ask: Ask) -> list[bytes]:
    """The start of a watch: all objects, or the changes since a version."""
    version = int(ask.query.get("resourceVersion") or 0)
    if not version:
        return [_line(ask, "ADDED", value) for value in chosen(store, ask)]
    try:
        return [event for change in store.since(version) if (event := _event(ask, change))]
    except ApiError as error:
        return [_line(ask, "ERROR", error.body())]


def _event(ask: Ask, change: Change) -> bytes | None:
    """A change as seen by this watch: an object that stops matching is deleted, one that starts matching is added."""
    if change.resource != ask.resource:
        return None
    was, is_now = _seen(ask, change.old), _seen(ask, change.new)
    if is_now:
        return _line(ask, "MODIFIED" if was else "ADDED", change.new)
    last = dict(change.new or change.old or {})
    last["metadata"] = last.get("metadata", {}) | {"resourceVersion": str(change.version)}
    return _line(ask, "DELETED", last) if was else None


def _seen(ask: Ask, value: Object | None) -> bool:
    if value is None or (ask.namespace and value["metadata"].get("namespace") != ask.namespace):
        return False
    labels = value["metadata"].get("labels") or {}
    fields = parse_fields(ask.query.get("fieldSelector", ""))
    return matches(parse_labels(ask.query.get("labelSelector", "")), labels) and fields_match(fields, value)


def _line(ask: Ask, kind: str, value: Any) -> bytes:
    if ask.table and kind != "ERROR":
        value = as_table(value)
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"
