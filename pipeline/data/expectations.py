"""The team's Great Expectations suite, run, and its results in the words of our own checks."""

import functools
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.checks import DataCheck, Severity, examples, judged, not_a_number, plain
from pipeline.errors import ProjectError, in_project
from pipeline.settings import Settings

Limits = dict[str, dict[str, float | None]]

# How a rule reads, with the arguments of its expectation.
_RULES = {
    "expect_table_columns_to_match_set": "the columns are exactly those expected",
    "expect_table_row_count_to_be_between": "{range} rows",
    "expect_column_to_exist": "the column is there",
    "expect_column_values_to_be_between": "{range}",
    "expect_column_values_to_not_be_null": "not empty",
    "expect_column_values_to_be_unique": "unique",
    "expect_column_values_to_be_in_set": "one of {value_set}",
    "expect_column_distinct_values_to_equal_set": "takes each of the values {value_set}, and no other",
    "expect_column_values_to_be_in_type_list": "of type {type_list}",
    "expect_column_values_to_be_of_type": "of type {type_}",
    "expect_column_mean_to_be_between": "mean {range}",
    "expect_column_kl_divergence_to_be_less_than": "shares near {shares} (divergence at most {threshold})",
}


@functools.cache
def context() -> Any:
    """The one context of this process, which reports nothing home, draws no bars, and logs nothing that our report says better."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    made = gx.get_context(mode="ephemeral")
    made.variables.progress_bars = ProgressBarsConfig(globally=False)
    return made


def suite_of_project() -> Any:
    """What expectations() in project/checks.py returns; raises ProjectError when it is no suite."""
    import great_expectations as gx

    context()
    with in_project("expectations() in project/checks.py"):
        from project.checks import expectations

        suite = expectations()
    if not isinstance(suite, gx.ExpectationSuite):
        raise ProjectError(
            f"expectations() in project/checks.py returned {type(suite).__name__}, not an ExpectationSuite"
        )
    return suite


def run(suite: Any, frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """One check per expectation, in the suite's order.

    A column that is missing, or holds the wrong kind of value, is reported once, not by every rule about it.
    """
    batch = context().data_sources.pandas_default.read_dataframe(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = batch.validate(suite, result_format="SUMMARY").results
    order = {_key(one): place for place, one in enumerate(suite.expectations)}
    results = sorted(results, key=lambda result: order.get(_key(result.expectation_config), len(order)))
    checks = [_check(result, frame, settings) for result in results if not _raised(result)]
    told = {one.column for one in checks if not one.success}
    for result in results:
        if _raised(result) and _column(result) not in told:
            told.add(_column(result))
            checks.append(_not_judged(result, frame, settings))
    return checks


def limits(suite: Any) -> tuple[Limits, dict[str, list]]:
    """Allowed range and allowed values per column: what every row must keep, so that the service can ask it too."""
    ranges: Limits = {}
    values: dict[str, list] = {}
    for one in suite.expectations:
        rule = one.configuration
        column, asked = rule.kwargs.get("column"), rule.kwargs
        if _severity(rule) != "critical" or asked.get("mostly", 1) != 1 or asked.get("row_condition"):
            continue
        if rule.type == "expect_column_values_to_be_between":
            ranges[column] = _narrowed(ranges.get(column, {"minimum": None, "maximum": None}), asked)
        elif rule.type == "expect_column_values_to_be_in_set":
            allowed = [value.item() if isinstance(value, np.generic) else value for value in asked["value_set"]]
            values[column] = [value for value in values.get(column, allowed) if value in allowed]
    return ranges, values


def _narrowed(before: dict[str, float | None], asked: dict[str, Any]) -> dict[str, float | None]:
    """A range made narrower by one more expectation; a strict bound stands under exclusive_minimum or exclusive_maximum."""
    after = dict(before)
    for side, name, choose in (("min", "minimum", max), ("max", "maximum", min)):
        key = f"exclusive_{name}" if asked.get(f"strict_{side}") else name
        limit = _tighter(choose, before.get(key), asked.get(f"{side}_value"))
        if limit is not None:
            after[key] = limit
    return after


def _tighter(choose: Callable[..., float], before: float | None, limit: Any) -> float | None:
    known = [value for value in (before, limit) if isinstance(value, int | float)]
    return choose(known) if known else None


def _key(rule: Any) -> str:
    rule = getattr(rule, "configuration", rule)
    asked = {key: value for key, value in rule.kwargs.items() if key != "batch_id"}
    return f"{rule.type} {sorted(asked.items(), key=str)}"


def _severity(rule: Any) -> Severity:
    return "critical" if str(getattr(rule.severity, "value", rule.severity)) == "critical" else "warning"


def _column(result: Any) -> str:
    asked = result.expectation_config.kwargs
    several = asked.get("column_list") or [asked[key] for key in ("column_A", "column_B") if key in asked]
    return asked.get("column") or ", ".join(several) or "(table)"


def _raised(result: Any) -> bool:
    raised = result.exception_info or {}
    return bool(raised.get("raised_exception", any(isinstance(one, dict) for one in raised.values())))


def _not_judged(result: Any, frame: pd.DataFrame, settings: Settings) -> DataCheck:
    column, rule = _column(result), result.expectation_config
    missing = [name for name in column.split(", ") if name not in frame and name != "(table)"]
    if missing:
        return DataCheck(column, _rule(rule), _severity(rule), False, f"column {missing[0]} is missing")
    if column in frame and not pd.api.types.is_numeric_dtype(frame[column]):
        observed = f"cannot be judged: the column holds {frame[column].dtype}, not numbers"
        strange = not_a_number(frame[column])
        return judged(frame, settings, column, _rule(rule), strange, _severity(rule), False, observed)
    return DataCheck(column, _rule(rule), _severity(rule), False, f"cannot be judged: {_message(result)}")


def _message(result: Any) -> str:
    raised = result.exception_info
    one = raised if "raised_exception" in raised else next(iter(raised.values()))
    return str(one["exception_message"]).strip().splitlines()[0][:200]


def _check(result: Any, frame: pd.DataFrame, settings: Settings) -> DataCheck:
    column, rule, seen = _column(result), result.expectation_config, result.result
    count = int(seen.get("unexpected_count") or 0)
    success = bool(result.success) or _text_as_expected(rule, frame)
    shown: list[dict[str, Any]] = []
    if column in frame and (count or not success):
        broken = _broken(rule, frame[column], seen)
        shown = examples(frame, settings.data.id, column, broken)
        count = count or int(broken.sum())
    observed = _observed(rule, seen, success)
    return DataCheck(column, _rule(rule), _severity(rule), success, observed, count, shown)


def _text_as_expected(rule: Any, frame: pd.DataFrame) -> bool:
    # Great Expectations compares with NumPy's types, and pandas' own type for text is none of them.
    types = {"str", "string", "object"} & set(rule.kwargs.get("type_list") or [])
    column = frame.get(rule.kwargs.get("column"))
    return bool(types) and column is not None and isinstance(column.dtype, pd.StringDtype)


def _broken(rule: Any, column: pd.Series, seen: dict) -> np.ndarray:
    """True for the rows that the result tells of, shape (n,)."""
    if rule.type == "expect_column_values_to_not_be_null":
        return column.isna().to_numpy()
    if rule.type in ("expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"):
        types = rule.kwargs.get("type_list") or [rule.kwargs["type_"]]
        text = {"str", "object", "string", "category"} & set(types)
        return np.zeros(len(column), dtype=bool) if text else not_a_number(column)
    odd = [value for value in seen.get("partial_unexpected_list") or [] if pd.api.types.is_scalar(value)]
    return column.isin(odd).to_numpy()


def _observed(rule: Any, seen: dict, success: bool) -> str:
    odd = _short(seen.get("partial_unexpected_list") or [])
    if rule.type == "expect_table_columns_to_match_set":
        wrong = seen.get("details", {}).get("mismatched", {})
        said = [f"{kind}: {', '.join(map(str, names))}" for kind, names in wrong.items() if names]
        return "; ".join(said) or f"{len(seen['observed_value'])} columns"
    if rule.type == "expect_column_kl_divergence_to_be_less_than":
        return _shares(seen.get("details", {}).get("observed_partition") or {}) or "no such shares"
    if "partial_missing_list" in seen:
        absent = _short(seen["partial_missing_list"])
        said = [f"{word}: {values}" for word, values in (("never", absent), ("also", odd)) if values]
        return "; ".join(said) or "these"
    if seen.get("observed_value") is not None:
        return _short(seen["observed_value"])
    if rows := seen.get("element_count"):
        count = seen["unexpected_count"]
        return f"{count} of {rows} rows ({count / rows:.1%})" if count else "every row"
    return "as expected" if success else odd or "not so"


def _rule(rule: Any) -> str:
    asked = {key: _short(value) for key, value in rule.kwargs.items() if key != "batch_id"}
    asked["shares"] = _shares(rule.kwargs.get("partition_object") or {})
    asked["range"] = _range(rule.kwargs)
    mostly = rule.kwargs.get("mostly", 1)
    most = "" if mostly == 1 else f" in at least {mostly:.1%} of rows"
    if rule.type in _RULES:
        return _RULES[rule.type].format_map(asked) + most
    words = rule.type.removeprefix("expect_").removeprefix("column_").replace("_", " ")
    rest = {key: value for key, value in rule.kwargs.items() if key not in ("batch_id", "column", "mostly")}
    return words + (f" ({', '.join(f'{key} {_short(value)}' for key, value in rest.items())})" if rest else "") + most


def _range(asked: dict[str, Any]) -> str:
    low, high = asked.get("min_value"), asked.get("max_value")
    above, below = asked.get("strict_min"), asked.get("strict_max")
    if low is not None and high is not None and not above and not below:
        return f"between {_short(low)} and {_short(high)}"
    said = [f"{'above' if above else 'at least'} {_short(low)}"] if low is not None else []
    said += [f"{'below' if below else 'at most'} {_short(high)}"] if high is not None else []
    return " and ".join(said)


def _shares(partition: dict) -> str:
    pairs = zip(partition.get("values", []), partition.get("weights", []), strict=False)
    return ", ".join(f"{value} {weight:.0%}" for value, weight in pairs)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple | set):
        values = [str(plain(one)) for one in value]
        return ", ".join(values[:6]) + (", …" if len(values) > 6 else "")
    value = plain(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
