"""The picture of an experiment: the difference and its confidence sequence by day; a function from data to a matplotlib Figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.figures import BLUE, DPI, MONTHS, QUIET, VERMILION, layout, plain, styled
from pipeline.evaluation.wording import known
from pipeline.experiments.judgement import Judgement, Look
from pipeline.registry.experiments import Phase

WIDTH = 8.1  # inches: as wide as the page
BAND = "#BFDBF0"
EARLIER = "#F1F2F4"
WIDEST = 4.0  # times the last band: the first days' bands are wider, and would flatten all the others
LABEL = 0.14  # of all days: what the name of a share takes
MANY_DAYS = 60  # beyond, each has no room for a marker


@dataclass(frozen=True)
class Axis:
    """The days from the first to the last, each with a place."""

    first: date
    last: date

    def place(self, day: date) -> int:
        return (day - self.first).days

    @property
    def days(self) -> int:
        return self.place(self.last) + 1


def figures_for(judged: Judgement, phases: Sequence[Phase]) -> dict[str, Figure]:
    """Every figure that there is something to show in, by name."""
    looks = [look for look in judged.looks if known(look.difference) and known(look.low) and known(look.high)]
    shown = looks and judged.verdict != "sample ratio mismatch"
    return {"difference": difference(judged, looks, phases)} if shown else {}


@styled
def difference(judged: Judgement, looks: Sequence[Look], phases: Sequence[Phase]) -> Figure:
    """B - A by day with its confidence sequence and a line at zero; below, how many subjects it rests on. Earlier phases are grey."""
    first = min([_day(looks[0].day), *(_utc(phase.since) for phase in phases)])
    axis = Axis(first, _day(judged.looks[-1].day))
    figure = Figure(figsize=(WIDTH, 4.9), dpi=DPI, layout=layout())
    figure.suptitle(plain(f"Difference, B − A: {judged.measure}", 80), x=0.02, ha="left")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    places = [axis.place(_day(look.day)) for look in looks]
    _band(above, looks, places)
    _subjects(below, judged, axis)
    for axes in (above, below):
        _phases(axes, axis, phases, named=axes is above)
        if judged.stopped:
            _stop(axes, axis.place(_utc(judged.stopped)), named=axes is above)
    _days(below, axis)
    return figure


def _band(axes: Axes, looks: Sequence[Look], places: Sequence[int]) -> None:
    low, high, middle = (
        np.array([getattr(look, name) for look in looks], float) for name in ("low", "high", "difference")
    )
    # A band of one day has no width: half a day on both sides makes it one.
    wide = [places[0] - 0.3, *places, places[-1] + 0.3]
    axes.fill_between(wide, [low[0], *low, low[-1]], [high[0], *high, high[-1]], color=BAND, linewidth=0,
                      label="95 %, on all days at once")  # fmt: skip
    marker = "o" if len(places) <= MANY_DAYS else ""
    axes.plot(places, middle, color=BLUE, marker=marker, markersize=4, linewidth=1.8, label="difference")
    axes.axhline(0, color="#111827", linewidth=1.2, linestyle=(0, (4, 2)), label="no difference")
    reach = WIDEST * max(high[-1] - low[-1], 1e-12) / 2
    bottom, top = max(low.min(), min(middle.min(), middle[-1] - reach)), min(high.max(), max(middle.max(), middle[-1] + reach))  # fmt: skip
    bottom, top = min(bottom, 0), max(top, 0)
    air = 0.06 * (top - bottom)
    axes.set_ylim(bottom - air, top + air)
    axes.set_ylabel("B − A")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.4g}".replace("-", "−") if value else "0")
    axes.grid(True, axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02))


def _subjects(axes: Axes, judged: Judgement, axis: Axis) -> None:
    places = [axis.place(_day(look.day)) for look in judged.looks]
    marker = len(places) <= MANY_DAYS
    if judged.mode == "shadow":
        axes.plot(places, [look.measured_a for look in judged.looks], color=QUIET, marker="o" * marker, markersize=3.5)
    else:
        for letter, colour, dash, shape in (("A", QUIET, "--", "s"), ("B", VERMILION, "-", "o")):
            counts = [look.measured_a if letter == "A" else look.measured_b for look in judged.looks]
            axes.plot(places, counts, color=colour, linestyle=dash, marker=shape * marker, markersize=3.5, label=letter)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.1))
    axes.set_ylabel("subjects with\noutcomes")
    axes.set_ylim(0, 1.12 * max(1, *(max(look.measured_a, look.measured_b) for look in judged.looks)))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(True, axis="y")


def _phases(axes: Axes, axis: Axis, phases: Sequence[Phase], named: bool) -> None:
    """A line where the share changed; what was before the last one is grey, for it is not counted."""
    starts = [axis.place(_utc(phase.since)) for phase in phases]
    if len(starts) < 2:
        return
    axes.axvspan(starts[0] - 0.5, starts[-1] - 0.5, color=EARLIER, zorder=0)
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="#374151", linewidth=1.2, linestyle=(0, (1, 2)))
    for number, (start, phase) in enumerate(zip(starts, phases, strict=True)):
        last = number + 1 == len(starts)  # has room beside the picture; another one must not stand over the next
        if named and (last or starts[number + 1] - start > LABEL * axis.days):
            _label(axes, start - 0.5, f"{100 * phase.share:.4g} % to B")


def _stop(axes: Axes, place: int, named: bool) -> None:
    axes.axvline(place + 0.3, color=VERMILION, linewidth=1.5)
    if named:
        _label(axes, place + 0.3, "stopped itself", VERMILION, right=True)


def _label(axes: Axes, place: float, text: str, colour: str = "#374151", right: bool = False) -> None:
    axes.annotate(text, (place, 1), xycoords=("data", "axes fraction"), xytext=(-2 if right else 2, 3), textcoords="offset points",
                  size=8.5, color=colour, ha="right" if right else "left")  # fmt: skip


def _days(axes: Axes, axis: Axis) -> None:
    """Name some of the days, the last among them."""
    step = -(-axis.days // 9)
    places = list(range(axis.days - 1, -1, -step)[::-1])
    days = [date.fromordinal(axis.first.toordinal() + place) for place in places]
    axes.set_xticks(places, [f"{MONTHS[day.month - 1]} {day.day}" for day in days])
    axes.set_xlim(-0.6, axis.days - 0.4)
    axes.set_xlabel(f"day (UTC), {axis.first} to {axis.last}" if axis.days > 1 else f"day (UTC), {axis.first}")


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _utc(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()
