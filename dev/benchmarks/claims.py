"""The targets of the service beside its peers, and whether the measurement meets them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dev.benchmarks.servers import BATCHING, EMPTY, FAIR, MLFLOW, OFF, OURS, SCIKIT_LEARN, TUTORIAL
from dev.benchmarks.serving import BATCH, FOREST, LARGE, LINEAR
from dev.benchmarks.timing import Figure, figure, ratios

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Claim:
    """A ratio with its target (at least), and what was measured, or why it could not be."""

    what: str
    target: float
    found: Figure | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """Met, missed or not measured; the median decides."""
        if self.found is None:
            return NOT_MEASURED
        return "met" if self.found.median >= self.target else "missed"


def subject_of(results: dict[str, Any]) -> str:
    """The name of our service in the comparison: with everything on, unless that cannot be measured."""
    return OFF if OURS in results["missing"] else OURS


def claims(results: dict[str, Any]) -> list[Claim]:
    """Every target with what was measured."""
    ours = subject_of(results)
    one, linear, many, large = (scenario.name for scenario in (FOREST, LINEAR, BATCH, LARGE))
    batching, best = best_of(results, one, BATCHING), best_of(results, large, SCIKIT_LEARN)
    return [
        _rate(results, one, ours, MLFLOW, 130),
        _rate(results, one, ours, TUTORIAL, 200),
        _rate(results, one, ours, FAIR, 100),
        _rate(results, one, ours, batching, 23, "the best batching peer"),
        _rate(results, linear, ours, MLFLOW, 27),
        _rate(results, linear, ours, TUTORIAL, 22),
        _rate(results, many, ours, MLFLOW, 35),
        _rate(results, large, ours, MLFLOW, 4.5),
        _rate(results, large, ours, best, 2.3, "the best peer on scikit-learn"),
        _pair(results, "requests/s, Slipway / empty answer", ours, EMPTY, 0.55),
        _pair(results, "requests/s, everything on / everything off", OURS, OFF, 0.85),
        _inverse(results, "p99, mlflow (at half of its highest rate) / Slipway (at a quarter)", "latency", ours, 20),
        _inverse(results, "start time, mlflow / Slipway", "start_s", ours, 18),
        _inverse(results, "memory (PSS), mlflow / Slipway", "memory_mb", ours, 5),
        _inverse(results, "installed size, mlflow / Slipway", "size_mb", ours, 4),
    ]


def problem(results: dict[str, Any], what: str, name: str) -> str:
    """Why a server has no figure for a scenario, "pairs" or "latency"; empty when it has one."""
    return results["missing"].get(name) or results["invalid"].get(what, {}).get(name, "")


def best_of(results: dict[str, Any], scenario: str, names: Sequence[str]) -> str | None:
    """The server with the highest median rate among these; None if none was measured."""
    rates = results["rates"][scenario]
    able = [name for name in names if rates.get(name) and not problem(results, scenario, name)]
    return max(able, key=lambda name: figure(rates[name]).median, default=None)


def _rate(results: dict[str, Any], scenario: str, ours: str, peer: str | None, target: float, role: str = "") -> Claim:
    shown = " ".join(part for part in (role, f"({peer})" if role and peer else peer) if part)
    return _judged(
        f"{scenario}: requests/s, Slipway / {shown}",
        target,
        results,
        scenario,
        ours,
        peer,
        results["rates"][scenario],
    )


def _pair(results: dict[str, Any], what: str, above: str, below: str, target: float) -> Claim:
    return _judged(what, target, results, "pairs", above, below, results["pairs"])


def _judged(what, target, results, where, above, below, values) -> Claim:
    if below is None:
        return Claim(what, target, None, "no such peer was measured")
    if why := problem(results, where, above) or problem(results, where, below):
        return Claim(what, target, None, why)
    return Claim(what, target, figure(ratios(values[above], values[below])))


def _inverse(results: dict[str, Any], what: str, where: str, ours: str, target: float) -> Claim:
    if why := problem(results, where, ours) or problem(results, where, MLFLOW):
        return Claim(what, target, None, why)
    found = results[where]
    if where == "latency":
        values = ratios(found[MLFLOW]["p99_us"], found[ours]["p99_us"])
    elif where == "start_s":
        values = ratios(found[MLFLOW], found[ours])
    elif where == "memory_mb":
        values = [found[MLFLOW]["pss"] / found[ours]["pss"]]
    else:
        values = [found["mlflow"] / found["ours"]]
    return Claim(what, target, figure(values))


def as_json(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Every claim with its verdict, for JSON."""
    return [asdict(claim) | {"verdict": claim.verdict} for claim in claims(results)]


def table(judged: Sequence[Claim]) -> list[str]:
    """The lines of a table of claims, each met, missed or not measured."""
    return [
        "| ratio | target, at least | measured | |",
        "| --- | ---: | ---: | --- |",
        *(f"| {claim.what} | {claim.target:g} | {_shown(claim)} | {claim.verdict} |" for claim in judged),
        "",
    ]


def _shown(claim: Claim) -> str:
    if claim.found is None:
        return claim.why
    return f"{claim.found.median:.2f} [{claim.found.low:.2f} to {claim.found.high:.2f}]"
