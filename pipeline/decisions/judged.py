"""What the threshold and the rules do on the hold-out: for the record of the evaluation, and as a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.data.dataset import Dataset
from pipeline.decisions import rules, threshold
from pipeline.evaluation.figures import BLUE, QUIET, VERMILION, panels_of, plain, styled
from pipeline.evaluation.record import Decision, RuleRow
from serving.model.decision import Threshold

GREEN = "#009E73"
MOST_POINTS = 2000  # of a curve; more gain nothing


def decision_of(run: Mapping[str, Any], dataset: Dataset, y_pred: np.ndarray) -> Decision | None:
    """The threshold of a run and what it gives on the hold-out, where `y_pred` are the answers; None where it has none."""
    if "decision" not in run:
        return None
    choice, asked = run["decision"], dataset.settings.decision
    score, hit, weight = _scores(dataset, y_pred)
    return Decision(
        rule=choice["rule"],
        positive=str(dataset.settings.data.positive),
        threshold=choice["threshold"],
        floor=asked.floor if asked.rule in ("precision", "recall") else None,
        folds_rows=choice["rows"],
        **{f"expected_{name}": choice[name] for name in ("precision", "recall", "cost")},
        **threshold.measure(score, hit, choice["threshold"], asked, weight),
    )


def rule_rows(files: Mapping[str, bytes], dataset: Dataset, alone: np.ndarray, cut: Threshold | None) -> list[RuleRow]:
    """What each rule of a bundle did on the hold-out, where the model `alone` answers so."""
    ruled = rules.of_files(files, dataset)
    return [RuleRow(**one._asdict()) for one in rules.on_holdout(ruled, dataset, alone, cut)] if ruled else []


def pictures(decision: Decision | None, dataset: Dataset, y_pred: np.ndarray) -> dict[str, Figure]:
    """The figure of the threshold by name, where one was chosen."""
    if decision is None:
        return {}
    score, hit, weight = _scores(dataset, y_pred)
    known = np.isfinite(score)
    weight = None if weight is None else weight[known]
    return {"threshold": curves(threshold.curve(score[known], hit[known], dataset.settings.decision, weight), decision)}


@styled
def curves(curve: threshold.Curve, decision: Decision) -> Figure:
    """Precision, recall and mean cost per row on the hold-out against the threshold, with the chosen one marked."""
    name, costs = plain(decision.positive), curve.cost is not None
    figure, panels = panels_of(f"Threshold of class {name}, on the hold-out", 10 if costs else 6.4, 4.4, 1 + costs)
    lines = [
        (panels[0], "precision", curve.precision, decision.precision, BLUE, "-"),
        (panels[0], "recall", curve.recall, decision.recall, VERMILION, "--"),
    ]
    if curve.cost is not None:
        lines.append((panels[1], "mean cost per row", curve.cost, decision.cost, GREEN, "-"))
    some = np.unique(np.linspace(0, len(curve.thresholds) - 1, min(MOST_POINTS, len(curve.thresholds))).astype(int))
    for axes, label, values, chosen, colour, dash in lines:
        shown = "" if chosen is None else f" {chosen:.3g}"
        # Steps: between two scores nothing changes, so the point that is marked lies on the line.
        axes.plot(
            curve.thresholds[some], values[some], dash, color=colour, linewidth=1.6, label=f"{label}{shown}",
            drawstyle="steps-mid",
        )  # fmt: skip
        if chosen is not None:
            axes.plot(decision.threshold, chosen, "o", color=colour, markersize=7, zorder=3)
    for axes in panels:
        axes.axvline(decision.threshold, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlim=(0, 1), xlabel=f"threshold (chosen: {decision.threshold:.4g})", ylabel="")
        axes.legend(loc="best")
    if decision.floor is not None:
        panels[0].axhline(decision.floor, color=QUIET, linewidth=0.8, linestyle=(0, (1, 3)))
    panels[0].set_ylim(0, 1.03)
    return figure


def _scores(dataset: Dataset, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    positive = dataset.classes.index(str(dataset.settings.data.positive))
    weight = None if dataset.weights is None else dataset.weights[dataset.holdout]
    return y_pred[:, positive], dataset.y[dataset.holdout] == positive, weight
