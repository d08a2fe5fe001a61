"""The trained model as it will be served: its answers, its format and its contract, or why it cannot be served."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.artifacts import to_json
from pipeline.data.dataset import Dataset
from pipeline.decisions import rules, threshold
from pipeline.errors import DataError, ProjectError, in_project
from pipeline.formats import bundle, choose, family, trusted_types
from pipeline.formats.family import family_of
from serving.requests.decoder import contract_fault


@dataclass(frozen=True)
class Deciding:
    """What turns answers into decisions: the threshold that was chosen, if any, and the files of the rules, if any."""

    choice: threshold.Choice | None
    rules: dict[str, bytes]


@dataclass(frozen=True)
class Servable:
    """The model as it will be served, its contract, and the rows on which it was tried beside the trained one."""

    served: choose.Served
    contract: dict
    tried: list[choose.Trial]
    contradiction: choose.Contradiction


def answers(model, dataset: Dataset) -> np.ndarray:
    """The trained model's answers on the hold-out: probabilities (n, k), or values (n,); ProjectError when one is not finite."""
    from threadpoolctl import threadpool_limits

    rows = dataset.features[dataset.holdout]
    with in_project("asking the model for its answers to the hold-out"), threadpool_limits(1):  # as the service asks it
        given = family.answer(model, dataset, rows)
    wrong = ~np.isfinite(given.reshape(len(rows), -1)).all(axis=1)
    if wrong.any():
        row = dataset.ids[dataset.holdout][wrong.argmax()]
        raise ProjectError(f"the model's answer for row {row} is not a finite number", "correct project/model.py")
    return given


def allowed(model, trusted: list[str]) -> None:
    """Refuse a model that holds types which need the team's word in [train] trusted_types and have none, naming them."""
    if unknown := family_of(model).untrusted(model, trusted):
        raise ProjectError(
            f"the model holds types that are not trusted: {', '.join(unknown)}",
            trusted_types.advice(unknown, trusted),
        )


def servable_model(
    model, dataset: Dataset, y_pred: np.ndarray, checks: dict, commit: tuple[str, bool], decision: Deciding
) -> Servable:
    """The model in the format that answers as it was trained to; refuses one that cannot be served, while there is no MLflow run yet."""
    named = f"{commit[0]}-dirty" if commit[1] else commit[0]
    tolerance = dataset.settings.gate.parity

    def contract_for(form: dict) -> dict:
        return bundle.contract(dataset, form, checks, named, tolerance) | threshold.contract_part(decision.choice)

    held = dataset.features[dataset.holdout]
    tried = choose.prepare(model, dataset, held, y_pred, contract_for({})["inputs"])
    contradiction = consistent(model, dataset, tried)
    served = choose.choose(model, dataset, tried, contract_for)
    contract = contract_for(served.form) | rules.contract_part(decision.rules, dataset)
    served = replace(served, files=served.files | decision.rules)
    reason = f": {contract['format_reason']}" if contract["format_reason"] else ""
    print(f"served as {contract['format']}{reason}")
    servable(contract)
    return Servable(served, contract, tried, contradiction)


def consistent(model, dataset: Dataset, tried: list[choose.Trial]) -> choose.Contradiction:
    """Refuse a model whose labels are not the most probable classes, or that contradicts itself; return how far it does."""
    if odd := choose.not_most_probable(model, dataset, tried):
        raise ProjectError(odd, choose.MOST_PROBABLE)
    found = choose.contradiction(model, dataset, dataset.features[dataset.holdout])
    if found.differ > choose.CONTRADICTED * found.rows:
        raise ProjectError(f"the model contradicts itself: {found}", choose.ONE_ANSWER)
    if found.differ:
        print(f"the model contradicts itself: {found}")
    return found


def servable(contract: dict) -> None:
    """Refuse a contract from which the service could not be made, while there is no MLflow run yet."""
    fault = contract_fault(to_json(contract).encode())
    if fault:
        raise DataError(
            f"the service cannot be made from this contract: {fault}",
            "correct the column in load() of project/data.py, or what project/checks.py allows of it",
        )
