"""Numbers and dates that stand in the data as text, and what to write in load() so that pandas reads them as what they are."""

import re
from dataclasses import dataclass

import pandas as pd

MOST = 0.9  # share of the values that must be of one form: a few may be "n/a"
LOOKED_AT = 1000  # values

_CURRENCY = r"[€$£¥₹]|EUR|USD|GBP|CHF"
_SIGNS = re.compile(rf"^(?P<sign>[+-]?)\s*(?:{_CURRENCY})?\s*(?P<number>[+-]?\d.*?)\s*(?:{_CURRENCY}|[%‰])?$")
_SPACES = " \u00a0\u202f"  # plain, no-break, and the narrow one of French numbers
# How thousands and decimals may be set apart: thousands sign, decimal sign, and the number as a pattern.
_FORMS = [
    (thousands, decimal, re.compile(rf"[+-]?(\d+|[1-9]\d{{0,2}}({re.escape(thousands)}\d{{3}})+)({re.escape(decimal)}\d+)?"))
    for thousands, decimal in [
        (".", ","), (",", "."), *((space, decimal) for space in _SPACES for decimal in ",."), ("'", "."), ("’", "."),
    ]
]  # fmt: skip
_ISO = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}([T ]\d{1,2}:\d\d.*)?")
_DATE = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d\d)( \d{1,2}:\d\d.*)?")


@dataclass(frozen=True)
class Written:
    """What the text of a column is, and the remedy; `pattern` matches the values that are of that form."""

    what: str
    remedy: str


def recognise(name: str, column: pd.Series) -> Written | None:
    """What the text in a column really is, or None when it is text; numbers that pandas can read are not looked for."""
    values = [value.strip() for value in column.dropna().iloc[:LOOKED_AT].astype(str) if value.strip()]
    if not values:
        return None
    return _dates(name, values) or _numbers(name, values)


def _share(values: list[str], pattern: re.Pattern) -> float:
    return sum(bool(pattern.fullmatch(value)) for value in values) / len(values)


def _dates(name: str, values: list[str]) -> Written | None:
    then = f'then frame[{name!r}] = (frame[{name!r}] - pd.Timestamp("2000-01-01")).dt.days makes it a number'
    if _share(values, _ISO) > MOST:
        return Written("dates", f"add parse_dates=[{name!r}] to pd.read_csv; {then}")
    parts = [match for match in map(_DATE.fullmatch, values) if match]
    if len(parts) / len(values) <= MOST:
        return None
    first, second = (max(int(match[group]) for match in parts) for group in (1, 3))
    if first > 12 and second > 12:
        return None
    if first <= 12 and second <= 12 and parts[0][2] != ".":
        what = f"dates, and {values[0]!r} may begin with the day or the month"
        return Written(what, f"add parse_dates=[{name!r}] to pd.read_csv, with dayfirst=True if it is the day; {then}")
    if second > 12:
        return Written("dates that begin with the month", f"add parse_dates=[{name!r}] to pd.read_csv; {then}")
    what = "dates that begin with the day"
    return Written(what, f"add parse_dates=[{name!r}], dayfirst=True to pd.read_csv; {then}")


def _numbers(name: str, values: list[str]) -> Written | None:
    bare = [match["sign"] + match["number"] if (match := _SIGNS.fullmatch(value)) else "" for value in values]
    shares = [
        (sum(bool(pattern.fullmatch(one)) for one in bare) / len(bare), at) for at, (*_, pattern) in enumerate(_FORMS)
    ]
    share, at = max(shares, key=lambda pair: (pair[0], -pair[1]))
    if share <= MOST:
        return None
    thousands, decimal, pattern = _FORMS[at]
    used = [one for one in bare if pattern.fullmatch(one)]
    has_thousands, has_decimal = (any(sign in one for one in used) for sign in (thousands, decimal))
    signs = sorted({sign for value in values for sign in re.findall(rf"{_CURRENCY}|[%‰]", value)})
    if signs:
        return Written(f"numbers with {', '.join(signs)}", _by_hand(name, thousands if has_thousands else "", decimal))
    english = (",", ".", _FORMS[1][2])
    if decimal == "," and has_decimal and not has_thousands and all(english[2].fullmatch(one) for one in used):
        what = f"numbers, and the comma of {next(one for one in used if ',' in one)!r} may be for decimals or thousands"
        return Written(what, 'add decimal="," or thousands="," to pd.read_csv')
    arguments = (
        [f'decimal="{decimal}"'] if (has_decimal and decimal == ",") or (has_thousands and thousands == ".") else []
    )
    arguments += [f"thousands={_quoted(thousands)}"] if has_thousands else []
    if not arguments:
        return None
    words = ["decimal commas"] if has_decimal and decimal == "," else []
    words += [f"{_quoted(thousands)} between thousands"] if has_thousands else []
    if has_thousands and not thousands.isascii():  # pandas takes a thousands sign of one byte only
        return Written(f"numbers with {' and '.join(words)}", _by_hand(name, thousands, decimal))
    return Written(f"numbers with {' and '.join(words)}", f"add {', '.join(arguments)} to pd.read_csv")


def _by_hand(name: str, thousands: str, decimal: str) -> str:
    """The line that leaves only digits, the sign and a decimal point; a column without decimals is read as well."""
    cut = f"[^0-9{decimal}+-]" if thousands or decimal == "," else "[^0-9.+-]"
    line = f'frame[{name!r}].str.replace(r"{cut}", "", regex=True)'
    line += '.str.replace(",", ".")' if decimal == "," else ""
    return f"in load(): frame[{name!r}] = pd.to_numeric({line})"


def _quoted(sign: str) -> str:
    return f'"{sign}"' if sign.isascii() else '"' + sign.encode("unicode_escape").decode() + '"'
