"""The images that this cluster can pull: the bundle in each, and its fault.

An image missing in the catalogue is looked up in the registry of its name, if that is on this machine.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cluster_registry

FAULTS = ("never-ready", "wrong-answers", "slow", "errors", "crash", "slow-start")


@dataclass(frozen=True)
class Image:
    """An image's bundle folder, and its fault (with ":" and an amount, e.g. slow:0.05) or ""."""

    bundle: str
    fault: str


class Images:
    """The catalogue: a folder with a JSON file for each digest, {"bundle": PATH, "fault": "..."}, read at each pull."""

    def __init__(self, folder: Path):
        self._folder = folder

    def pull(self, reference: str) -> Image | None:
        """The image of a reference; its digest alone suffices. None when it was never pushed."""
        listed = self._folder / f"{reference.rpartition('@')[2]}.json"
        if listed.exists():
            return Image(**json.loads(listed.read_text(encoding="utf-8")))
        bundle = cluster_registry.pull(reference, self._folder.parent / "pulled")
        return Image(str(bundle), "") if bundle else None
