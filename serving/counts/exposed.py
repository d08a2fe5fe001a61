"""What the service shows Prometheus of the monitor's findings: one record per model, in the table `findings` beside the prediction log."""

import msgspec
from msgspec import Struct

MOST_FEATURES = 200  # so that a wide model does not fill Prometheus


class Feature(Struct, frozen=True, kw_only=True):
    """A column over the last days: its distance from training, its evidence as a share of the alarm's, its empty cells as a share of rows."""

    name: str
    score: float | None = None
    evidence: float | None = None
    missing: float | None = None


class Alarm(Struct, frozen=True, kw_only=True):
    """A kind of incident, and whether it is open; `feature` is "" for what is about all rows."""

    kind: str
    feature: str = ""
    open: bool


class Exposed(Struct, frozen=True, kw_only=True):
    """What one run of the monitor found, as far as Prometheus is told; `version` is the one that serves, "" where none was judged.

    `performance` is measured from `outcomes` rows of the last days, by metric; `estimated` comes from the model's own probabilities.
    `coverage` is the share of rows, old enough to have an outcome, that have one. `label_delay` is in seconds, by quantile.
    """

    model: str
    version: str = ""
    features: list[Feature] = []
    alarms: list[Alarm] = []
    performance: dict[str, float] = {}
    estimated: dict[str, float] = {}
    outcomes: int = 0
    coverage: float | None = None
    label_delay: dict[str, float] = {}
    retrains_exhausted: bool = False


def exposed_of(raw: bytes | str) -> Exposed:
    """A record from JSON; what a newer monitor adds to it is left out. Raises ValueError in words."""
    try:
        return msgspec.json.decode(raw, type=Exposed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"the record of the findings cannot be read: {error}") from None
