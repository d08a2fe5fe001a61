"""Measure chains of releases: how often losses that are each within the margin add up to more than one margin.

    make simulate-gate                              # together with the rates of single verdicts
    python -m dev.simulate_chains               # the table of chains alone, a minute or two
    python -m dev.simulate_chains --document    # put it into docs/decisions/0001-gate.md

A chain is 20 candidates in a row, each judged by the real `decide` and, where it is accepted, in production when the next one
comes. Nothing is fitted: a model is a true value and errors of its own on each row. The metric is a mean over rows, whose bounds
need no bootstrap: they are Student's t times the standard error.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
from scipy.special import stdtrit

from dev import simulation
from pipeline.artifacts import write_text
from pipeline.errors import edge
from pipeline.evaluation.gate import Best, Comparison, Evidence, Policy, Rules, decide, surely_better

CHAINS = 1000
RELEASES = 20
ROWS = 200  # of the hold-out at first; it has twice as many in the end, where it grows
CONFIDENCE = 0.95
MARGIN = 1.0
ERRORS = {"1/2": 0.5, "1/3": 1 / 3, "1/6": 1 / 6}  # standard error of a difference on ROWS rows, in margins
# True gain of each candidate over production, in margins: mean and standard deviation.
CANDIDATES = {
    "all lose 0.3 margins": (-0.3, 0.0),
    "−0.2 ± 0.5 margins": (-0.2, 0.5),
    "0 ± 0.5 margins": (0.0, 0.5),
}
Holdout = Literal["grows", "new each time"]
Reference = Literal["production", "best"]
POLICIES: tuple[Policy, ...] = ("better", "not_worse")


@dataclass(frozen=True)
class Outcome:
    """Shares of chains and candidates: `lost`, those that end more than a margin below the best version they had in
    production; `let_through`, the accepted ones of the candidates that are truly better than production."""

    lost: float
    let_through: float


def simulate(
    holdout: Holdout,
    candidates: str,
    policy: Policy,
    error: float,
    reference: Reference,
    chains: int = CHAINS,
) -> Outcome:
    """Run the chains of one cell; `error` as in ERRORS. The same arguments give the same outcome."""
    rng = np.random.default_rng(0)
    rules = Rules("score", True, policy, MARGIN, CONFIDENCE)
    mean, spread = CANDIDATES[candidates]
    noise, most = error * math.sqrt(ROWS / 2), 2 * ROWS
    true = {name: np.zeros(chains) for name in ("production", "best", "highest")}
    seen = {"production": rng.normal(0, noise, (chains, most))}
    seen["best"] = seen["production"].copy()
    same = np.ones(chains, dtype=bool)  # the best version is the one in production
    better = accepted = 0
    for release in range(RELEASES):
        rows = ROWS + (most - ROWS) * release // (RELEASES - 1) if holdout == "grows" else ROWS
        if holdout == "new each time":
            seen = {name: true[name][:, None] + rng.normal(0, noise, (chains, most)) for name in seen}
            seen["best"][same] = seen["production"][same]
        value = true["production"] + mean + spread * rng.normal(size=chains)
        candidate = value[:, None] + rng.normal(0, noise, (chains, most))
        beside = {name: _compare(candidate[:, :rows], seen[name][:, :rows]) for name in seen}
        for chain in range(chains):
            best = None if same[chain] else Best("best", beside["best"][chain])
            evidence = Evidence(
                0.0, False, comparison=beside["production"][chain], best=best if reference == "best" else None
            )
            is_better = bool(value[chain] > true["production"][chain])
            better += is_better
            if decide(evidence, rules).verdict != "accept":
                continue
            accepted += is_better
            moves = surely_better(beside["best"][chain], rules)
            same[chain] = moves
            for name in ("production", "best") if moves else ("production",):
                true[name][chain], seen[name][chain] = value[chain], candidate[chain]
        true["highest"] = np.maximum(true["highest"], true["production"])
    lost = float(np.mean(true["highest"] - true["production"] > MARGIN))
    return Outcome(lost, accepted / better if better else math.nan)


def _compare(candidate: np.ndarray, other: np.ndarray) -> list[Comparison]:
    """Two models on the same rows, both (chains, rows): what `gate.compare` finds for the mean, without virtual rows."""
    apart, rows = candidate - other, candidate.shape[1]
    error = apart.std(axis=1, ddof=1) / math.sqrt(rows)
    t = float(stdtrit(rows - 1, CONFIDENCE))
    return [
        Comparison(0.0, 0.0, difference, difference - t * one, difference + t * one, 0.0)
        for difference, one in zip(apart.mean(axis=1).tolist(), error.tolist(), strict=True)
    ]


def table(chains: int) -> str:
    """Markdown: percent of chains that lost more than one margin, without and with the second comparison."""
    sizes = list(ERRORS)
    lines = [
        "| hold-out | candidates | policy | " + " | ".join(f"s = {size}, alone | with best" for size in sizes) + " |",
        "|---|---|---|" + "---:|" * (2 * len(sizes)),
    ]
    gained: dict[Reference, list[float]] = {"production": [], "best": []}
    for holdout, candidates, policy in product(get_args(Holdout), CANDIDATES, POLICIES):
        shown = []
        for size, reference in product(sizes, get_args(Reference)):
            outcome = simulate(holdout, candidates, policy, ERRORS[size], reference, chains)
            gained[reference].append(outcome.let_through)
            shown.append(f"{100 * outcome.lost:.1f}")
        lines.append(f"| {holdout} | {candidates} | `{policy}` | " + " | ".join(shown) + " |")
    alone, both = (100 * float(np.nanmean(gained[reference])) for reference in get_args(Reference))
    lines += [
        "",
        f"Of the candidates that were truly better than production, {alone:.0f} % were accepted without the second "
        f"comparison and {both:.0f} % with it.",
    ]
    return "\n".join(lines)


@edge
def main(argv: list[str] | None = None) -> None:
    """Measure, and show or write down what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=CHAINS, help=f"chains per figure (default {CHAINS})")
    parser.add_argument("--document", action="store_true", help="put the table into docs/decisions")
    options = parser.parse_args(argv)
    part = table(options.chains)
    print(part)
    if options.document:
        path = simulation.DOCUMENT
        write_text(path, simulation.document(path.read_text(encoding="utf-8"), {"chains": part}))


if __name__ == "__main__":
    sys.exit(main())
