"""Measure the canary's rule: how often it is wrong, what it sees, and after how many requests.

    make simulate-canary                                     # tables, and build/canary_simulation.json
    python -m dev.simulate_canary --trials 50            # a quick look
    python -m dev.simulate_canary --document             # put tables and figure into docs/decisions/0004-canary.md

Each trial is one step that is looked at LOOKS times, by the real `judge`. Latencies are log-normal, with the spread that the
service was measured to have; errors fall on requests at random.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from delivery.canary.verdict import PATHS, Counts, Side, judge
from dev.simulation import document, standard_error
from pipeline.artifacts import BUILD, ROOT, write_json, write_text
from pipeline.errors import edge
from pipeline.settings import Canary

LOOKS = 20
SPREAD = 0.83  # of the logarithm: a coefficient of variation of 1
TOGETHER = 50  # requests in a row that are slow together
EDGES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, float("inf"))
TRAFFIC = ((200, 200), (400, 400), (1000, 1000), (3600, 400), (9000, 1000), (10000, 10000))
DOCUMENT = ROOT / "docs" / "decisions" / "0004-canary.md"
FIGURE = DOCUMENT.with_name("0004-canary-power.svg")


@dataclass(frozen=True)
class Situation:
    """What is true: rates and latencies of both sides. `shared` is the spread that requests in a row have in common."""

    table: str
    label: str
    errors: float = 0.0
    canary_errors: float = 0.0
    ratio: float = 1.0
    milliseconds: float = 0.7
    shared: float = 0.0
    pause_ms: float = 0.0


@dataclass(frozen=True)
class Cell:
    """A situation at one traffic: shares of the trials by verdict, and the canary's requests at a verdict (median)."""

    table: str
    label: str
    stable: int
    canary: int
    trials: int
    go: float
    abort: float
    hold: float
    requests: float | None


SITUATIONS = (
    *(Situation("equal-errors", f"{100 * rate:g} %", rate, rate) for rate in (0.0, 0.001, 0.01, 0.05)),
    *(Situation("limit-errors", f"{100 * r:g} % → {150 * r:g} %", r, 1.5 * r) for r in (0.001, 0.01, 0.05)),
    *(Situation("margin-errors", f"{100 * r:g} % → {150 * r + 1:g} %", r, 1.5 * r + 0.01) for r in (0.0, 0.001, 0.01)),
    *(
        Situation("more-errors", f"{100 * base:g} % → {100 * worse:g} %", base, worse)
        for base, worse in ((0, 0.01), (0, 0.025), (0, 0.05), (0.001, 0.003), (0.01, 0.02), (0.01, 0.03), (0.05, 0.15))
    ),
    *(
        Situation("latency", f"{ratio:g} times", ratio=ratio, milliseconds=20)
        for ratio in (1.0, 1.1, 1.2, 1.25, 1.5, 2.0)
    ),
    *(
        Situation("latency-fast", f"{ratio:g} times", ratio=ratio, milliseconds=0.7)
        for ratio in (1.0, 1.2, 1.5, 2.0, 2.63, 4.0)
    ),
    Situation("latency-rough", "1 times, slow together, a little", shared=0.25, milliseconds=20),
    Situation("latency-rough", "1 times, slow together, much", shared=0.5, milliseconds=20),
    Situation("latency-rough", "1.2 times, slow together, a little", ratio=1.2, shared=0.25, milliseconds=20),
    Situation("latency-rough", "1.2 times, slow together, much", ratio=1.2, shared=0.5, milliseconds=20),
    Situation("latency-rough", "1 times, ten requests wait 300 ms once", pause_ms=300, milliseconds=20),
)


def _looks(rng, trials: int, requests: int, rate: float, mean: float, shared: float, pause: float) -> tuple:
    """Cumulative counts at each look, shapes (trials, LOOKS) and (trials, LOOKS, edges); `mean` and `pause` in seconds."""
    per_look = requests // LOOKS
    seconds = rng.lognormal(-(SPREAD**2) / 2, SPREAD, (trials, LOOKS * per_look)) * mean
    if shared:
        together = rng.lognormal(-(shared**2) / 2, shared, (trials, LOOKS * per_look // TOGETHER + 1))
        seconds *= np.repeat(together, TOGETHER, axis=1)[:, : LOOKS * per_look]
    if pause:
        first = rng.integers(0, LOOKS * per_look - 10, trials)
        seconds[np.arange(trials)[:, None], first[:, None] + np.arange(10)] += pause
    seconds = seconds.reshape(trials, LOOKS, per_look)
    buckets = np.stack([(seconds <= edge).sum(axis=2) for edge in EDGES], axis=2)
    errors = rng.binomial(per_look, rate, (trials, LOOKS))
    return errors.cumsum(axis=1), seconds.sum(axis=2).cumsum(axis=1), buckets.cumsum(axis=1)


def _side(looks: tuple, trial: int, look: int) -> Side:
    errors, seconds, buckets = (part[trial, look] for part in looks)
    counted = dict(zip(EDGES, buckets.tolist(), strict=True))
    return Side({PATHS[0]: Counts(int(buckets[-1]), int(errors), float(seconds), counted)})


def measure(situation: Situation, stable: int, canary: int, trials: int, rules: Canary | None = None) -> Cell:
    """Run one cell: each trial ends with the first verdict that is not hold."""
    rules = rules or Canary()
    rng = np.random.default_rng([stable, canary])
    verdicts, requests = {"go": 0, "abort": 0, "hold": 0}, []
    mean = situation.milliseconds / 1000
    for start in range(0, trials, 100):
        some = min(100, trials - start)
        one = _looks(rng, some, stable, situation.errors, mean, situation.shared, 0.0)
        slower = mean * situation.ratio
        other = _looks(rng, some, canary, situation.canary_errors, slower, situation.shared, situation.pause_ms / 1000)
        for trial in range(some):
            verdict, look = _first_verdict(one, other, trial, rules)
            verdicts[verdict] += 1
            requests += [(look + 1) * (canary // LOOKS)] * (verdict != "hold")
    shares = {verdict: count / trials for verdict, count in verdicts.items()}
    middle = float(np.median(requests)) if requests else None
    return Cell(situation.table, situation.label, stable, canary, trials, requests=middle, **shares)


def _first_verdict(one: tuple, other: tuple, trial: int, rules: Canary) -> tuple[str, int]:
    for look in range(LOOKS):
        verdict = judge(_side(one, trial, look), _side(other, trial, look), None, rules, 0).verdict
        if verdict != "hold":
            return verdict, look
    return "hold", LOOKS - 1


def _measure(arguments: tuple) -> Cell:
    return measure(*arguments)


def run(trials: int, traffic: tuple[tuple[int, int], ...], processes: int) -> list[Cell]:
    """Measure every cell, with a bar that shows how far it is."""
    from rich.console import Console
    from rich.progress import track

    cells = [(situation, *requests, trials) for situation in SITUATIONS for requests in traffic]
    with ProcessPoolExecutor(processes) as pool:
        results = pool.map(_measure, cells)
        return list(track(results, "simulating", total=len(cells), console=Console(stderr=True)))


# --- tables and figure ---


def table(cells: list[Cell], name: str) -> str:
    """Markdown: a line per situation, a column per traffic; percent go / abort / hold, and requests until the verdict."""
    chosen = [cell for cell in cells if cell.table == name]
    columns = list(dict.fromkeys((cell.stable, cell.canary) for cell in chosen))
    lines = [
        "| truth | " + " | ".join(f"{stable} + {canary}" for stable, canary in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for label in dict.fromkeys(cell.label for cell in chosen):
        row = {(cell.stable, cell.canary): cell for cell in chosen if cell.label == label}
        lines.append(f"| {label} | " + " | ".join(_shares(row[column]) for column in columns) + " |")
    return "\n".join(lines)


def _shares(cell: Cell) -> str:
    shares = " / ".join(f"{100 * share:.1f}" for share in (cell.go, cell.abort, cell.hold))
    return shares if cell.requests is None else f"{shares} ({cell.requests:.0f})"


def draw(cells: list[Cell], path: Path) -> None:
    """Shares of go and abort against the canary's errors and latency, at three amounts of traffic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "slipway"  # the same figures give the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    lines = (((400, 400), "#7fb3d5"), ((3600, 400), "#2e86c1"), ((10000, 10000), "#1b4f72"))
    none = [cell for cell in cells if cell.table in ("equal-errors", "more-errors") and cell.label.startswith("0 %")]
    latency = [cell for cell in cells if cell.table == "latency"]
    for panel, chosen, title in (
        (panels[0], none, "errors of the canary, where stable has none"),
        (panels[1], latency, "latency of the canary, times stable's 20 ms"),
    ):
        for traffic, color in lines:
            row = [cell for cell in chosen if (cell.stable, cell.canary) == traffic]
            labels = [cell.label.split(" → ")[-1].removesuffix(" times") for cell in row]
            for share, style in (("go", ":"), ("abort", "-")):
                values = [100 * getattr(cell, share) for cell in row]
                label = f"{share}, {traffic[0]} + {traffic[1]}"
                panel.plot(labels, values, style, marker="o", markersize=4, color=color, label=label)
        panel.set(title=title, ylim=(-3, 103))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% of steps")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


@edge
def main(argv: list[str] | None = None) -> None:
    """Measure, and show or write down what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=600, help="steps per cell (default 600)")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2)
    parser.add_argument("--json", type=Path, default=BUILD / "canary_simulation.json", help="where the figures go")
    parser.add_argument("--document", action="store_true", help="put tables and figure into docs/decisions")
    options = parser.parse_args(argv)

    cells = run(options.trials, TRAFFIC, options.processes)
    parts = {name: table(cells, name) for name in dict.fromkeys(situation.table for situation in SITUATIONS)}
    for name, part in parts.items():
        print(f"\n{name}\n{part}")
    for share in (0.025, 0.05, 0.5):
        error = 100 * standard_error(options.trials, share)
        print(f"{options.trials} trials a cell: one standard error at {100 * share:g} % is {error:.1f} points")
    write_json(options.json, [asdict(cell) for cell in cells])
    if options.document:
        write_text(DOCUMENT, document(DOCUMENT.read_text(encoding="utf-8"), parts))
        draw(cells, FIGURE)


if __name__ == "__main__":
    sys.exit(main())
