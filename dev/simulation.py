"""Simulation of chains of retrainings with the gate's own code, and the document that it is written into."""

import math
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pipeline.artifacts import ROOT
from pipeline.evaluation.gate import Evidence, Policy, Rules, compare, compare_slices, decide
from pipeline.evaluation.metrics import Metric, metrics_for

POPULATION = 1_000_000
SIZES = (50, 100, 200, 500, 1000, 5000)
CONFIDENCE = 0.95
MARGIN = 0.01  # for power; for the error rates the margin is the true difference itself
RESAMPLES = 200  # the gate's 2000 sharpen the bounds by less than 1 %
POLICIES = get_args(Policy)
# How often the gate may be wrong; with slices, once in twenty overall and once in twenty on any of them.
PROMISED = {"worse": 0.05, "equal": 0.05, "equal, 3 slices": 0.1, "better": 1.0}
REPEATED = (
    "worse, repeated",
    "equal, repeated",
)  # each row 2 to 10 times; "…, copies as rows" is a gate that does not notice
COPIES_AS_ROWS = "worse, repeated, copies as rows"
LARGEST_REPEATED = 1000
PROMISED |= dict.fromkeys((*REPEATED, COPIES_AS_ROWS), 0.05)
GROUPED = ("worse, grouped", "equal, grouped")  # rows come in groups of 1 to 10 that are alike in what is measured
GROUPS_AS_ROWS = "worse, grouped, groups as rows"  # a gate that does not know of the groups
WEIGHTED = ("worse, weighted", "equal, weighted")  # each row has a weight, log-normal
LARGEST_GROUPED = 200  # groups in the hold-out
LARGEST_GROUP = 10  # rows
PROMISED |= dict.fromkeys((*GROUPED, GROUPS_AS_ROWS, *WEIGHTED), 0.05)
DOCUMENT = ROOT / "docs" / "decisions" / "0001-gate.md"
FIGURE = DOCUMENT.with_name("0001-gate-power.svg")
Models = tuple[np.ndarray, np.ndarray, np.ndarray]  # y, candidate, production


@dataclass(frozen=True)
class World:
    """A kind of data with two models: `draw(rng, rows, noise of the candidate)` gives y and their answers."""

    task: str
    draw: Callable[[np.random.Generator, int, float], Models]
    worse: float  # noise of a candidate that is worse; production's is `equal`
    equal: float
    better: tuple[float, ...] = ()


def _answers(rng, signal: np.ndarray, candidate: float, production: float) -> list[np.ndarray]:
    """The signal as two models see it: with noise of a size of their own, 70 % of its variance shared."""
    shared = rng.normal(size=signal.shape)
    return [
        signal + size * (math.sqrt(0.7) * shared + math.sqrt(0.3) * rng.normal(size=signal.shape))
        for size in (candidate, production)
    ]


def _probabilities(logit: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-logit))
    return np.column_stack([1 - positive, positive])


def binary(rng, rows: int, noise: float) -> Models:
    """Half positive, ROC AUC about 0.83."""
    logit = rng.normal(0, 2, rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    candidate, production = _answers(rng, logit, noise, 0.9)
    return y, _probabilities(candidate), _probabilities(production)


def rare(rng, rows: int, noise: float) -> Models:
    """One row in seventeen is positive."""
    logit = rng.normal(-4, 2, rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    candidate, production = _answers(rng, logit, noise, 0.9)
    return y, _probabilities(candidate), _probabilities(production)


def separable(rng, rows: int, noise: float) -> Models:
    """Nearly separable with 1 % wrong labels: ROC AUC about 0.98, and a few, large losses."""
    logit = rng.normal(0, 8, rows)
    y = (logit > 0) ^ (rng.random(rows) < 0.01)
    candidate, production = _answers(rng, logit, noise, 1.5)
    return y.astype(int), _probabilities(0.6 * candidate), _probabilities(0.6 * production)


def three_classes(rng, rows: int, noise: float) -> Models:
    """Three classes of equal size, accuracy about 0.7."""
    logits = rng.normal(0, 2, (rows, 3))
    y = (logits + rng.gumbel(size=(rows, 3))).argmax(axis=1)
    shares = [np.exp(one - one.max(axis=1, keepdims=True)) for one in _answers(rng, logits, noise, 0.9)]
    candidate, production = (share / share.sum(axis=1, keepdims=True) for share in shares)
    return y, candidate, production


def regression(rng, rows: int, noise: float) -> Models:
    """A standard normal signal, and errors with heavy tails (Student's t with 5 degrees of freedom)."""
    signal = rng.normal(size=rows)
    y = signal + 0.5 * rng.standard_t(5, rows)
    candidate, production = _answers(rng, signal, noise, 0.5)
    return y, candidate, production


WORLDS = {
    "binary": World("binary", binary, 1.1, 0.9, (0.8, 0.7, 0.5)),
    "binary, 6 % positive": World("binary", rare, 1.2, 0.9),
    "binary, nearly separable": World("binary", separable, 2.2, 1.5),
    "three classes": World("multiclass", three_classes, 1.1, 0.9, (0.8, 0.7, 0.5)),
    "regression": World("regression", regression, 0.6, 0.5, (0.47, 0.44, 0.4)),
}
# What is measured where; the first metric of a task is its default, and the one whose power is measured.
MEASURED = {
    "binary": ("log_loss", "roc_auc", "accuracy"),
    "binary, 6 % positive": ("log_loss", "roc_auc", "pr_auc", "f1"),
    "binary, nearly separable": ("log_loss", "roc_auc", "accuracy"),
    "three classes": ("log_loss", "accuracy"),
    "regression": ("mae", "rmse"),
}


@dataclass(frozen=True)
class Cell:
    """One situation at one size of the hold-out: what each policy decided, in shares of the trials."""

    world: str
    metric: str
    situation: str  # "worse" by the margin, "equal", "equal, 3 slices", "better", or one of those above
    gain: float  # the candidate's true one: below 0 is worse
    rows: int  # distinct ones, or groups
    trials: int
    accepted: dict[str, float]
    refused: dict[str, float]


@lru_cache(maxsize=2)
def population(world: str, noise: float) -> Models:
    """A million rows; the same every time."""
    return WORLDS[world].draw(np.random.default_rng(0), POPULATION, noise)


@lru_cache(maxsize=8)
def true_gain(world: str, noise: float, metric: Metric, weighted: bool = False) -> float:
    """What the candidate gains over production on the whole population: above 0 is better."""
    y, candidate, production = population(world, noise)
    weights = row_weights() if weighted else None
    difference = metric.value(y, candidate, weights) - metric.value(y, production, weights)
    return difference if metric.higher_is_better else -difference


@lru_cache(maxsize=1)
def row_weights() -> np.ndarray:
    """What each row of a population counts: its logarithm is standard normal, so that a sample is worth a third of its rows."""
    return np.exp(np.random.default_rng(2).normal(size=POPULATION))


@lru_cache(maxsize=1)
def grouped(world: str, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a population in the order of its groups, and where each group begins (with the end of the last).

    Rows are sorted by how far apart the two models are on them, plus as much noise, and cut into groups of 1 to 10 rows: rows of
    one group are alike in what the gate measures, and the population as a whole is what it was.
    """
    models, rng = population(world, noise), np.random.default_rng(1)
    metric = measured(world)[MEASURED[world][0]]
    y, candidate, production = models
    gap = metric.per_row(y, candidate) - metric.per_row(y, production)  # type: ignore[misc]  # a loss has one
    order = np.argsort(np.argsort(np.argsort(gap)) / POPULATION + 0.3 * rng.normal(size=POPULATION))
    ends = rng.integers(1, LARGEST_GROUP + 1, POPULATION).cumsum()
    return order, np.concatenate([[0], ends[ends < POPULATION], [POPULATION]])


def in_groups(rng: np.random.Generator, world: str, noise: float, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """So many groups of a population, drawn at random: their rows, and the number of the group of each."""
    order, begins = grouped(world, noise)
    chosen = rng.integers(0, len(begins) - 1, groups)
    parts = [order[begins[one] : begins[one + 1]] for one in chosen]
    return np.concatenate(parts), np.repeat(np.arange(groups), [len(part) for part in parts])


@lru_cache
def measured(world: str) -> dict[str, Metric]:
    """The metrics of a world's task."""
    return metrics_for(WORLDS[world].task, positive=1)


def gather(metric: Metric, models: Models, seed: int, thirds: bool = False, **whole: np.ndarray | None) -> Evidence:
    """What the gate sees of one hold-out; with `thirds`, its thirds are slices to be judged as well. `whole`: repeats, subjects, weights."""
    y, candidate, production = models
    how: dict[str, Any] = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": seed, **whole}
    third = np.arange(len(y)) % 3
    masks = [(f"third {number}", third == number) for number in range(3)] if thirds else []
    return Evidence(
        value=metric.value(y, candidate, whole.get("weights")),
        first=False,
        comparison=compare(metric, y, candidate, production, **how),
        slices=compare_slices(metric, y, candidate, production, masks, minimum_rows=10, **how),
    )


def copies(rng: np.random.Generator, rows: int) -> np.ndarray:
    """So many distinct rows, each 2 to 10 times at random: the number of the distinct row, for every row."""
    return np.repeat(np.arange(rows), rng.integers(2, 11, rows))


def measure(world: str, metric_name: str, situation: str, noise: float, rows: int, trials: int) -> Cell:
    """Run one cell. Of two equal models each is the candidate in half of the trials, so that they are equal exactly."""
    models = population(world, noise)
    metric = measured(world)[metric_name]
    equal = situation.startswith("equal")
    gained = 0.0 if equal else true_gain(world, noise, metric, "weighted" in situation)
    margin = -gained if situation.startswith("worse") else MARGIN
    rules = [Rules(metric_name, metric.higher_is_better, policy, margin, CONFIDENCE) for policy in POLICIES]
    rng = np.random.default_rng(rows)
    accepted, refused = (dict.fromkeys(POLICIES, 0) for _ in range(2))
    for trial in range(trials):
        drawn, whole = rng.integers(0, POPULATION, rows), {}
        if "repeated" in situation:
            whole["repeats"] = copies(rng, rows)
            drawn = drawn[whole["repeats"]]
        elif "grouped" in situation:
            drawn, whole["subjects"] = in_groups(rng, world, noise, rows)
        elif "weighted" in situation:
            whole["weights"] = row_weights()[drawn]
        noticed = {} if " as rows" in situation else whole
        y, candidate, production = (part[drawn] for part in models)
        pair = (production, candidate) if equal and trial % 2 else (candidate, production)
        evidence = gather(metric, (y, *pair), seed=trial, thirds="slices" in situation, **noticed)
        for rule in rules:
            verdict = decide(evidence, rule).verdict
            accepted[rule.policy] += verdict == "accept"
            refused[rule.policy] += verdict == "refuse"
    shares = ({policy: count / trials for policy, count in one.items()} for one in (accepted, refused))
    return Cell(world, metric_name, situation, gained, rows, trials, *shares)


def plan(trials: int, sizes: tuple[int, ...]) -> list[tuple]:
    """Every cell to be measured, as arguments of `measure`; those of one population follow each other.

    Above 1000 rows a third of the trials: these cells take most of the time and hold no surprise. Repeated rows: the same, and
    no cell above 1000 rows.
    """
    cells = []
    for name, world in WORLDS.items():
        first = MEASURED[name][0]
        situations = [(metric, "worse", world.worse) for metric in MEASURED[name]]
        situations += [(first, "better", noise) for noise in world.better]
        situations += [(metric, "equal", world.equal) for metric in MEASURED[name]]
        situations += [(first, "equal, 3 slices", world.equal)]
        repeated = [(metric, REPEATED[0], world.worse) for metric in MEASURED[name]]
        repeated += [(metric, REPEATED[1], world.equal) for metric in MEASURED[name]]
        repeated += [(first, COPIES_AS_ROWS, world.worse)]
        cells += [
            (name, *situation, rows, trials if rows <= 1000 else max(1, trials // 3))
            for situation in situations
            for rows in sizes
        ]
        cells += [
            (name, *situation, rows, max(1, trials // 3))
            for situation in repeated
            for rows in sizes
            if rows <= LARGEST_REPEATED
        ]
        cells += _unlike_rows(name, world, max(1, trials // 3), sizes)
    return cells


def _unlike_rows(name: str, world: World, trials: int, sizes: tuple[int, ...]) -> list[tuple]:
    """The cells of groups and of weights."""
    first, noises = MEASURED[name][0], (world.worse, world.equal)
    situations = [
        (metric, situation, noise)
        for pair in (GROUPED, WEIGHTED)
        for situation, noise in zip(pair, noises, strict=True)
        for metric in MEASURED[name]
    ]
    situations += [(first, GROUPS_AS_ROWS, world.worse)]
    return [
        (name, *situation, rows, trials)
        for situation in situations
        for rows in sizes
        if rows <= (LARGEST_GROUPED if "grouped" in situation[1] else LARGEST_REPEATED)
    ]


def _measure(arguments: tuple) -> Cell:
    return measure(*arguments)


def run(trials: int, sizes: tuple[int, ...], processes: int, only: str = "") -> list[Cell]:
    """Measure every cell, or those of which the situation has this word, with a bar that shows how far it is."""
    from rich.console import Console
    from rich.progress import track

    cells = [cell for cell in plan(trials, sizes) if only in cell[2]]
    with ProcessPoolExecutor(processes) as pool:
        results = pool.map(_measure, cells)
        return list(track(results, "simulating", total=len(cells), console=Console(stderr=True)))


def standard_error(trials: int, share: float = 1 - CONFIDENCE) -> float:
    """Of a share measured by that many trials."""
    return math.sqrt(share * (1 - share) / trials)


def table(cells: list[Cell], situation: str, outcome: Literal["accepted", "refused"], policy: Policy) -> str:
    """Markdown: a line per world, metric and true gain; a column per size; percent.

    Bold: an error rate that is above what is promised by more than two standard errors.
    """
    chosen = [cell for cell in cells if cell.situation == situation]
    sizes, promised = sorted({cell.rows for cell in chosen}), PROMISED[situation]
    lines = [
        "| data | metric | true gain | " + " | ".join(f"n = {size}" for size in sizes) + " |",
        "|---|---|---:|" + "---:|" * len(sizes),
    ]
    for world, metric, gained in dict.fromkeys((cell.world, cell.metric, cell.gain) for cell in chosen):
        row = {cell.rows: cell for cell in chosen if (cell.world, cell.metric, cell.gain) == (world, metric, gained)}
        shown = [_percent(getattr(row[size], outcome)[policy], row[size].trials, promised) for size in sizes]
        lines.append(f"| {world} | {metric} | {gained:+.4f} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _percent(share: float, trials: int, promised: float) -> str:
    text = f"{100 * share:.1f}"
    return f"**{text}**" if share > promised + 2 * standard_error(trials, promised) else text


def tables(cells: list[Cell]) -> dict[str, str]:
    """Every table by its place in the document."""
    parts = {
        "not_worse": table(cells, "worse", "accepted", "not_worse"),
        "better": table(cells, "worse", "accepted", "better"),
        "superior": table(cells, "equal", "accepted", "superior"),
        "refused": table(cells, "equal", "refused", "better"),
        "slices": table(cells, "equal, 3 slices", "refused", "better"),
        "repeated": table(cells, REPEATED[0], "accepted", "not_worse"),
        "repeated-superior": table(cells, REPEATED[1], "accepted", "superior"),
        "copies-as-rows": table(cells, COPIES_AS_ROWS, "accepted", "not_worse"),
        "grouped": table(cells, GROUPED[0], "accepted", "not_worse"),
        "grouped-superior": table(cells, GROUPED[1], "accepted", "superior"),
        "groups-as-rows": table(cells, GROUPS_AS_ROWS, "accepted", "not_worse"),
        "weighted": table(cells, WEIGHTED[0], "accepted", "not_worse"),
        "weighted-superior": table(cells, WEIGHTED[1], "accepted", "superior"),
    }
    parts |= {f"power-{policy}": table(cells, "better", "accepted", policy) for policy in POLICIES}
    return {name: part for name, part in parts.items() if part.count("\n") > 1}  # those that were measured


def document(text: str, parts: dict[str, str]) -> str:
    """The document with each part between its two markers; raises ValueError when a part has not just one place."""
    for name, part in parts.items():
        before, *places = re.split(rf"(?<=<!-- measured: {re.escape(name)} -->\n)", text)
        if len(places) != 1:
            raise ValueError(f"the document must have one place for {name}")
        _, marker, after = places[0].partition("<!-- end -->")
        text = f"{before}{part}\n{marker}{after}"
    return text


def draw(cells: list[Cell], path: Path) -> None:
    """Power against the size of the hold-out: a panel per policy, a line per true gain, for log_loss of two classes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "slipway"  # the same figures give the same file
    from matplotlib import pyplot

    chosen = [cell for cell in cells if (cell.world, cell.metric) == ("binary", "log_loss")]
    chosen = [cell for cell in chosen if cell.situation in ("equal", "better")]
    gains, sizes = sorted({cell.gain for cell in chosen}), sorted({cell.rows for cell in chosen})
    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3.6), sharey=True, layout="constrained")
    for panel, policy in zip(panels, POLICIES, strict=True):
        for gained, color in zip(gains, ("#8a8a8a", "#7fb3d5", "#2e86c1", "#1b4f72"), strict=True):
            line = sorted((cell.rows, 100 * cell.accepted[policy]) for cell in chosen if cell.gain == gained)
            label = f"{gained:.3f} better" if gained else "equal"
            panel.plot(*zip(*line, strict=True), marker="o", markersize=4, color=color, label=label)
        panel.axhline(80, color="#bbbbbb", linewidth=0.8, linestyle=":")
        panel.set(xscale="log", xlabel="rows of the hold-out", title=policy, ylim=(-3, 103))
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accepted, % of trials")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], title="true log_loss", frameon=False, loc="outside right center")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
