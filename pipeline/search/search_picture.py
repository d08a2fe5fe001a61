"""The picture of a search: what each trial scored and the best so far, and the score against each parameter."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.figures import BLUE, DPI, QUIET, VERMILION, layout, plain, styled
from pipeline.evaluation.record import Search, SearchTrial
from pipeline.evaluation.wording import in_words

MOST_PANELS = 6  # parameters that are shown
PER_ROW = 3
OUTLIERS = 3.0  # scores further from the best than so many times the middle one would press all others together


@styled
def draw(search: Search) -> Figure:
    """A wide panel of all trials, and below it a panel for each of the first six parameters; the winner is ringed."""
    scored = [one for one in search.trials if one.mean is not None]
    names = list(search.trials[0].parameters)[:MOST_PANELS]
    rows = -(-len(names) // PER_ROW)
    figure = Figure(figsize=(8.6, 3.0 + 2.4 * rows), dpi=DPI, layout=layout())
    figure.suptitle("Search for parameters", x=0.01, ha="left")
    columns = min(PER_ROW, len(names))
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.25] + [1.0] * rows)
    limits = _limits(_means(scored), search.higher_is_better)
    above = figure.add_subplot(grid[0, :])
    above.set_ylim(*limits)
    _trials(above, search, scored)
    for place, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + place // PER_ROW, place % PER_ROW], sharey=above)
        _parameter(axes, search, scored, name)
        if place % PER_ROW == 0:
            axes.set_ylabel(in_words(search.metric))
    return figure


def _means(trials: list[SearchTrial]) -> np.ndarray:
    return np.array([one.mean for one in trials], dtype=np.float64)


def _limits(means: np.ndarray, higher_is_better: bool) -> tuple[float, float]:
    """The range of the scores, without those that are far worse than the others."""
    best = means.max() if higher_is_better else means.min()
    reach = min(np.abs(means - best).max(), OUTLIERS * np.median(np.abs(means - best))) or abs(best) * 0.05 or 1.0
    worst = best - reach if higher_is_better else best + reach
    air = 0.08 * reach
    return min(best, worst) - air, max(best, worst) + air


def _trials(axes: Axes, search: Search, scored: list[SearchTrial]) -> None:
    numbers = [one.number for one in scored]
    means = _means(scored)
    axes.errorbar(
        numbers, means, [one.deviation or 0.0 for one in scored], fmt="none", ecolor="#D1D5DB", elinewidth=1, zorder=1
    )
    axes.plot(numbers, means, "o", color=BLUE, markersize=4.5, label="trial ± sd over the folds")
    low, high = axes.get_ylim()
    beyond = [(one, mean > high) for one, mean in zip(numbers, means, strict=True) if not low <= mean <= high]
    if beyond:
        axes.plot(
            [one for one, _ in beyond], [0.97 if up else 0.03 for _, up in beyond], "^" if beyond[0][1] else "v",
            color=BLUE, markerfacecolor="none", transform=axes.get_xaxis_transform(), label="beyond the axis",
        )  # fmt: skip
    so_far = np.maximum.accumulate(means) if search.higher_is_better else np.minimum.accumulate(means)
    axes.step(numbers, so_far, where="post", color=VERMILION, linewidth=1.6, label="best so far")
    if failed := [one.number for one in search.trials if one.mean is None]:
        axes.plot(failed, [0.03] * len(failed), "x", color=QUIET, transform=axes.get_xaxis_transform(), label="failed")
    _ring(axes, search, scored, {one.number: one.number for one in scored})
    axes.set(xlabel="trial" + (", 0: as in pipeline.toml" if 0 in numbers else ""), ylabel=in_words(search.metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.2, handletextpad=0.4)
    axes.grid(True, axis="y")


def _parameter(axes: Axes, search: Search, scored: list[SearchTrial], name: str) -> None:
    """The score against one parameter: numbers on an axis, logarithmic where they span orders of magnitude, choices side by side."""
    values = [one.parameters[name] for one in scored]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        places = {one.number: one.parameters[name] for one in scored}
        if min(values) > 0 and max(values) / min(values) > 30:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        choices = sorted({str(value) for value in values})
        places = {one.number: choices.index(str(one.parameters[name])) for one in scored}
        axes.set_xticks(
            range(len(choices)), [plain(each, 12) for each in choices], rotation=20 if len(choices) > 3 else 0
        )
        axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.plot(list(places.values()), _means(scored), "o", color=BLUE, markersize=4, alpha=0.7)
    _ring(axes, search, scored, places)
    axes.set_xlabel(plain(name))
    axes.grid(True)


def _ring(axes: Axes, search: Search, scored: list[SearchTrial], places: dict) -> None:
    winner = next(one for one in scored if one.number == search.winner)
    axes.plot(
        [places[winner.number]], _means([winner]), "o", markersize=10, markerfacecolor="none", color=VERMILION, markeredgewidth=1.8
    )  # fmt: skip
