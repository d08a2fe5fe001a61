"""Measure the monitor's detector: false alarms a year, and days until a change is found, beside the usual rules.

    make simulate-monitor                                    # tables, and build/monitor_simulation.json
    python -m dev.simulate_monitor --trials 4            # a quick look
    python -m dev.simulate_monitor --document            # put tables and figure into docs/decisions/0007-monitoring.md

Every figure of the detector comes from the code that judges production. A trial is a model with COLUMNS features for a year, or one
column that changes. Evidently is asked where its environment is there (`make .venv/evidently.ready`), and left out by name where not.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from dev import evidently_drift, public_streams
from dev.simulation import document
from pipeline.artifacts import BUILD, ROOT, write_json, write_text
from pipeline.data import drift
from pipeline.errors import edge
from pipeline.monitor import detector, distances
from pipeline.monitor.detector import Stream

SIZES = (100, 1000, 10_000)  # rows a day
REFERENCE, HOLDOUT = 10_000, 2000  # rows
COLUMNS, YEAR = 30, 365
STREAMS = (
    3 * COLUMNS + 7
)  # what is watched of a model with so many features: distribution, empty cells, range; and of all rows
LIMIT = detector.log_limit(STREAMS)
TOLERANCE = 0.02
CALM, AFTER = 90, 250  # days before a change, and after it
LOOKED = 60  # days after a change for which the usual rules are tried
MISSING = 0.01  # share of empty cells
WEEK = np.array([0, 0.2, 0.4, 0.4, 0.2, -0.6, -0.6])
EVIDENTLY_DAYS = 10
EVIDENTLY = ROOT / ".venv" / "evidently" / "bin" / "python"
DOCUMENT = ROOT / "docs" / "decisions" / "0007-monitoring.md"
FIGURE = DOCUMENT.with_name("0007-monitoring-delay.svg")


@dataclass(frozen=True)
class World:
    """How the mean of a day moves while nothing has changed, in standard deviations: by day, by weekday, and as a slow wander."""

    label: str
    day: float = 0.0
    week: float = 0.0
    wander: float = 0.0
    growth: float = 1.0  # of the rows a day, after half a year
    reference: int = REFERENCE
    tolerance: float = TOLERANCE

    def means(self, rng, days: int) -> np.ndarray:
        """The mean of each day, (days,)."""
        found = rng.normal(0, self.day, days) + self.week * WEEK[np.arange(days) % 7]
        if self.wander:  # AR(1) with a correlation of 0.8 from day to day
            steps = rng.normal(0, self.wander * 0.6, days + 50)
            walk = np.zeros(days + 50)
            for place in range(1, days + 50):
                walk[place] = 0.8 * walk[place - 1] + steps[place]
            found += walk[50:]
        return found

    def rows(self, size: int, days: int) -> np.ndarray:
        """Rows of each day, (days,)."""
        return np.where(np.arange(days) < YEAR // 2, size, int(size * self.growth))


STILL, BOTH = World("nothing"), World("days ± 0.1σ and weekdays ± 0.1σ", day=0.1, week=0.1)
WORLDS = (STILL, World("days ± 0.1σ", day=0.1), World("weekdays ± 0.1σ", week=0.1), BOTH)
HARDER = (
    World("days ± 0.2σ", day=0.2),
    World("days ± 0.1σ, ten times the rows after half a year", day=0.1, growth=10),
    World("reference of 400 rows, days ± 0.1σ", day=0.1, reference=400),
    World("slow wander, sd 0.1σ", wander=0.1),
    World("slow wander, sd 0.1σ, tolerance 0.05", wander=0.1, tolerance=0.05),
)


@dataclass(frozen=True)
class Change:
    """What happens to one column: its mean moves by `shift`, or a share goes from `before` to `now`."""

    label: str
    shift: float = 0.0
    kind: str = "numbers"
    before: float = 0.0
    now: float = 0.0


CHANGES = (
    Change("mean moves by 0.2σ", shift=0.2),
    Change("mean moves by 0.5σ", shift=0.5),
    Change("empty cells 1 → 5 %", kind="missing", before=MISSING, now=0.05),
    Change("empty cells 1 → 20 %", kind="missing", before=MISSING, now=0.2),
    Change("new category 0 → 5 %", kind="category", before=0.0, now=0.05),
    Change("accuracy 0.85 → 0.80", kind="wrong", before=0.15, now=0.2),
    Change("accuracy 0.85 → 0.75", kind="wrong", before=0.15, now=0.25),
)


@dataclass(frozen=True)
class Cell:
    """One measured cell: of a table, a row and a column of it, what the figure is of, and the figure."""

    table: str
    row: str
    column: str
    figures: dict[str, float]


# --- one column ---


def _reference(rng, world: World) -> dict[str, Any]:
    """Training data of a month: its mean is off by what a month's days leave."""
    return drift.number_reference(rng.normal(rng.normal(0, world.day / np.sqrt(30)), 1, world.reference))


def _table(rng, edges: np.ndarray, rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    below = stats.norm.cdf(edges - means[:, None])
    chances = np.maximum(np.diff(below, axis=1, prepend=0, append=1), 0)
    counts = rng.multinomial(rows, chances / chances.sum(axis=1, keepdims=True))
    return np.concatenate([counts, np.zeros((len(rows), 1))], axis=1)


def _shares(rng, world: World, share: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A plain share of each day's rows, (days, 2); days differ as the quantile of a normal number does."""
    with np.errstate(divide="ignore"):
        moved = stats.norm.cdf(stats.norm.ppf(share) + world.means(rng, len(rows)))
    hits = rng.binomial(rows, moved)
    return np.stack([hits, rows - hits], axis=1)


def numbers(rng, world: World, size: int, days: int, shift: float = 0.0, since: int = 0) -> Stream:
    """A column of numbers whose mean moves on a day."""
    reference = _reference(rng, world)
    means = world.means(rng, days) + shift * (np.arange(days) >= since)
    table = _table(rng, np.array(reference["edges"]), world.rows(size, days), means)
    return Stream(detector.distribution_cells(reference, world.reference, world.tolerance), table)


def share(rng, world: World, size: int, days: int, change: Change, since: int = 0) -> Stream:
    """A share that moves on a day: empty cells, a new category, or wrong answers; the reference has it with the error of its rows."""
    shares = np.where(np.arange(days) >= since, change.now, change.before)
    rows = HOLDOUT if change.kind == "wrong" else world.reference
    measured = rng.binomial(rows, change.before) / rows
    table = _shares(rng, world, shares, world.rows(size, days))
    return Stream(detector.share_cells(change.label, measured, rows, world.tolerance), table)


def one(rng, world: World, size: int, change: Change, since: int, days: int) -> Stream:
    """One column with the change from a day on."""
    if change.kind == "numbers":
        return numbers(rng, world, size, days, change.shift, since)
    return share(rng, world, size, days, change, since)


# --- the detector ---


def false_alarms(table: str, world: World, size: int, trials: int) -> Cell:
    """Alarms a year of COLUMNS features whose means and empty cells do not move for good."""
    rng = _rng(table, world.label, size)
    calm = Change("empty cells", kind="missing", before=MISSING, now=MISSING)
    alarms, phi = 0, []
    for _ in range(trials):
        streams = [numbers(rng, world, size, YEAR) for _ in range(COLUMNS)]
        streams += [share(rng, world, size, YEAR, calm) for _ in range(COLUMNS)]
        traces = detector.replay(streams, LIMIT)
        alarms += sum(len(trace.alarms) for trace in traces)
        phi += [float(trace.overdispersion[-1]) for trace in traces[:COLUMNS]]
    return Cell(
        table, world.label, f"{size:,}", {"alarms": alarms / trials, "phi": float(np.median(phi)), "trials": trials}
    )


def delays(table: str, world: World, size: int, change: Change, calm: int, trials: int) -> Cell:
    """Days until the alarm, of one column that changes after so many calm days; the day of the change is the first."""
    rng = _rng(table, world.label, size, change.label, calm)
    streams = [one(rng, world, size, change, calm, calm + AFTER) for _ in range(trials)]
    found, since = [], []
    for trace in detector.replay(streams, LIMIT):
        alarms = [alarm for alarm in trace.alarms if alarm.day >= calm]
        found.append(alarms[0].day - calm + 1 if alarms else np.inf)
        since += [alarm.since - calm for alarm in alarms[:1]]
    middle, late = (float(np.quantile(found, q, method="higher")) for q in (0.5, 0.9))
    row = f"{change.label} · {world.label} · {'from the first day' if calm == 0 else f'after {calm} days'}"
    figures = {"median": middle, "late": late, "off": float(np.median(since)) if since else 0.0}
    return Cell(table, row, f"{size:,}", figures)


# --- the usual rules ---


def _ks(reference: np.ndarray, now: np.ndarray) -> float:
    """The exact statistic of two samples, both sorted, (m,) and (n,)."""
    n = len(now)
    after = np.searchsorted(reference, now, side="right") / len(reference)
    before = np.searchsorted(reference, now, side="left") / len(reference)
    return max(float((np.arange(1, n + 1) / n - after).max()), float((before - np.arange(n) / n).max()))


def _p_of_ks(statistics: np.ndarray, size: int) -> np.ndarray:
    return stats.kstwobign.sf(statistics * np.sqrt(REFERENCE * size / (REFERENCE + size)))


def _psi(reference: dict[str, Any], table: np.ndarray, size: int) -> list[float]:
    groups = drift.grouped(reference["shares"])
    before = np.bincount(groups, reference["shares"])
    return [drift.psi(before, np.bincount(groups, day[:-1]) / size, 0.5 / size) for day in table]


def looked_at(rng, world: World, size: int, days: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The p-value of KS on all rows, and PSI, of each day of a column of numbers, (days,) each."""
    sample = np.sort(rng.normal(rng.normal(0, world.day / np.sqrt(30)), 1, REFERENCE))
    reference = drift.number_reference(sample)
    edges, statistics, table = np.array(reference["edges"]), [], []
    for mean in world.means(rng, days) + shift:
        now = np.sort(rng.normal(mean, 1, size))
        statistics.append(_ks(sample, now))
        table.append([*np.diff(np.searchsorted(now, edges), prepend=0, append=size), 0])
    return _p_of_ks(np.array(statistics), size), np.array(_psi(reference, np.array(table), size))


def looked_at_share(rng, world: World, size: int, days: int, change: Change) -> tuple[np.ndarray, np.ndarray]:
    """The p-value of chi-squared, and PSI, of each day of a share, (days,) each."""
    before = np.array([change.before, 1 - change.before])
    table = _shares(rng, world, np.full(days, change.now), np.full(days, size))
    p = [distances.chi2(before * REFERENCE, day)[1] for day in table]
    return np.array(p), np.array([drift.psi(before, day / size, 0.5 / size) for day in table])


RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    # p-values and indices (days, columns) -> which columns alarm
    "p < 0.05": lambda p, psi: p < 0.05,
    "Bonferroni": lambda p, psi: p < 0.05 / COLUMNS,
    "Benjamini-Hochberg": lambda p, psi: stats.false_discovery_control(p, axis=1) < 0.05,
    "PSI > 0.1": lambda p, psi: psi > drift.MODERATE,
    "PSI > 0.25": lambda p, psi: psi > drift.LARGE,
}


def usual_false_alarms(table: str, world: World, size: int) -> list[Cell]:
    """Column alarms of a year, and days with one, of each rule."""
    rng = _rng(table, world.label, size)
    columns = [looked_at(rng, world, size, YEAR) for _ in range(COLUMNS)]
    p, psi = (np.stack(values, axis=1) for values in zip(*columns, strict=True))
    found = []
    for name, rule in RULES.items():
        alarms = rule(p, psi)
        figures = {"alarms": float(alarms.sum()), "days": float(alarms.any(axis=1).sum())}
        found.append(Cell(table, name, f"{world.label} {size:,}", figures))
    return found


def usual_delays(table: str, size: int, change: Change, trials: int) -> list[Cell]:
    """Median days until each rule calls the changed column, among others that did not change."""
    rng = _rng(table, size, change.label)
    first: dict[str, list[float]] = {name: [] for name in RULES}
    for _ in range(trials):
        if change.kind == "numbers":
            p, psi = looked_at(rng, STILL, size, LOOKED, change.shift)
        else:
            p, psi = looked_at_share(rng, STILL, size, LOOKED, change)
        others = rng.random((LOOKED, COLUMNS - 1))
        for name, rule in RULES.items():
            alarms = rule(np.column_stack([p, others]), np.column_stack([psi, 0 * others]))[:, 0]
            first[name].append(float(alarms.argmax() + 1) if alarms.any() else np.inf)
    return [
        Cell(table, f"{change.label} · {name}", f"{size:,}", {"median": float(np.quantile(days, 0.5, method="higher"))})
        for name, days in first.items()
    ]


def usual_accuracy(table: str, size: int, trials: int) -> list[Cell]:
    """False alarms a year, and days to find a fall of accuracy, of a limit on the last 100 outcomes and a t-test on the last 1,000."""
    found = []
    for now in (0.15, 0.2, 0.25):
        rng = _rng(table, size, now)
        figures: dict[str, list[float]] = {
            "accuracy < 0.8 on the last 100": [],
            "t-test on the last 1,000, p < 0.01": [],
        }
        for _ in range(trials):
            days = YEAR if now == 0.15 else LOOKED
            before = rng.binomial(HOLDOUT, 0.15) / HOLDOUT
            wrong = np.concatenate([rng.random(1000) < 0.15, rng.random(days * size) < now]).astype(float)
            ends = 1000 + size * np.arange(1, days + 1)
            total = np.concatenate([[0], np.cumsum(wrong)])
            limit = (total[ends] - total[ends - 100]) / 100 > 0.2
            last = (total[ends] - total[ends - 1000]) / 1000
            error = np.sqrt(last * (1 - last) / 1000 + before * (1 - before) / HOLDOUT)
            for name, alarms in zip(
                figures, (limit, np.abs(last - before) / error > stats.norm.isf(0.005)), strict=True
            ):
                runs = alarms & ~np.concatenate([[False], alarms[:-1]])  # an alarm that goes on is one
                figures[name].append(runs.sum() if now == 0.15 else (alarms.argmax() + 1 if alarms.any() else np.inf))
        key = "alarms" if now == 0.15 else f"{1 - now:.2f}"
        for name, values in figures.items():
            value = np.mean(values) if now == 0.15 else np.quantile(values, 0.5, method="higher")
            found.append(Cell(table, name, f"{size:,}", {key: float(value)}))
    return found


def accuracy(table: str, size: int, trials: int) -> list[Cell]:
    """The same of the detector."""
    rng, calm = _rng(table, size), Change("wrong", kind="wrong", before=0.15, now=0.15)
    years = detector.replay([share(rng, STILL, size, YEAR, calm) for _ in range(5 * trials)], LIMIT)
    name = "the detector"
    found = [Cell(table, name, f"{size:,}", {"alarms": sum(len(one.alarms) for one in years) / len(years)})]
    for change in CHANGES[-2:]:
        middle = delays(table, STILL, size, change, CALM, 2 * trials).figures["median"]
        found.append(Cell(table, name, f"{size:,}", {f"{1 - change.now:.2f}": middle}))
    return found


def ask_evidently(table: str, world: World, size: int) -> Cell:
    """Columns that Evidently's defaults call drifted on days on which nothing has."""
    rng = _rng(table, world.label, size)
    path = BUILD / f"evidently_{size}_{world.label[:4]}.npz"
    path.parent.mkdir(exist_ok=True)
    means = np.stack([world.means(rng, EVIDENTLY_DAYS) for _ in range(COLUMNS)], axis=1)
    days = rng.normal(means[:, None, :], 1, (EVIDENTLY_DAYS, size, COLUMNS))
    np.savez(path, reference=rng.normal(size=(REFERENCE, COLUMNS)), days=days)
    command = [str(EVIDENTLY), evidently_drift.__file__, str(path)]
    done = subprocess.run(command, env={**os.environ, "DO_NOT_TRACK": "1"}, capture_output=True, text=True, check=True)
    path.unlink()
    drifted = np.array(json.loads(done.stdout.splitlines()[-1]))
    figures = {"alarms": float(drifted.mean() * YEAR), "days": float((drifted > 0).mean() * YEAR)}
    figures |= {"dataset": float((drifted >= COLUMNS / 2).mean() * YEAR)}
    return Cell(table, "Evidently 0.7, defaults", f"{world.label} {size:,}", figures)


# --- all of it ---


def _rng(*seed: Any) -> np.random.Generator:
    return np.random.default_rng(list("/".join(map(str, seed)).encode()))


def _measure(task: tuple) -> list[Cell]:
    function, *arguments = task
    found = function(*arguments)
    return found if isinstance(found, list) else [found]


def tasks(trials: int, sizes: tuple[int, ...] = SIZES, evidently: bool = True) -> list[tuple]:
    """What is measured, the longest first."""
    some = max(2 * trials, 10)
    found: list[tuple] = [
        (ask_evidently, "usual", world, size) for world in (STILL, BOTH) for size in sizes if evidently
    ]
    found += [(usual_false_alarms, "usual", world, size) for world in (STILL, BOTH) for size in sizes]
    found += [(false_alarms, "false-alarms", world, size, trials) for world in WORLDS for size in sizes]
    found += [(false_alarms, "harder", world, size, max(trials // 4, 1)) for world in HARDER for size in sizes]
    found += [
        (usual_delays, "usual-delays", size, change, max(trials // 2, 3)) for change in CHANGES[:5] for size in sizes
    ]
    for change in CHANGES:
        for world, calm in ((STILL, CALM), (BOTH, CALM), (STILL, 0)):
            found += [(delays, "delays", world, size, change, calm, some) for size in sizes]
    labels = (20, *sizes[:2])
    found += [(usual_accuracy, "accuracy", size, some) for size in labels]
    found += [(accuracy, "accuracy", size, some) for size in labels]
    return sorted(found, key=lambda task: task[0] is not ask_evidently)


def run(todo: list[tuple], processes: int) -> list[Cell]:
    """Measure everything, with a bar that shows how far it is."""
    from rich.console import Console
    from rich.progress import track

    with ProcessPoolExecutor(processes) as pool:
        results = track(pool.map(_measure, todo), "simulating", total=len(todo), console=Console(stderr=True))
        return [cell for cells in results for cell in cells]


# --- tables and figure ---


def figure_of(value: float) -> str:
    """A count or a number of days."""
    if not np.isfinite(value):
        return "never"
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def _told(figures: dict[str, float]) -> str:
    if "late" in figures:
        return f"{figure_of(figures['median'])} ({figure_of(figures['late'])})"
    if "days" in figures:
        return f"{figure_of(figures['alarms'])} on {figure_of(figures['days'])} days"
    if "phi" in figures:
        return f"{figure_of(figures['alarms'])} (φ {figures['phi']:.1f})"
    return " / ".join(figure_of(value) for value in figures.values())


def table(cells: list[Cell], name: str, heading: str) -> str:
    """Markdown: the rows and columns of one table, in the order in which they were measured."""
    told: dict[tuple[str, str], dict[str, float]] = {}
    for cell in cells:
        if cell.table == name:
            told.setdefault((cell.row, cell.column), {}).update(cell.figures)
    columns, rows = list(dict.fromkeys(key[1] for key in told)), list(dict.fromkeys(key[0] for key in told))
    lines = ["| " + " | ".join([heading, *columns]) + " |", "|---|" + "---:|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join([row, *(_told(told.get((row, column), {})) for column in columns)]) + " |")
    return "\n".join(lines)


HEADINGS = {
    "false-alarms": "what varies while nothing changes",
    "harder": "what varies while nothing changes",
    "usual": "rule",
    "delays": "change · what varies · when",
    "usual-delays": "change · rule",
    "accuracy": "outcomes a day",
}


def draw(cells: list[Cell], path: Path) -> None:
    """Days until the alarm against the rows a day: a panel per variation, a line per change."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "slipway"  # the same figures give the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
    when = (
        (STILL, CALM, "90 calm days before"),
        (BOTH, CALM, "days and weekdays differ"),
        (STILL, 0, "first day of a new service"),
    )
    for panel, (world, calm, title) in zip(panels, when, strict=True):
        end = f"{world.label} · {'from the first day' if calm == 0 else f'after {calm} days'}"
        for change, color in zip(CHANGES[:5], ("#7fb3d5", "#1b4f72", "#e59866", "#a04000", "#52be80"), strict=True):
            chosen = [cell for cell in cells if cell.table == "delays" and cell.row == f"{change.label} · {end}"]
            days = [cell.figures["median"] for cell in chosen]
            panel.plot(
                [cell.column for cell in chosen], days, marker="o", markersize=4, color=color, label=change.label
            )
        panel.set(title=title, xlabel="rows a day", yscale="log", yticks=(1, 3, 10, 30, 100))
        panel.set_yticklabels(["1", "3", "10", "30", "100"])
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("days until the alarm")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=5)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


@edge
def main(argv: list[str] | None = None) -> None:
    """Measure, and show or write down what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24, help="years of a model per cell (default 24)")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2)
    parser.add_argument("--json", type=Path, default=BUILD / "monitor_simulation.json", help="where the figures go")
    parser.add_argument("--document", action="store_true", help="put tables and figure into docs/decisions")
    options = parser.parse_args(argv)

    asked = EVIDENTLY.exists()
    if not asked:
        print("Evidently is left out: `make .venv/evidently.ready` makes its environment", file=sys.stderr)
    cells = run(tasks(options.trials, evidently=asked), options.processes)
    parts = {name: table(cells, name, heading) for name, heading in HEADINGS.items()} | {
        "streams": public_streams.table()
    }
    for name, part in parts.items():
        print(f"\n{name}\n{part}")
    write_json(
        options.json, [asdict(cell) | {"figures": {k: str(v) for k, v in cell.figures.items()}} for cell in cells]
    )
    if options.document:
        write_text(DOCUMENT, document(DOCUMENT.read_text(encoding="utf-8"), parts))
        draw(cells, FIGURE)


if __name__ == "__main__":
    sys.exit(main())
