"""A version of the model, as MLflow's registry has it: what its tags say, with types. No other file knows the tags by name.

Tags are texts that anybody may write, and a version that an older release registered, or somebody by hand, lacks some of them.
So each attribute has a value for that case. Tags with other names are left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

NOTHING = "none"  # `compared_with` of a version that was judged while production served nothing
HELD = "held"
METRIC = "metric_"  # in front of a metric's name


@dataclass(frozen=True)
class Split:
    """How the hold-out of a version was drawn: by the hash of a column's values with a salt, or by time; and the share of the rows.

    `cut` is the time of the oldest row that was held out, as pipeline/data/holdout.py writes it.
    """

    column: str
    salt: str
    holdout: float
    by: Literal["id", "group", "time"] = "id"
    cut: str = ""


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model. A mark that is None was never set; any other text that is not known is empty."""

    name: str
    number: str
    run_id: str
    created: int = 0  # seconds since 1970
    legacy_stage: str = "None"

    # What it was made from.
    commit: str = ""
    data_hash: str = ""
    lock_hash: str = ""
    digest: str = ""  # of the whole build; empty: this pipeline did not register the version
    model_hash: str = ""  # of the model alone: the same where only the commit is another
    format: str = ""
    mlflow: str = "unknown"
    run_url: str = ""
    training_reason: str = ""  # why it was trained; `reason` is why it was accepted
    split: Split | None = None  # None: nobody can tell which rows it was trained on
    metrics: Mapping[str, float] = field(default_factory=dict)

    # How it was judged.
    verdict: str = ""
    reason: str = ""
    judged_by: str = ""
    limits: str = ""  # HELD: the gate did not accept it, but all its limits and checks hold
    compared_with: str = ""  # the version in production then, or NOTHING
    best_version: str = ""  # the best so far, of this version and those before it
    forced: str | None = None  # mark of a person: why it may be deployed without an accepted verdict

    # What became of it.
    bundle: str = ""  # where MLflow keeps it
    image: str = ""  # by digest, in a registry
    last_deployment: str = ""  # run of the last deployment that was begun with it
    promoted: str | None = None  # mark: when it was put into production
    rolled_back: str | None = None  # mark: when production went back from it to an earlier one
    experiment: str = ""  # mark: the experiment that it is in now
    experiments: str = ""  # the names of all that it was in, in order, with a space between

    @classmethod
    def from_mlflow(cls, found: Any) -> "ModelVersion":
        """The version that MLflow's client gave."""
        number, tags = str(found.version), found.tags
        return cls(
            name=found.name,
            number=number,
            run_id=found.run_id or "",
            created=int(found.creation_timestamp) // 1000,
            legacy_stage=found.current_stage,
            split=_split(tags),
            metrics=_metrics(tags),
            **{"best_version": number} | {key: value for key, value in tags.items() if key in TEXTS},
        )

    @property
    def is_accepted(self) -> bool:
        """Whether the gate accepted it."""
        return self.verdict == "accept"

    def is_newer_than(self, other: "ModelVersion") -> bool:
        """Whether it was registered after another version of the same model."""
        return int(self.number) > int(other.number)


TEXTS = {one.name for one in fields(ModelVersion)} - {
    "name", "number", "run_id", "created", "legacy_stage", "split", "metrics"
}  # fmt: skip  # the attributes whose tag has the same name and is kept as it is


def _split(tags: Mapping[str, str]) -> Split | None:
    try:
        by = tags.get("split_by", "id")
        if by not in ("id", "group", "time"):  # of a later release
            return None
        cut = tags.get("split_cut", "")
        return Split(tags["split_id"], tags["split_salt"], float(tags["split_holdout"]), by, cut)  # type: ignore[arg-type]
    except (KeyError, ValueError):
        return None


def _metrics(tags: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for key, value in tags.items():
        if key.startswith(METRIC):
            try:
                found[key.removeprefix(METRIC)] = float(value)
            except ValueError:  # somebody wrote over it
                continue
    return found


def as_tags(split: Split, metrics: Mapping[str, float], **texts: str) -> dict[str, str]:
    """The tags of a version that is about to be registered, from its attributes."""
    # An earlier release reads split_id as the id column: one that is none has it compare no rows, which is right.
    drawn = {"split_id": split.column, "split_salt": split.salt, "split_holdout": repr(split.holdout)}
    if split.by != "id":
        drawn |= {"split_by": split.by, "split_cut": split.cut}
    return _known(texts) | drawn | {f"{METRIC}{name}": f"{value:.6g}" for name, value in metrics.items()}


def set_tags(client, name: str, number: str, **texts: str) -> None:
    """Give attributes of a version new values in MLflow."""
    for key, value in _known(texts).items():
        client.set_model_version_tag(name, number, key, value)


def remove_mark(client, name: str, number: str, mark: str) -> None:
    """Take a mark away from a version in MLflow."""
    client.delete_model_version_tag(name, number, mark)


def _known(texts: dict[str, str]) -> dict[str, str]:
    """The texts; raises TypeError where one is no attribute of a version, for nobody would read it again."""
    if unknown := set(texts) - TEXTS:
        raise TypeError(f"{', '.join(sorted(unknown))}: no tag of a version")
    return texts
