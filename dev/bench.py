"""Measure the pipeline (seconds per stage, growth with the rows), the service (beside seven other ways of serving a model, with
networks and boosted trees, with explanations, beside an earlier release) and the monitor (rows a second of the log).

    make bench
    make bench ARGS="--only serving --quick"
    make bench ARGS="--only before --before ../earlier"
    python -m dev.bench --only pipeline --rows 1000 10000 --json

Ratios travel between machines; seconds do not. Each part writes its own section of docs/benchmarks.md. The peers are
installed once, each into an environment of its own in .slipway/bench.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from dev.benchmarks import before, claims, explanations, families, monitor, page, pipeline, report, serving
from pipeline.artifacts import ROOT, write_text
from pipeline.errors import SlipwayError, edge

PAGE = ROOT / "docs" / "benchmarks.md"


@edge
def main(argv: list[str] | None = None) -> None:
    """Measure, print, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=page.PARTS, help="measure one part alone")
    parser.add_argument("--rows", type=int, nargs="*", default=pipeline.ROWS, help="sizes of made-up data to train on")
    parser.add_argument("--quick", action="store_true", help="check that everything can be measured, and claim nothing")
    parser.add_argument("--wrk", type=Path, help="the load generator, if it is not on PATH")
    parser.add_argument(
        "--before", type=Path, help="an earlier checkout, for the part `before`, which is left out without it"
    )
    parser.add_argument("--postgres", default="", help="URL of an empty PostgreSQL database, for the monitor's part")
    parser.add_argument("--json", action="store_true", help="print JSON, and leave docs/benchmarks.md alone")
    options = parser.parse_args(argv)
    if options.only == "before" and not options.before:
        raise SlipwayError(
            "no earlier checkout was named", "git worktree add ../earlier COMMIT, and --before ../earlier"
        )
    console = Console(stderr=True)
    found, sections = {}, {}
    if options.only in (None, "pipeline"):
        found["pipeline"] = pipeline.measure([] if options.quick else options.rows, console)
        sections["pipeline"] = pipeline.section(found["pipeline"])
    if options.only in (None, "monitor"):
        found["monitor"] = monitor.measure(console, options.quick, options.wrk, options.postgres)
        sections["monitor"] = monitor.section(found["monitor"])
    if options.only in (None, "serving"):
        found["serving"] = serving.measure(console, options.quick, options.wrk)
        found["serving"]["claims"] = claims.as_json(found["serving"])
        console.print(report.claims_table(found["serving"]))
        if warning := report.disturbed(found["serving"]):
            console.print(f"[yellow]{warning}")
        sections["serving"] = report.section(found["serving"])
    if options.only in (None, "families"):
        found["families"] = families.measure(console, options.quick, options.wrk)
        sections["families"] = families.section(found["families"])
    if options.only in (None, "explanations"):
        found["explanations"] = explanations.measure(console, options.quick)
        sections["explanations"] = explanations.section(found["explanations"])
    if options.before and options.only in (None, "before"):
        found["before"] = before.measure(console, options.quick, options.wrk, options.before)
        sections["before"] = before.section(found["before"])
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print("\n".join(sections.values()))
    if options.quick:
        console.print("a quick look: nothing is claimed, docs/benchmarks.md is as it was")
        return
    now = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    write_text(PAGE, page.merge(now, sections))


if __name__ == "__main__":
    sys.exit(main())
