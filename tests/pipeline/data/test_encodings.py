"""Files read with the wrong encoding or separator are told with the argument that reads them."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data import dataset
from pipeline.errors import DataError

TABLE = pd.DataFrame({"id": ["c1", "c2"], "größe": [1.5, 2.5], "stadt": ["Köln", "Bonn"], "y": ["ja", "nein"]})

# Bytes of the file, how load() reads it, what is said, what to do.
FILES = {
    "UTF-16": ({"encoding": "utf-16"}, "", "UTF-16", 'encoding="utf-16"'),
    "cp1252": ({"encoding": "cp1252"}, "", "reads well as cp1252", 'encoding="cp1252"'),
    "UTF-16 read as latin-1": ({"encoding": "utf-16"}, 'encoding="latin-1", sep="\\t"', "UTF-16", 'encoding="utf-16"'),
    "UTF-16 without its mark": (
        {"encoding": "utf-16-le", "columns": ["id", "y"]},
        "",
        "UTF-16",
        'encoding="utf-16-le"',
    ),
    "UTF-8's mark": ({"encoding": "utf-8-sig"}, 'encoding="cp1252"', "mark of UTF-8", 'encoding="utf-8-sig"'),
    "semicolons": ({"sep": ";"}, "", "separated by ';'", 'sep=";"'),
    "semicolons and decimal commas": ({"sep": ";", "decimal": ","}, "", "separated by ';'", 'sep=";"'),
    "tabs": ({"sep": "\t"}, "", "separated by '\\t'", 'sep="\\t"'),
    "not of the encoding": ({}, 'encoding="utf-16"', "not of the encoding that load() names", "name the right one"),
}


@pytest.fixture
def load(monkeypatch, tmp_path):
    """A function that has load() read a file of these bytes with these arguments; returns the frame."""

    def read(content, arguments=""):
        (tmp_path / "data.csv").write_bytes(content)
        code = f"lambda: pd.read_csv({str(tmp_path / 'data.csv')!r}, {arguments})"
        monkeypatch.setattr("project.data.load", eval(code, {"pd": pd}))
        return dataset.read_frame()

    return read


@pytest.mark.parametrize("case", FILES)
def test_argument_that_reads_the_file_is_named(load, tmp_path, case):
    """The encoding or the separator of a file that load() reads wrongly is named, and with it the table is right."""
    written, arguments, what, then = FILES[case]
    TABLE.to_csv(tmp_path / "written.csv", index=False, **written)
    content = (tmp_path / "written.csv").read_bytes()
    with pytest.raises(DataError) as caught:
        load(content, arguments)
    assert what in caught.value.what and then in caught.value.then


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"\x1f\x8b\x08\xff", "gzip"), (b"PK\x03\x04\xff", "Excel workbook"), (b"PAR1\xff", "Parquet")],
)
def test_file_that_is_no_text_is_named(load, content, what):
    """A compressed file, a workbook or a Parquet file is called that."""
    with pytest.raises(DataError, match=what):
        load(content)


def test_ragged_lines_may_be_another_separator(load):
    """Where lines have more fields than the header, the separator and the decimal comma are named as a way out."""
    with pytest.raises(DataError) as caught:
        load(b"id;a;y\nc1;1,5;ja\nc2;2,5,5;nein\n")
    assert 'sep=";"' in caught.value.then and 'decimal=","' in caught.value.then


def test_id_in_the_index_is_told(load):
    """An id column that became the index is found there, with what to do."""
    frame = load(TABLE.to_csv(index=False).encode(), "index_col='id'")
    assert dataset.index_names(frame) == ["id"]
    from tests.pipeline.data.test_dataset import settings

    with pytest.raises(DataError) as caught:
        dataset.take_apart(frame, settings())
    assert "id is the frame's index: remove index_col" in caught.value.then


@pytest.mark.parametrize("column", list(TABLE))
def test_half_a_character_is_named(monkeypatch, column):
    """Text that no UTF-8 can carry is refused with its column and row, in whatever column; other objects are let through."""
    values = pd.Series([None, "b\ud800"], dtype=object)
    monkeypatch.setattr("project.data.load", lambda: TABLE.assign(**{column: values}))
    with pytest.raises(DataError, match=f"column '{column}' holds half of a character in row 2"):
        dataset.read_frame()
    monkeypatch.setattr("project.data.load", lambda: TABLE.assign(**{column: pd.Series([1, [2]], dtype=object)}))
    dataset.read_frame()


def test_good_files_are_read(load):
    """A plain file, one with the mark of UTF-8, and one of a single column are let through."""
    for content in (TABLE.to_csv(index=False).encode(), TABLE.to_csv(index=False).encode("utf-8-sig")):
        assert list(load(content)) == list(TABLE)
    assert list(load(b"x\n1\n2\n")) == ["x"]
    assert np.isclose(load(TABLE.to_csv(index=False).encode())["größe"].sum(), 4)
