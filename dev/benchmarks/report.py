"""The figures as tables: for the terminal, and for docs/benchmarks.md."""

from collections.abc import Callable
from typing import Any

from rich.table import Table

from dev.benchmarks.claims import NOT_MEASURED, Claim, best_of, claims, problem, subject_of
from dev.benchmarks.servers import EMPTY, MLFLOW, OFF, OURS, SCIKIT_LEARN, SERVERS
from dev.benchmarks.serving import FOREST, LINEAR, SCENARIOS
from dev.benchmarks.timing import Figure, figure, ratios

QUIET = 0.05  # share of the servers' core that others may take before the figures are doubtful
COLOURS = {"met": "green", "missed": "red", NOT_MEASURED: "yellow"}


def number(value: float) -> str:
    """A number as it is read: three digits that matter, and no more than the whole where it is large."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(found: Figure) -> str:
    """A median with its range, if there is one."""
    if found.low == found.high:
        return number(found.median)
    return f"{number(found.median)} [{number(found.low)} to {number(found.high)}]"


def middle(found: Figure) -> str:
    """A median alone, where there is no room for its range."""
    return number(found.median)


def claims_table(results: dict[str, Any]) -> Table:
    """Each target with what was measured, and whether it is met."""
    table = Table("ratio", "target, at least", "measured", "")
    for claim in claims(results):
        colour = COLOURS[claim.verdict]
        table.add_row(claim.what, f"{claim.target:g}", _measured(claim), f"[{colour}]{claim.verdict}[/]")
    return table


def _measured(claim: Claim) -> str:
    return claim.why if claim.found is None else spread(claim.found)


def section(results: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md about the service: beside its peers first, then all figures, method and targets."""
    parts = (_summary, _gains, _rates, _ratios, _latencies, _costs, _method, _targets, _reasons)
    return "\n".join(line for part in parts for line in part(results))


def _summary(results: dict[str, Any]) -> list[str]:
    """What a reader looks for first: the service and its peers, side by side."""
    ours = subject_of(results)
    shown = [server for server in SERVERS if server.name not in (OURS, OFF, EMPTY) or server.name == ours]
    return [
        "## The service beside what you may use today",
        "",
        f"The same models, rows and core for every server; one row per request, {_connections(FOREST.connections)}. Slipway runs with {_switches(results)}.",
        "“Slipway ÷ this” is how many requests Slipway answers for each request of the server in that row. Medians; the ranges are below.",
        "",
        "| | random forest, requests/s | Slipway ÷ this | logistic regression, requests/s | Slipway ÷ this | start, s | memory (PSS), MB | installed, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_beside(results, server.name, server.environment) for server in shown),
        "",
    ]


def _beside(results: dict[str, Any], name: str, environment: str) -> str:
    rates = [
        cell
        for scenario in (FOREST, LINEAR)
        for cell in (_rate(results, scenario.name, name, middle), _ratio(results, scenario.name, name, middle))
    ]
    if name == subject_of(results):
        name, rates[1], rates[3] = f"**{name}**", "", ""
        return f"| {name} | {' | '.join(rates)} | {_cost(results, subject_of(results), environment, middle)} |"
    return f"| {name} | {' | '.join(rates)} | {_cost(results, name, environment, middle)} |"


def _switches(results: dict[str, Any]) -> str:
    on = "everything on: API keys, rate limit, prediction log"
    return on if subject_of(results) == OURS else "everything off: no API keys, no rate limit, no prediction log"


def _gains(results: dict[str, Any]) -> list[str]:
    """What the figures mean for somebody who uses the service."""
    ours = subject_of(results)
    return [
        "What you get from this:",
        "",
        f"- **Fewer machines.** One core answers {_rate(results, FOREST.name, ours, middle)} predictions per second of a random forest with 100 trees,",
        f"  where `mlflow models serve` answers {_rate(results, FOREST.name, MLFLOW, middle)}. A load that needs several pods today may fit into one.",
        f"- **Short waiting times.** {_at_a_fixed_rate(results, ours)}",
        f"- **Quick starts.** {_start(results, ours)} from the start of the process to ready, {_start(results, MLFLOW)} for `mlflow models serve`: releases,",
        "  restarts and autoscaling are that quick.",
        "- **Less to install and to scan.** No MLflow and no scikit-learn in the service, unless the model needs scikit-learn.",
        "",
        "Large batches gain less, because the model itself takes most of the time there. FastAPI + ONNX Runtime runs the same graph as Slipway, without",
        "range checks, API keys, rate limit or prediction log.",
        "",
    ]


def _at_a_fixed_rate(results: dict[str, Any], name: str) -> str:
    found = results["latency"].get(name)
    if found is None or problem(results, "latency", name):
        return "Latency at a fixed rate was not measured."
    p50, p99 = (number(figure(found[key]).median / 1000) for key in ("p50_us", "p99_us"))
    return (
        f"At {number(found['rate'])} requests/s half of the answers take at most {p50} ms, and 99 % at most {p99} ms."
    )


def _start(results: dict[str, Any], name: str) -> str:
    return NOT_MEASURED if name in results["missing"] else f"{middle(figure(results['start_s'][name]))} s"


def _rates(results: dict[str, Any]) -> list[str]:
    return [
        "### Requests per second",
        "",
        "Closed loop: each connection sends the next request as soon as it has its answer. The lowest and the highest round are in brackets.",
        "",
        f"| | {' | '.join(f'{scenario.name}, {_connections(scenario.connections)}' for scenario in SCENARIOS)} |",
        f"| --- |{' ---: |' * len(SCENARIOS)}",
        *(
            f"| {server.name} | {' | '.join(_rate(results, scenario.name, server.name) for scenario in SCENARIOS)} |"
            for server in SERVERS
        ),
        "",
    ]


def _ratios(results: dict[str, Any]) -> list[str]:
    return [
        f"Slipway ÷ this, within the same round (Slipway with {_switches(results).partition(':')[0]}; bold: the best peer that runs scikit-learn):",
        "",
        f"| | {' | '.join(scenario.name for scenario in SCENARIOS)} |",
        f"| --- |{' ---: |' * len(SCENARIOS)}",
        *(
            f"| {server.name} | {' | '.join(_ratio(results, scenario.name, server.name) for scenario in SCENARIOS)} |"
            for server in SERVERS
            if server.name not in (OURS, OFF)
        ),
        "",
    ]


def _latencies(results: dict[str, Any]) -> list[str]:
    return [
        "### Latency at a fixed rate",
        "",
        f"Open loop: {FOREST.name}, {_connections(FOREST.connections)}, {results['effort']['paced_seconds']:g} s per round. Requests are sent at fixed times and latency counts from these",
        "times, so a stall counts for every request that waits for it. The rate is a quarter of the highest one for Slipway, half of it for mlflow.",
        "",
        "| | requests/s | p50, µs | p99, µs |",
        "| --- | ---: | ---: | ---: |",
        *(_latency(results, name) for name in (OURS, OFF, MLFLOW)),
        "",
    ]


def _costs(results: dict[str, Any]) -> list[str]:
    return [
        "### Start, memory, size",
        "",
        "Start: seconds from the start of the process to its first successful health check. Memory: MB after the rounds of the random",
        "forest, all processes of a server together; PSS counts shared pages once. Size: MB of the installed packages, without bytecode.",
        "",
        "| | start | PSS | RSS | size |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {server.name} | {_cost(results, server.name, server.environment, spread, 'rss')} |"
            for server in SERVERS
            if server.name != EMPTY
        ),
        "",
    ]


def _method(results: dict[str, Any]) -> list[str]:
    effort, versions = results["effort"], results["versions"]
    named = {name: version for found in versions.values() for name, version in found.items()}
    own = ", ".join(f"{name} {version}" for name, version in versions["ours"].items())
    return [
        "### How it was measured",
        "",
        "Each peer is installed into its own environment. All servers run on this machine and answer the same rows with the same model.",
        "Every server has one core, one process for requests and one thread for its model; the load comes from another core.",
        f"There are {effort['rounds']} rounds of {effort['seconds']:g} s in random order ({effort['pairs']} of {effort['pair_seconds']:g} s for everything on / everything off and for the empty answer).",
        "A ratio is computed within a round. Before a server is timed, its answers are compared with the model's.",
        "",
        f"- Machine: {results['machine']}, Python {results['python']}. Other programs took {_percent(results)} of the servers' core.",
        f"- Slipway: {own}.",
        f"- Peers: {', '.join(f'{name} {version}' for name, version in sorted(named.items()) if name not in versions['ours'])}.",
        "",
        "The servers do not do exactly the same work:",
        "",
        "- Each takes its own JSON format around the same rows.",
        "- Slipway, LitServe, BentoML and MLServer return probabilities; Slipway and the FastAPI services also return labels. mlflow",
        "  runs `predict` and returns only labels.",
        "- Slipway checks every value against its range.",
        "- “FastAPI tutorial” calls the model twice, as tutorials do. “FastAPI tuned” calls it once, with uvicorn's fast loop and parser.",
        "- Slipway and FastAPI + ONNX Runtime run the same ONNX graph; the others run scikit-learn.",
        "- “Empty answer” is a two-line application on the server that Slipway uses, with the same settings: the upper bound.",
        "- BentoML adapts its batches to the latency and must not be paused: it is started for each of its turns and warmed up longer.",
        "",
    ]


def _targets(results: dict[str, Any]) -> list[str]:
    judged = claims(results)
    met = sum(claim.verdict == "met" for claim in judged)
    return [
        "### Targets",
        "",
        f"What we want Slipway to reach with {_switches(results).partition(':')[0]}. This run meets {met} of {len(judged)}; the median decides.",
        "[0006-serving](decisions/0006-serving.md) says what is known about the missed ones.",
        "",
        "| ratio | target, at least | measured | |",
        "| --- | ---: | ---: | --- |",
        *(f"| {claim.what} | {claim.target:g} | {_measured(claim)} | {claim.verdict} |" for claim in judged),
        "",
    ]


def disturbed(results: dict[str, Any]) -> str:
    """A warning when the machine had other work while it was measured; empty when it had hardly any."""
    if results["others"]["median"] < QUIET:
        return ""
    return f"other processes took {_percent(results)} of the servers' core: measure again when the machine is quiet"


def _percent(results: dict[str, Any]) -> str:
    others = results["others"]
    return f"{others['median']:.0%} [{others['low']:.0%} to {others['high']:.0%}]"


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"


def _rate(results: dict[str, Any], scenario: str, name: str, shown: Callable[[Figure], str] = spread) -> str:
    if problem(results, scenario, name) or not results["rates"][scenario].get(name):
        return NOT_MEASURED
    return shown(figure(results["rates"][scenario][name]))


def _ratio(results: dict[str, Any], scenario: str, name: str, shown: Callable[[Figure], str] = spread) -> str:
    ours = subject_of(results)
    if problem(results, scenario, name) or problem(results, scenario, ours):
        return NOT_MEASURED
    rates = results["rates"][scenario]
    best = "**" if shown == spread and name == best_of(results, scenario, SCIKIT_LEARN) else ""
    return f"{best}{shown(figure(ratios(rates[ours], rates[name])))}{best}"


def _latency(results: dict[str, Any], name: str) -> str:
    found = results["latency"].get(name)
    if found is None or problem(results, "latency", name):
        return f"| {name} | {NOT_MEASURED} | {NOT_MEASURED} | {NOT_MEASURED} |"
    p50, p99 = (spread(figure(found[key])) for key in ("p50_us", "p99_us"))
    return f"| {name} | {number(found['rate'])} | {p50} | {p99} |"


def _cost(
    results: dict[str, Any], name: str, environment: str, shown: Callable[[Figure], str], *more_memory: str
) -> str:
    size = number(results["size_mb"][environment]) if environment in results["size_mb"] else NOT_MEASURED
    if name in results["missing"]:
        return " | ".join([NOT_MEASURED] * (2 + len(more_memory)) + [size])
    memory = [number(results["memory_mb"][name][kind]) for kind in ("pss", *more_memory)]
    return " | ".join([shown(figure(results["start_s"][name])), *memory, size])


def _reasons(results: dict[str, Any]) -> list[str]:
    left_out = [f"{name}: {why}" for name, why in results["missing"].items()]
    disturbed = [f"{name}, {what}: {why}" for what, found in results["invalid"].items() for name, why in found.items()]
    if not left_out + disturbed:
        return []
    return ["Not measured:", "", *(f"- {' '.join(line.split())}" for line in left_out + disturbed), ""]
