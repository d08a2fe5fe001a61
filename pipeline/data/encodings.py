"""Text files that are read with the wrong encoding or separator: which they are, and the argument that reads them."""

from collections.abc import Iterable

# How a file that is no text begins.
_KINDS = {
    b"\x1f\x8b": ("compressed (gzip)", 'end its name in .gz, or add compression="gzip" to pd.read_csv'),
    b"PK\x03\x04": ("an Excel workbook or a ZIP archive", "read it with pd.read_excel, or unpack it"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save it as CSV, or read it with pd.read_excel"),
    b"PAR1": ("a Parquet file", "read it with pd.read_parquet"),
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = (";", "\t", "|")


def of_bytes(raw: bytes, at: int) -> tuple[str, str]:
    """What a file is that is not UTF-8, and what to do, from its bytes and the place where reading failed."""
    for start, (what, then) in _KINDS.items():
        if raw.startswith(start):
            return f"is not UTF-8 text, but {what}", then
    if raw.startswith(_UTF16):
        return "is not UTF-8 text, but UTF-16", 'add encoding="utf-16" to pd.read_csv in project/data.py'
    near = raw[max(0, at - 15) : at + 15]
    try:
        word = max(near.decode("cp1252").replace("\n", ",").split(","), key=lambda part: not part.isascii())
        legible = all(sign.isprintable() for sign in near.decode("cp1252") if sign not in "\r\n\t")
    except UnicodeDecodeError:
        legible = False
    if not legible:
        return f"is not UTF-8 text (byte {at}): is it a table at all?", ""
    return (
        f"is not UTF-8 text (byte {at}), but reads well as cp1252, the encoding of Windows ({word.strip()!r})",
        'add encoding="cp1252" to pd.read_csv in project/data.py; for another encoding, its name',
    )


def misread(names: Iterable[str]) -> tuple[str, str]:
    """What is wrong with a table by the names of its columns, and what to do; ("", "") when nothing is."""
    names = list(names)
    then = "in project/data.py"
    if names and names[0].startswith(("ÿþ", "þÿ")):
        return "the data file is UTF-16, read as something else", f'add encoding="utf-16" to pd.read_csv {then}'
    if any("\0" in name for name in names):
        return "the column names hold zeros: the data file is UTF-16", f'add encoding="utf-16-le" to pd.read_csv {then}'
    if names and names[0].startswith(("\ufeff", "ï»¿")):
        what = f"the first column is called {names[0]!r}: the mark of UTF-8 was read as text"
        return what, f'add encoding="utf-8-sig" to pd.read_csv {then}'
    if len(names) == 1:
        for sign in _SEPARATORS:
            if sign in names[0]:
                what = f"the data has one column, {names[0][:60]!r}: its columns are separated by {sign!r}"
                return what, f"add sep={_quoted(sign)} to pd.read_csv {then}"
    return "", ""


def as_utf8(text: str) -> str:
    """What a text says when it is UTF-8 that was read as cp1252 or latin-1 ("KÃ¶ln": "Köln"); "" when it is not."""
    if text.isascii():
        return ""
    for encoding in ("cp1252", "latin-1"):
        try:
            return text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return ""


def _quoted(sign: str) -> str:
    return '"\\t"' if sign == "\t" else f'"{sign}"'
