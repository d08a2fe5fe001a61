"""Validation of the data: the built-in checks, your expectations, and drift against production's data."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import artifacts
from pipeline.data import checks as data_checks
from pipeline.data import expectations, leftovers
from pipeline.data.checks import DataCheck
from pipeline.data.dataset import Dataset, take_apart
from pipeline.errors import DataError, in_project
from pipeline.formats import bundle
from pipeline.settings import Settings
from pipeline.validation import sides
from serving.model.contract import name_fault
from serving.requests.decoder import contract_fault


def examine(frame: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """The whole report, as build/data.json holds it."""
    suite = expectations.suite_of_project()
    with in_project("reading MAY_PREDICT_ALONE of project/checks.py"):
        from project import checks as own

        known = list(getattr(own, "MAY_PREDICT_ALONE", []))
    ranges, values = expectations.limits(suite)
    names = servable_names(frame, settings)
    checks = folded([*names, *expectations.run(suite, frame, settings), *data_checks.check(frame, settings, known)])
    checks += [
        DataCheck(where, "nothing of the example is left", "warning", False, what)
        for where, what in leftovers.found(frame, settings, Path(own.__file__))
    ]
    data_hash = ""
    try:
        dataset = take_apart(frame, settings)
        data_hash = dataset.hash
        checks += sides.examine(dataset)
        if not failed(checks, "critical") and dataset.holdout.any():
            checks.append(servable(dataset, ranges, values))
    except DataError as error:
        if not failed(checks, "critical"):
            checks.append(DataCheck("(table)", "the data can be used", "critical", False, error.what))
    return {
        "success": not failed(checks, "critical"),
        "data_hash": data_hash,
        "rows": len(frame),
        "columns": frame.shape[1],
        "ranges": ranges,
        "values": values,
        "checks": [asdict(one) for one in checks],
    }


def servable_names(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """No feature has a name that the service refuses, by the service's own rule."""
    rule = "the service takes features of these names"
    faults = {name: name_fault(name) for name in data_checks.features(frame, settings)}
    wrong = [
        DataCheck(shown(name), rule, "critical", False, f"{name!r} cannot be served: {fault}; {renamed(name)}")
        for name, fault in faults.items()
        if fault
    ]
    return wrong or [DataCheck("(features)", rule, "critical", True, "it does")]


def shown(name: str) -> str:
    """A column's name on one line."""
    return name if name.isprintable() else repr(name)


def renamed(name: str) -> str:
    """The line of load() that gives a column a name that can be served."""
    better = " ".join("".join(sign if sign.isprintable() and sign not in '"\\' else " " for sign in name).split())
    return f"rename it in load() of project/data.py: .rename(columns={{{name!r}: {better or 'unnamed'!r}}})"


def servable(dataset: Dataset, ranges: dict, values: dict) -> DataCheck:
    """The service can be made from a contract of these features, ranges and values."""
    form = {"format": "skops", "skops": {"layout": "frame"}}  # what the model will be does not matter here
    contract = bundle.contract(dataset, form, {"ranges": ranges, "values": values}, "", 0.0)
    fault = contract_fault(artifacts.to_json(contract).encode())
    return DataCheck("(table)", "the service can read such rows", "critical", not fault, fault or "it can")


def folded(checks: Iterable[DataCheck]) -> list[DataCheck]:
    """Without failures that show the same rows of the same column, as gravely, as an earlier one."""
    seen, kept = set(), []
    for one in checks:
        rows = tuple(example["row"] for example in one.examples)
        same = (one.column, one.severity, rows)
        if one.success or not rows or same not in seen:
            kept.append(one)
        if not one.success:
            seen.add(same)
    return kept


def failed(checks: Iterable[DataCheck], severity: str) -> list[DataCheck]:
    """Checks of that severity that did not pass."""
    return [one for one in checks if not one.success and one.severity == severity]


def headline(report: dict[str, Any]) -> str:
    """The report in one line."""
    broken = [one for one in report["checks"] if not one["success"]]
    counts = {grade: sum(one["severity"] == grade for one in broken) for grade in ("critical", "warning")}
    return (
        f"{report['rows']} rows, {report['columns']} columns: {len(report['checks'])} checks, "
        f"{counted(counts['critical'], 'critical failure')}, {counted(counts['warning'], 'warning')}"
    )


def counted(number: int, thing: str) -> str:
    """A number with its thing, in the plural where it belongs."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def markdown(report: dict[str, Any]) -> str:
    """The report for a job summary: what failed first, what passed folded away."""
    broken = [one for one in report["checks"] if not one["success"]]
    passed = [one for one in report["checks"] if one["success"]]
    parts = ["# Data", f"{'✅' if report['success'] else '❌'} {headline(report)}."]
    if broken:
        parts.append(_table(broken))
    if passed:
        parts += [f"<details><summary>{len(passed)} checks passed</summary>", _table(passed), "</details>"]
    return "\n\n".join(parts) + "\n"


def _table(checks: list[dict[str, Any]]) -> str:
    rows = ["| | severity | column | rule | observed | example rows |", "|---|---|---|---|---|---|"]
    for one in sorted(checks, key=lambda one: one["severity"]):
        cells = [one["column"], one["rule"], one["observed"], "; ".join(map(_example, one["examples"]))]
        rows.append(f"| {mark(one)} | {one['severity']} | " + " | ".join(map(escaped, cells)) + " |")
    return "\n".join(rows)


def mark(one: dict[str, Any]) -> str:
    """A check's status as a sign."""
    return "✅" if one["success"] else ("❌" if one["severity"] == "critical" else "⚠️")


def _example(row: dict[str, Any]) -> str:
    where = f"row {row['row']}" + (f" ({row['id']})" if row["id"] is not None else "")
    if "value" not in row:  # the rule is about more than one column
        return where
    return f"{where}: {'empty' if row['value'] is None else row['value']}"


def escaped(text: str) -> str:
    """Text that cannot break out of a cell of a Markdown table, nor become a tag, link or emphasis there."""
    text = "".join(f"\\{sign}" if sign in r"\`*_{}[]|#~" else sign for sign in text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(text.split())


def show(report: dict[str, Any]) -> None:
    """Print what failed as a table, and how much passed."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    broken = [one for one in report["checks"] if not one["success"]]
    if broken:
        table = Table("", Column("column", overflow="fold"), "rule", "observed", "example rows")
        for one in sorted(broken, key=lambda one: one["severity"]):
            # As Text: what stands in the data is not markup.
            rows = "\n".join(map(_example, one["examples"]))
            table.add_row(*map(Text, (mark(one), one["column"], one["rule"], one["observed"], rows)))
        console.print(table)
    console.print(Text(headline(report)))
