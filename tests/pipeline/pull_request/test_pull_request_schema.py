"""A report that a stranger may have written is read only when it is exactly what our own stage writes."""

import json
import os

import pytest
from pull_requests import plain

from pipeline.errors import StageError
from pipeline.pull_request import schema


def spoilt(place, value):
    """A report with one value replaced, as bytes."""
    found = plain()
    *way, key = place
    part = found
    for step in way:
        part = part[step]
    part[key] = value
    return json.dumps(found).encode()


def test_a_report_of_our_own_is_read_back():
    """What pr-report writes, pr-comment accepts, to the last digit."""
    assert schema.parsed(json.dumps(plain()).encode()).model_dump() == plain()


METRIC, SLICE = ("evaluation", "metrics", 0), ("evaluation", "slices", 0)
CONTROL = ["\n", "\r", "\t", "\0", "\x1b[31m", "\x7f", "\u2028", "\u2029", "\u200b", "\ufeff"]
TURNING = ["\u202e", "\u202d", "\u2066", "\u2069", "\u200f", "\u061c"]
VALUES = [
    (("format",), 2),
    (("format",), "1"),
    (("format",), True),
    (("number",), "12"),
    (("number",), 12.5),
    (("number",), 0),
    (("number",), -1),
    (("number",), 10**12),
    (("number",), True),
    (("head",), "main"),
    (("head",), "a" * 40 + "\n"),
    (("head",), "A" * 40),
    (("head",), "a" * 41),
    (("name",), "a`b"),
    (("name",), "breast-cancer\n## Accepted"),
    (("name",), ""),
    (("failed_stage",), "rm -rf"),
    (("failures",), ["x"] * 21),
    (("failures",), "x"),
    (("link",), "x" * 500),
    (("production_unknown",), "no"),
    (("production_unknown",), 0),
    (("surprise",), 1),
    (("evaluation", "surprise"), "<b>"),
    (("evaluation", "verdict"), "accepted"),
    (("evaluation", "verdict"), ["accept"]),
    (("evaluation", "reasons"), ["x" * 401]),
    (("evaluation", "reasons"), ["x"] * 21),
    (("evaluation", "rows"), 1.5),
    (("evaluation", "rows"), -1),
    (("evaluation", "confidence"), 95),
    (("evaluation", "production", "version"), "1](http://evil.example)"),
    (("evaluation", "production", "version"), 1),
    (("evaluation", "next_version"), 10**400),
    (("evaluation", "metrics"), [plain()["evaluation"]["metrics"][0]] * 61),
    (("evaluation", "slices"), {"0": 1}),
    ((*METRIC, "candidate"), "0.9"),
    ((*METRIC, "candidate"), 10**400),
    ((*METRIC, "metric"), "x" * 121),
    ((*METRIC, "metric"), None),
    ((*METRIC, "higher_is_better"), 1),
    ((*SLICE, "slice"), {"$ref": "x"}),
    ((*SLICE, "slice"), "\ud800"),
    (("data", "change", "drift", 0, "psi"), -0.1),
    (("data", "change", "drift", 0, "missing"), {"before": 2.0, "now": 0.0}),
    (("data", "failed", 0, "severity"), "none"),
]


@pytest.mark.parametrize(("place", "value"), VALUES)
def test_a_value_of_another_form_is_refused(place, value):
    """Numbers as text, unknown keys and words, too long, too many, out of range: one of them is enough."""
    with pytest.raises(StageError, match=r"holds no valid report|not plain JSON"):
        schema.parsed(spoilt(place, value))


@pytest.mark.parametrize("sign", CONTROL + TURNING)
@pytest.mark.parametrize("place", [(*SLICE, "slice"), ("evaluation", "reasons", 0), ("data", "failed", 0, "observed")])
def test_what_controls_or_turns_text_is_refused(place, sign):
    """No line break, escape, invisible character or change of direction comes in, in a name as in a sentence."""
    with pytest.raises(StageError, match="holds no valid report"):
        schema.parsed(spoilt(place, f"fine{sign}text"))


OWN = json.dumps(plain())
TEXTS = {
    "nothing": b"",
    "no object": b"[1]",
    "null": b"null",
    "words": b"## Accepted",
    "cut": OWN[:-2].encode(),
    "two": (OWN + OWN).encode(),
    "NaN": OWN.replace('"confidence": 0.95', '"confidence": NaN').encode(),
    "infinity": OWN.replace('"confidence": 0.95', '"confidence": -Infinity').encode(),
    "1e999": OWN.replace('"confidence": 0.95', '"confidence": 1e999').encode(),
    "twice": OWN.replace('"format": 1', '"format": 1, "format": 1').encode(),
    "twice inside": OWN.replace('"verdict":', '"verdict": "keep", "verdict":').encode(),
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "long number": OWN.replace('"format": 1', '"format": ' + "1" * 5000).encode(),
    "latin": OWN.replace("mean_radius", "größe").encode("latin-1") + b"\xff",
    "utf-16": OWN.encode("utf-16"),
    "mark": b"\xef\xbb\xbf" + OWN.encode(),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_not_plain_json_is_refused(name):
    """Not JSON, JSON with NaN or a key twice, nested without end, another encoding: refused in words."""
    with pytest.raises(StageError) as refused:
        schema.parsed(TEXTS[name])
    assert "build/incoming holds" in refused.value.what and refused.value.then


def test_a_refusal_repeats_nothing_of_the_report():
    """What a stranger wrote does not come into our log: not a value, not a key."""
    for place, value in ((("::error::x",), 1), (("evaluation", "verdict"), "::set-output")):
        with pytest.raises(StageError) as refused:
            schema.parsed(spoilt(place, value))
        assert "::" not in refused.value.what


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.fixture
def incoming(tmp_path):
    """A folder with a good report in it."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    (folder / schema.NAME).write_text(OWN, encoding="utf-8")
    return folder


def test_a_folder_with_one_report_is_read(incoming):
    """One file of the right name is a report."""
    assert schema.read(incoming).name == "breast-cancer"


def test_no_folder_or_an_empty_one_is_no_report(tmp_path):
    """A run that left nothing is no error."""
    assert schema.read(tmp_path / "none") is None
    (tmp_path / "empty").mkdir()
    assert schema.read(tmp_path / "empty") is None


@pytest.mark.parametrize("name", ["comment.md", ".hidden", "..\\..\\x", "pull_request.json.md", "ﬁle"])
def test_another_file_beside_it_is_refused(incoming, name):
    """Nothing comes along with the report."""
    (incoming / name).write_text("x", encoding="utf-8")
    with pytest.raises(StageError, match="something else"):
        schema.read(incoming)


@pytest.mark.parametrize("name", ["Pull_request.json", "pull_request.md", "sub/pull_request.json"])
def test_another_name_is_refused(incoming, name):
    """A report of another name, or in a folder further down, is none."""
    (incoming / "sub").mkdir()
    (incoming / schema.NAME).rename(incoming / name)
    with pytest.raises(StageError, match="something else"):
        schema.read(incoming)


def test_links_are_refused(incoming, tmp_path):
    """A symbolic or a hard link to a good report elsewhere, and a folder that is a link, are refused."""
    (incoming / schema.NAME).rename(tmp_path / "good.json")
    (incoming / schema.NAME).symlink_to(tmp_path / "good.json")
    with pytest.raises(StageError, match="not a file"):
        schema.read(incoming)
    (incoming / schema.NAME).unlink()
    (incoming / schema.NAME).hardlink_to(tmp_path / "good.json")
    with pytest.raises(StageError, match="not a file"):
        schema.read(incoming)
    (tmp_path / "other").symlink_to(incoming)
    with pytest.raises(StageError, match="no folder"):
        schema.read(tmp_path / "other")


def test_a_folder_or_a_pipe_in_its_place_is_refused(incoming):
    """What is no regular file is not even opened."""
    (incoming / schema.NAME).unlink()
    (incoming / schema.NAME).mkdir()
    with pytest.raises(StageError, match="not a file"):
        schema.read(incoming)
    (incoming / schema.NAME).rmdir()
    os.mkfifo(incoming / schema.NAME)
    with pytest.raises(StageError, match="not a file"):
        schema.read(incoming)


def test_a_huge_report_is_refused_unread(incoming):
    """More than 256 kB are no report, whatever they hold."""
    (incoming / schema.NAME).write_text(OWN + " " * schema.MOST_BYTES, encoding="utf-8")
    with pytest.raises(StageError, match="more than 256,000 bytes"):
        schema.read(incoming)
