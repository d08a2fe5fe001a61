"""An experiment: a second model, the challenger, beside the one in production.

A bundle that carries one has a folder `experiment` with experiment.json and the challenger's own bundle:

    manifest.json contract.json model.onnx …      the model in production, A
    experiment/experiment.json                    which experiment this is
    experiment/challenger/manifest.json …         the challenger, B
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serving.log.blocks import Source
from serving.log.identity import identity
from serving.model.bundle import EXPERIMENT, Bundle, BundleError, open_bundle
from serving.model.contract import Contract, Skops
from serving.model.features import Input

FILE, CHALLENGER = "experiment.json", "challenger"
NAME = r"\A[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z"  # it is a part of a header, so no line end after it
A, B = "A", "B"


class Guardrails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a challenger that answers callers is taken out at once.

    `max_failures`: the largest share of its requests that it may leave without an answer. Its 95th percentile of the time to predict may be
    `max_latency_ratio` times that of the model in production, and `latency_margin_ms` more. Both are judged from `min_requests` on.
    """

    max_failures: Annotated[float, Meta(ge=0, le=1)] = 0.02
    max_latency_ratio: Annotated[float, Meta(ge=1)] = 2.0
    latency_margin_ms: Annotated[float, Meta(ge=0)] = 5.0
    min_requests: Annotated[int, Meta(ge=1)] = 100


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """experiment.json. In mode `ab` a share of the subjects is answered by the challenger; in `shadow` no caller is."""

    name: Annotated[str, Meta(pattern=NAME)]
    mode: Literal["ab", "shadow"]
    share: Annotated[float, Meta(gt=0, le=1)]
    challenger: str  # its version
    challenger_digest: str
    guardrails: Guardrails = Guardrails()


@dataclass(frozen=True)
class Carried:
    """The experiment of a bundle, with the challenger's bundle."""

    experiment: Experiment
    challenger: Bundle


def open_experiment(folder: Path, production: Bundle) -> Carried | None:
    """The experiment that a bundle folder carries, verified; None where there is none. Raises BundleError."""
    inside = folder / EXPERIMENT
    if not inside.exists() and not inside.is_symlink():  # a link that leads nowhere is no bundle without an experiment
        return None
    try:
        experiment = msgspec.json.decode((inside / FILE).read_bytes(), type=Experiment)
    except OSError as error:
        raise BundleError(f"{inside / FILE} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise BundleError(f"{inside / FILE} cannot be used: {error}") from error
    challenger = open_bundle(inside / CHALLENGER)
    known = challenger.release.version, challenger.release.digest
    if known != (experiment.challenger, experiment.challenger_digest):
        theirs = f"version {experiment.challenger} with digest {experiment.challenger_digest[:12]}"
        raise BundleError(
            f"{inside}: {FILE} names {theirs}, in {CHALLENGER} is version {known[0]} with digest {known[1][:12]}"
        )
    if why := incomparable(production.contract, challenger.contract):
        raise BundleError(f"{inside}: version {known[0]} cannot stand in for {production.release.version}: {why}")
    codes = model_code(production), model_code(challenger)  # rules are imported apart from one another
    if all(codes) and codes[0] != codes[1]:
        raise BundleError(f"{inside}: both models bring code of their own, and it differs; one process cannot run both")
    return Carried(experiment, challenger)


def model_code(bundle: Bundle) -> dict[str, bytes]:
    """The code that a stored model names by its types, which all of the process sees; none where only rules need it."""
    if bundle.contract.rules is None:
        return bundle.code
    form = bundle.contract.form
    types = form.trusted if isinstance(form, Skops) else []
    roots = {file.partition("/")[0] for file in bundle.code}
    return bundle.code if any(name.partition(".")[0] in roots for name in types) else {}


def incomparable(production: Contract, challenger: Contract) -> str:
    """Why a challenger cannot answer in the place of the model in production, in words; "" if it can.

    It must take exactly the same rows, so that no caller is refused by one of them only, and give the same answers: the same classes in
    the same order.
    """
    if (production.name, production.task) != (challenger.name, challenger.task):
        return f"it is {challenger.name} ({challenger.task}), not {production.name} ({production.task})"
    if production.target != challenger.target:
        return f"it predicts {challenger.target!r}, not {production.target!r}"
    if (production.classes, production.positive) != (challenger.classes, challenger.positive):
        return f"its classes are {', '.join(challenger.classes)}, not {', '.join(production.classes)}"
    if list(production.names) != list(challenger.names):
        odd = sorted(set(production.names) ^ set(challenger.names))
        return f"its inputs differ in {', '.join(map(repr, odd))}" if odd else "its inputs are in another order"
    for ours, theirs in zip(production.inputs, challenger.inputs, strict=True):
        if _taken(ours) != _taken(theirs):
            return f"its input {ours.name!r} takes {theirs.allowed}, not {ours.allowed}"
    return ""


def _taken(column: Input) -> tuple:
    """What decides which values an input takes; the words for them are shorter."""
    limits = column.minimum, column.maximum, column.exclusive_minimum, column.exclusive_maximum
    values = None if column.values is None else frozenset(map(repr, column.values))
    return column.type, column.nullable, limits, values


def position(salt: str, subject: str) -> float:
    """Where a subject stands in an experiment, from 0 to below 1: uniform over subjects, and always the same for one.

    `subject` is its identity, as the prediction log keeps it. Whoever stands below the share is answered by B, so that a larger share
    moves subjects from A to B only.
    """
    return int.from_bytes(hashlib.sha256(f"{salt}:{subject}".encode()).digest()[:8], "big") / 2**64


def position_of(salt: str, name: str) -> float:
    """The same of a subject as requests name it."""
    return position(salt, identity(name))


def sources(production: Bundle, carried: Carried | None) -> list[Source]:
    """Whose rows the prediction log may get: production's outside of any experiment, then A's and B's."""
    name, version = production.release.name, production.release.version
    plain = Source(name, version)
    if carried is None:
        return [plain]
    experiment = carried.experiment
    return [plain, Source(name, version, experiment.name, A), Source(name, experiment.challenger, experiment.name, B)]
