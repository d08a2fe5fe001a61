"""How many subjects and days an A/B test needs to find a difference that you name.

    make experiment-plan FROM=0.10 TO=0.11 PER_DAY=2000 SHARE=0.5           # a share of yes or no
    make experiment-plan FROM=25 TO=26 DEVIATION=40 PER_DAY=500 SHARE=0.1   # another mean, with its standard deviation
    python -m scripts.experiment_plan --from 0.10 --to 0.11 --per-day 2000 --share 0.5 --json

It asks nothing and nobody: all figures come from what you give.
"""

import argparse
import sys

import msgspec

from pipeline.errors import SettingsError, edge
from pipeline.experiments.plan import LONGEST, ExperimentPlan, Planned, planned

EXAMPLE = "for example `make experiment-plan FROM=0.10 TO=0.11 PER_DAY=2000 SHARE=0.5`"


@edge
def main(argv: list[str] | None = None) -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="before", default="", help="the mean that A has, as 0.10")
    parser.add_argument("--to", dest="after", default="", help="the mean of B that you want to find")
    parser.add_argument("--per-day", default="", help="new subjects with outcomes a day, of both variants")
    parser.add_argument("--share", default="0.5", help="of the subjects that B answers (default 0.5)")
    parser.add_argument("--deviation", help="standard deviation of the subjects; not for a share of yes or no")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    names = {"FROM": options.before, "TO": options.after, "PER_DAY": options.per_day, "SHARE": options.share}
    deviation = _number("DEVIATION", options.deviation) if options.deviation else None
    before, after, per_day, share = (_number(name, text) for name, text in names.items())
    try:
        plan = planned(before, after, per_day, share, deviation)
    except ValueError as error:
        raise SettingsError(str(error), EXAMPLE) from None
    print(msgspec.json.format(msgspec.json.encode(plan)).decode() if options.json else table(plan))


def table(plan: ExperimentPlan) -> str:
    """What a person reads."""
    head = f"from {plan.before:g} to {plan.after:g}, {plan.per_day:,g} subjects a day, {plan.share:.0%} of them B's:"
    lines = [f"  {'':<38}{'days':>6}{'subjects of A':>15}{'of B':>12}"]
    for row in plan.rows:
        if row.days is None:
            lines.append(f"  {_named(row):<38}  more than {LONGEST} days")
        else:
            lines.append(f"  {_named(row):<38}{row.days:>6}{row.subjects_a:>15,}{row.subjects_b:>12,}")
    return "\n".join([head, *lines])


def _named(row: Planned) -> str:
    if row.method == "fixed":
        return f"one look at the end, {row.found:.0%} power"
    return "looked at each day, median" if row.found == 0.5 else f"looked at each day, {row.found:.0%} power"


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        what = f"{name} is {text!r}; it must be a number" if text else f"{name} is missing"
        raise SettingsError(what, EXAMPLE) from None


if __name__ == "__main__":
    sys.exit(main())
