"""Measure how an experiment is judged that is looked at each day: wrong decisions, and days until a right one.

    make simulate-experiment                                # tables, and build/experiment_simulation.json
    python -m dev.simulate_experiment --trials 300          # a quick look
    python -m dev.simulate_experiment --document            # put tables and figure into docs/decisions/0008-experiments.md

Each trial is an experiment of DAYS days, judged at the end of each by the code that judges production, beside a t-test on the same sums.
"""

import argparse
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dev.simulation import document
from pipeline.artifacts import BUILD, ROOT, write_json, write_text
from pipeline.errors import edge
from pipeline.experiments.looks import looks_of
from pipeline.experiments.sample_ratio import LEVEL, sample_ratio
from pipeline.experiments.welch import ALPHA
from serving.experiment.count.records import Arm, Day, Difference

DAYS = 28
RAMP = (0.01, 0.1, 0.5)  # shares, for a third of the days each
DOCUMENT = ROOT / "docs" / "decisions" / "0008-experiments.md"
FIGURE = DOCUMENT.with_name("0008-experiments-days.svg")


@dataclass(frozen=True)
class World:
    """What is true: of the subjects of a day (both variants together), what their outcomes are, and what they are with B.

    `kind`: `binary`, a share of yes and no; `skewed`, log-normal with `sigma`; `unlike`, that with B and normal with A; `spent`, zero for 19 in 20 and else log-normal;
    `returning`, the subjects of the first day come again each day, each with a share of its own; `shadow`, both models answer each subject,
    and `mean` and `mean_b` are the shares in which A alone and B alone is right.
    """

    table: str
    label: str
    per_day: int
    kind: str = "binary"
    mean: float = 0.1
    mean_b: float = 0.1
    share: float = 0.5
    sigma: float = 1.0
    trend: float = 0.0  # by how much the mean grows until the last day, whichever model answers
    ramp: bool = False
    phases: bool = True  # whether a phase is counted alone

    def draw(self, rng: np.random.Generator, subjects: int, mean: float, in_b: bool) -> np.ndarray:
        """One number for each subject of a variant, (n,)."""
        if self.kind == "unlike" and not in_b:
            return rng.normal(mean, mean / 2, subjects)
        if self.kind == "binary":
            return (rng.random(subjects) < mean).astype(float)
        values = mean * rng.lognormal(-(self.sigma**2) / 2, self.sigma, subjects)
        return values if self.kind in ("skewed", "unlike") else 20 * values * (rng.random(subjects) < 0.05)


@dataclass(frozen=True)
class Cell:
    """Shares of the trials, and the day of a decision: median, and within which 80 % decide; infinite for more than DAYS."""

    table: str
    label: str
    trials: int
    better: float  # the sequence decided for B, on any day
    worse: float  # for A
    daily: float  # a t-test had p < 0.05 on any day
    last: float  # on the last day
    middle: float
    late: float


@dataclass(frozen=True)
class Ratio:
    """Shares of the trials in which the test of the sample ratio alarmed: on any of so many days."""

    label: str
    trials: int
    found: dict[int, float]


NOTHING = (
    World("nothing", "10 % yes, 1,000 a day and variant", 2000),
    World("nothing", "10 % yes, 100 a day and variant", 200),
    World("nothing", "1 % yes, 1,000 a day and variant", 2000, mean=0.01, mean_b=0.01),
    World("nothing", "1 % yes, 100 a day and variant", 200, mean=0.01, mean_b=0.01),
    World("nothing", "10 % yes, 900 and 100 a day", 1000, share=0.1),
    World("nothing", "1 % yes, 1,980 and 20 a day", 2000, mean=0.01, mean_b=0.01, share=0.01),
    World("nothing", "log-normal, σ = 1, 100 a day and variant", 200, kind="skewed"),
    World("nothing", "log-normal, σ = 1, 900 and 100 a day", 1000, kind="skewed", share=0.1),
    World("nothing", "log-normal, σ = 2, 100 a day and variant", 200, kind="skewed", sigma=2),
    World("nothing", "log-normal, σ = 2, 900 and 100 a day", 1000, kind="skewed", sigma=2, share=0.1),
    World("nothing", "5 % spend, log-normal, 1,000 a day and variant", 2000, kind="spent"),
    World("nothing", "5 % spend, log-normal, 900 and 100 a day", 1000, kind="spent", share=0.1),
    World("nothing", "10 % yes, 100 and 900 a day", 1000, share=0.9),
    World("nothing", "0.5 % yes, 1,800 and 200 a day", 2000, mean=0.005, mean_b=0.005, share=0.1),
    World("nothing", "log-normal, σ = 1.5, 400 and 100 a day", 500, kind="skewed", sigma=1.5, share=0.2),
    World("nothing", "normal with A, 900 a day; log-normal with B, σ = 1, 100 a day", 1000, kind="unlike", share=0.1),
    World("nothing", "the same, σ = 1.5", 1000, kind="unlike", sigma=1.5, share=0.1),
    World("nothing", "the same 2,000 subjects each day", 2000, kind="returning"),
    World(
        "nothing",
        "in the shadow, 1,000 a day, 5 % with one model right alone",
        1000,
        kind="shadow",
        mean=0.025,
        mean_b=0.025,
    ),
    World("nothing", "weeks at 1 %, 10 %, 50 %; 10 → 14 % yes in time", 2000, ramp=True, trend=0.04),
    World("nothing", "the same, all shares counted together", 2000, ramp=True, trend=0.04, phases=False),
)
DIFFERENT = (
    World("different", "10 → 11 %, 1,000 a day and variant", 2000, mean_b=0.11),
    World("different", "10 → 12 %, 1,000 a day and variant", 2000, mean_b=0.12),
    World("different", "10 → 12 %, 1,800 and 200 a day", 2000, mean_b=0.12, share=0.1),
    World(
        "different", "in the shadow, 1,000 a day, right alone A 2 %, B 3 %", 1000, kind="shadow", mean=0.02, mean_b=0.03
    ),
    World("different", "80 → 85 %, 100 a day and variant", 200, mean=0.8, mean_b=0.85),
    World("different", "log-normal, σ = 1, + 10 %, 100 a day and variant", 200, kind="skewed", mean_b=0.11),
)
RATIOS = (  # the share that is set, the one that is found, and subjects a day
    *((*pair, per_day) for pair in ((0.5, 0.5), (0.5, 0.495), (0.5, 0.49), (0.5, 0.48), (0.1, 0.1), (0.1, 0.095)) for per_day in (2000, 20_000)),
    (0.01, 0.01, 20),
    (0.01, 0.01, 100),
    (0.01, 0.005, 2000),
)  # fmt: skip
LOOKED = (1, 7, 28)


def _rng(*what: object) -> np.random.Generator:
    """The same numbers for the same cell, whichever others are measured."""
    return np.random.default_rng(zlib.crc32(repr(what).encode()))


# --- one experiment ---


def experiment(rng: np.random.Generator, world: World) -> list[list[Day]]:
    """The cumulative sums of each day, as they are counted in the log: a list for each phase."""
    if world.kind == "returning":
        return [_returning(rng, world)]
    if world.kind == "shadow":
        return [_in_shadow(rng, world)]
    shares = [RAMP[day * len(RAMP) // DAYS] if world.ramp else world.share for day in range(DAYS)]
    sums = np.zeros((DAYS, 2, 3))  # how many, sum, sum of squares, of A and B on each day
    for day, share in enumerate(shares):
        grown = world.trend * day / (DAYS - 1)
        in_b = rng.binomial(world.per_day, share)
        for arm, (subjects, mean) in enumerate(((world.per_day - in_b, world.mean), (in_b, world.mean_b))):
            values = world.draw(rng, subjects, mean + grown, in_b=bool(arm))
            sums[day, arm] = subjects, values.sum(), np.square(values).sum()
    starts = [day for day in range(DAYS) if day == 0 or (world.phases and shares[day] != shares[day - 1])]
    ends = [*starts[1:], DAYS]
    return [_cumulative(sums[start:end].cumsum(axis=0)) for start, end in zip(starts, ends, strict=True)]


def _returning(rng: np.random.Generator, world: World) -> list[Day]:
    """Each subject has a share of yes of its own (Beta), and its mean over all its days is counted."""
    chance = rng.beta(10 * world.mean, 10 * (1 - world.mean), world.per_day)
    hits = (rng.random((DAYS, world.per_day)) < chance).cumsum(axis=0) / np.arange(1, DAYS + 1)[:, None]
    in_b = rng.random(world.per_day) < world.share
    sums = [[(len(part), part.sum(), np.square(part).sum()) for part in (day[~in_b], day[in_b])] for day in hits]
    return _cumulative(np.array(sums))


def _in_shadow(rng: np.random.Generator, world: World) -> list[Day]:
    """Differences of each subject: 1 where B alone is right, -1 where A alone is, else 0."""
    chances = [world.mean_b, world.mean, 1 - world.mean - world.mean_b]
    found = []
    for number, (b, a, same) in enumerate(rng.multinomial(world.per_day, chances, DAYS).cumsum(axis=0), 1):
        n = int(a + b + same)
        mean = float(b - a) / n
        arm, squares = Arm(subjects=n, measured=n), float(a + b) - n * mean * mean
        found.append(
            Day(
                day=str(number),
                number=number,
                a=arm,
                b=arm,
                difference=Difference(measured=n, mean=mean, squares=squares),
            )
        )
    return found


def _cumulative(sums: np.ndarray) -> list[Day]:
    found = []
    for number, (a, b) in enumerate(sums, 1):
        found.append(Day(day=str(number), number=number, a=_arm(*a), b=_arm(*b)))
    return found


def _arm(count: float, total: float, squares: float) -> Arm:
    if not count:
        return Arm()
    mean = total / count
    return Arm(subjects=int(count), measured=int(count), mean=mean, squares=max(squares - count * mean * mean, 0.0))


def decide(phases: Sequence[list[Day]], share: float) -> tuple[float, int, bool, bool]:
    """The day on which the sequence decided (infinite for none), for whom (1 B, -1 A), and whether a t-test did on any day, on the last."""
    before, tests = 0, []
    decided, whom = np.inf, 0
    for days in phases:
        looks, intervals = looks_of(days, "ab", share)
        tests += [look.p_value is not None and look.p_value < ALPHA for look in looks]
        for place, found in enumerate(intervals):
            if found and found.decided and not whom:
                decided, whom = before + place + 1, 1 if found.low > 0 else -1
        before += len(days)
    return decided, whom, any(tests), tests[-1]


def measure(world: World, trials: int) -> Cell:
    """One cell."""
    rng = _rng(world.table, world.label)
    found = [decide(experiment(rng, world), world.share) for _ in range(trials)]
    days, whom, daily, last = (np.array(column) for column in zip(*found, strict=True))
    middle, late = (float(np.quantile(days, q, method="higher")) for q in (0.5, 0.8))
    return Cell(
        world.table, world.label, trials, better=float((whom > 0).mean()), worse=float((whom < 0).mean()),
        daily=float(daily.mean()), last=float(last.mean()), middle=middle, late=late,
    )  # fmt: skip


def measure_ratio(share: float, really: float, per_day: int, trials: int) -> Ratio:
    """Whether the test of the sample ratio alarms on any of the first days."""
    rng = _rng(share, really, per_day)
    in_b = rng.binomial(per_day, really, (trials, DAYS)).cumsum(axis=1)
    alarms = np.zeros((trials, DAYS), dtype=bool)
    for day in range(DAYS):
        total = per_day * (day + 1)
        # A number of subjects decides: judge each one that occurred once.
        known = {int(b): _mismatch(total - int(b), int(b), share) for b in np.unique(in_b[:, day])}
        alarms[:, day] = [known[int(b)] for b in in_b[:, day]]
    label = f"{100 * share:g} % set, {100 * really:g} % found, {per_day:,} subjects a day"
    return Ratio(label, trials, {day: float(alarms[:, :day].any(axis=1).mean()) for day in LOOKED})


def _mismatch(a: int, b: int, share: float) -> bool:
    found = sample_ratio(a, b, share)
    return found is not None and found.mismatch


def run(trials: int, processes: int) -> tuple[list[Cell], list[Ratio]]:
    """Measure every cell, with a bar that shows how far it is."""
    from rich.console import Console
    from rich.progress import track

    worlds = (*NOTHING, *DIFFERENT)
    with ProcessPoolExecutor(processes) as pool:
        results = pool.map(measure, worlds, [trials] * len(worlds))
        cells = list(track(results, "simulating", total=len(worlds), console=Console(stderr=True)))
    ratios = [measure_ratio(*one, 5 * trials) for one in RATIOS]
    return cells, ratios


# --- tables and figure ---


def tables(cells: Sequence[Cell], ratios: Sequence[Ratio]) -> dict[str, str]:
    """Every table by its place in the document."""
    wrong = [
        "| no difference | the sequence, each day | t-test, each day | t-test, on the last day |",
        "|---|---:|---:|---:|",
    ]
    wrong += [
        f"| {cell.label} | {_percent(cell.better + cell.worse)} | {_percent(cell.daily)} | {_percent(cell.last)} |"
        for cell in cells
        if cell.table == "nothing"
    ]
    right = [
        "| difference | decided for B in 28 days | day: median | 80 % by day | decided for A | t-test, on the last day |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    right += [
        f"| {cell.label} | {_percent(cell.better)} | {_day(cell.middle)} | {_day(cell.late)} | {_percent(cell.worse)} | {_percent(cell.last)} |"
        for cell in cells
        if cell.table == "different"
    ]
    ratio = ["| subjects of B | on day 1 | in 7 days | in 28 days |", "|---|---:|---:|---:|"]
    ratio += [f"| {one.label} | {' | '.join(_percent(share) for share in one.found.values())} |" for one in ratios]
    return {name: "\n".join(lines) for name, lines in (("nothing", wrong), ("different", right), ("ratio", ratio))}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _day(day: float) -> str:
    return "–" if np.isinf(day) else f"{day:.0f}"


def draw(path: Path) -> None:
    """One experiment without a difference: the difference day by day, within the sequence and within the t-test's interval."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "slipway"  # the same figures give the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
    for panel, world, title in (
        (panels[0], _misled(), "10 % yes with both models"),
        (panels[1], experiment(_rng("figure"), DIFFERENT[1])[0], "10 % yes with A, 12 % with B"),
    ):
        looks, _ = looks_of(world, "ab", 0.5)
        days = [look.number for look in looks]
        for low, high, color, label in (
            ("low", "high", "#cfe2f3", "confidence sequence"),
            ("fixed_low", "fixed_high", "#7fb3d5", "interval for one look"),
        ):
            lower, upper = ([100 * getattr(look, name) for look in looks] for name in (low, high))
            panel.fill_between(days, lower, upper, color=color, label=label, linewidth=0)
        panel.plot(days, [100 * (look.difference or 0) for look in looks], color="#1b4f72", label="B − A")
        panel.axhline(0, color="#333333", linewidth=0.8)
        panel.set(title=title, xlabel="day", ylim=(-6, 6))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("B − A, percentage points")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _misled() -> list[Day]:
    """The first experiment without a difference in which a t-test alarms between the fourth and the last day, and the sequence does not."""
    rng = _rng("misled")
    while True:
        days = experiment(rng, NOTHING[0])[0]
        looks, intervals = looks_of(days, "ab", 0.5)
        if any((look.p_value or 1) < ALPHA for look in looks[4:]) and not any(one and one.decided for one in intervals):
            return days


@edge
def main(argv: list[str] | None = None) -> None:
    """Measure, and show or write down what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000, help="experiments per cell (default 4000)")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2)
    parser.add_argument("--json", type=Path, default=BUILD / "experiment_simulation.json", help="where the figures go")
    parser.add_argument("--document", action="store_true", help="put tables and figure into docs/decisions")
    options = parser.parse_args(argv)

    cells, ratios = run(options.trials, options.processes)
    parts = tables(cells, ratios)
    for name, part in parts.items():
        print(f"\n{name}\n{part}")
    print(f"\nsample ratio: p < {LEVEL:g}")
    write_json(options.json, [asdict(cell) | {"middle": str(cell.middle), "late": str(cell.late)} for cell in cells])
    if options.document:
        write_text(DOCUMENT, document(DOCUMENT.read_text(encoding="utf-8"), parts))
        draw(FIGURE)


if __name__ == "__main__":
    sys.exit(main())
