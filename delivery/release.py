"""What is put into an environment, and what serves there then."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Release:
    """A version of the model, ready to serve: its verified bundle, and its image by digest where the target needs one."""

    name: str
    version: str
    digest: str
    bundle: Path
    image: str | None = None
    experiment: str = ""  # the experiment that it carries, with its share; see ExperimentRecord.release


@dataclass(frozen=True)
class CurrentRelease:
    """What serves in an environment, and where callers find it."""

    environment: str
    name: str
    version: str
    digest: str
    image: str | None
    url: str
    bundle: Path  # where it is, or was, on the machine that deployed
    since: str  # as people read it
    port: int | None = None  # of this machine, where a target publishes one
    note: str = ""  # what is wrong with it, in words
    experiment: str = ""  # as of Release

    @property
    def local_bundle(self) -> Path | None:
        """The bundle, where it is on this machine."""
        return self.bundle if self.bundle.is_dir() else None
