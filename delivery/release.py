"""What is put into an environment: one registered version, as a verified bundle and, where one is needed, as an image."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Release:
    """A version of the model, ready to serve; `image` names the image by digest, None for targets that need none."""

    name: str
    version: str
    digest: str
    bundle: Path
    image: str | None = None
