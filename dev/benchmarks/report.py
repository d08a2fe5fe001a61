"""The figures as tables: for the terminal, and for docs/benchmarks.md."""

from typing import Any

from rich.table import Table

from dev.benchmarks.claims import NOT_MEASURED, Claim, best_of, claims, problem, subject_of
from dev.benchmarks.servers import EMPTY, MLFLOW, OFF, OURS, SCIKIT_LEARN, SERVERS
from dev.benchmarks.serving import FOREST, SCENARIOS
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


def claims_table(results: dict[str, Any]) -> Table:
    """Each claim with its target, what was measured, and whether it is met."""
    table = Table("claim", "at least", "measured", "")
    for claim in claims(results):
        colour = COLOURS[claim.verdict]
        table.add_row(claim.what, f"{claim.target:g}", _measured(claim), f"[{colour}]{claim.verdict}[/]")
    return table


def _measured(claim: Claim) -> str:
    return claim.why if claim.found is None else spread(claim.found)


def section(results: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md about the service."""
    effort, versions = results["effort"], results["versions"]
    named = {name: version for found in versions.values() for name, version in found.items()}
    own = ", ".join(f"{name} {version}" for name, version in versions["ours"].items())
    lines = [
        "## The service beside its peers",
        "",
        '`make bench ARGS="--only serving"` installs each peer into an environment of its own, starts all on this machine and',
        "lets them answer the same rows with the same model. Ratios travel between machines; the other figures are this one's:",
        f"{results['machine']}, Python {results['python']}; ours: {own};",
        f"the peers: {', '.join(f'{name} {version}' for name, version in sorted(named.items()) if name not in versions['ours'])}.",
        "",
        "Every server has one core, one process for requests and one thread for its model; the load comes from another core.",
        f"{effort['rounds']} rounds of {effort['seconds']:g} s in random order ({effort['pairs']} of {effort['pair_seconds']:g} s for the two",
        "ratios of our own service). A ratio is that of two figures of the same round; brackets hold the lowest and the highest.",
        f"The claims are about our service with {'everything on: API keys, a limit of rates and a log of predictions' if subject_of(results) == OURS else 'everything off'}.",
        f"Of the servers' core, everything else on this machine took {_percent(results)}.",
        "",
        "| claim | at least | measured | |",
        "| --- | ---: | ---: | --- |",
        *(f"| {claim.what} | {claim.target:g} | {_measured(claim)} | {claim.verdict} |" for claim in claims(results)),
        "",
        "### Requests per second",
        "",
        "Closed loop: each connection asks again as soon as it is answered.",
        "",
        f"| | {' | '.join(f'{scenario.name}, {_connections(scenario.connections)}' for scenario in SCENARIOS)} |",
        f"| --- |{' ---: |' * len(SCENARIOS)}",
        *(
            f"| {server.name} | {' | '.join(_rate(results, scenario.name, server.name) for scenario in SCENARIOS)} |"
            for server in SERVERS
        ),
        "",
        f"How many times theirs ours is ({subject_of(results)}):",
        "",
        f"| | {' | '.join(scenario.name for scenario in SCENARIOS)} |",
        f"| --- |{' ---: |' * len(SCENARIOS)}",
        *(
            f"| {server.name} | {' | '.join(_ratio(results, scenario.name, server.name) for scenario in SCENARIOS)} |"
            for server in SERVERS
            if server.name not in (OURS, OFF)
        ),
        "",
        "### Latency at a fixed rate",
        "",
        f"{FOREST.name}, {_connections(FOREST.connections)}, {effort['paced_seconds']:g} s a round; counted from the moment at which a request was",
        "due, so a server that stalls is charged for all that waited.",
        "",
        "| | requests/s | p50, µs | p99, µs |",
        "| --- | ---: | ---: | ---: |",
        *(_latency(results, name) for name in (OURS, OFF, MLFLOW)),
        "",
        "### Start, memory, size",
        "",
        "Start: seconds from the start of the process to its first answer that all is well. Memory, MB, after the rounds of the",
        "forest, over all processes of a server: PSS counts shared pages once. Size: MB of the installed packages, without bytecode.",
        "",
        "| | start | PSS | RSS | size |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_cost(results, server.name, server.environment) for server in SERVERS if server.name != EMPTY),
        "",
        "### What differs",
        "",
        "The work is as alike as each peer lets it be. Each takes JSON of its own form around the same rows. Ours, LitServe,",
        "BentoML and MLServer answer with probabilities, ours and the FastAPI services with labels as well; mlflow runs `predict`",
        "and answers with labels alone. The tutorial asks the model twice, as tutorials do; the tuned one asks once, on uvicorn's",
        "fast loop and parser. Ours checks every value against its range. Ours and FastAPI + ONNX Runtime run the same graph, the",
        "others scikit-learn; the best peer above is among those on scikit-learn. The empty answer is an application of two lines",
        "on the server that carries ours, with the same settings. BentoML adapts to latency and must not be frozen: it is started",
        "for each of its turns and warmed up longer. Before it is timed, each server's answers are compared with the model's.",
        *_reasons(results),
        "",
    ]
    return "\n".join(lines)


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


def _rate(results: dict[str, Any], scenario: str, name: str) -> str:
    if problem(results, scenario, name) or not results["rates"][scenario].get(name):
        return NOT_MEASURED
    return spread(figure(results["rates"][scenario][name]))


def _ratio(results: dict[str, Any], scenario: str, name: str) -> str:
    ours = subject_of(results)
    if problem(results, scenario, name) or problem(results, scenario, ours):
        return NOT_MEASURED
    rates = results["rates"][scenario]
    best = "**" if name == best_of(results, scenario, SCIKIT_LEARN) else ""
    return f"{best}{spread(figure(ratios(rates[ours], rates[name])))}{best}"


def _latency(results: dict[str, Any], name: str) -> str:
    found = results["latency"].get(name)
    if found is None or problem(results, "latency", name):
        return f"| {name} | {NOT_MEASURED} | {NOT_MEASURED} | {NOT_MEASURED} |"
    p50, p99 = (spread(figure(found[key])) for key in ("p50_us", "p99_us"))
    return f"| {name} | {number(found['rate'])} | {p50} | {p99} |"


def _cost(results: dict[str, Any], name: str, environment: str) -> str:
    size = number(results["size_mb"][environment]) if environment in results["size_mb"] else NOT_MEASURED
    if name in results["missing"]:
        return f"| {name} | {NOT_MEASURED} | {NOT_MEASURED} | {NOT_MEASURED} | {size} |"
    memory = results["memory_mb"][name]
    start = spread(figure(results["start_s"][name]))
    return f"| {name} | {start} | {number(memory['pss'])} | {number(memory['rss'])} | {size} |"


def _reasons(results: dict[str, Any]) -> list[str]:
    left_out = [f"{name}: {why}" for name, why in results["missing"].items()]
    disturbed = [f"{name}, {what}: {why}" for what, found in results["invalid"].items() for name, why in found.items()]
    if not left_out + disturbed:
        return []
    return ["", "Not measured:", "", *(f"- {' '.join(line.split())}" for line in left_out + disturbed)]
