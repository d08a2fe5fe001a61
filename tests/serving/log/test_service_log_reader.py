"""Reading the prediction log, as columns and as lines of JSON."""

import json
import math
import os
import subprocess
import sys
from contextlib import closing

import pytest

from serving.log import reader
from serving.log.blocks import Prediction, Source, compress, frame_of
from serving.log.reader import outcomes_of, read_blocks
from serving.log.store import Outcome, Store, StoreError
from tests.serving.service import ROOT

ONE = Prediction("a", 1.0, "caller", None, "served", 1, 0.25, b'[[1.5,"x"]]', b'[{"value":2.0}]')


def _export(url, *options, reader=None):
    environment = {**os.environ, "SLIPWAY_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "serving.log.export", *options]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=reader or subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )


def test_requests_of_a_time_are_read(url):
    """From `since` on and before `until`, also where a block has others, and whatever the size of a page."""
    with closing(Store(url, "cars", "3")) as store:
        for start in range(0, 60, 3):
            store.insert([ONE._replace(request_id=f"r{at}", time=float(at)) for at in range(start, start + 3)])
        for page, blocks in ((1, 500), (4_000_000, 2), (4_000_000, 500)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(reader, "PAGE", page)
                patch.setattr(reader, "BLOCKS", blocks)
                found = [name for block in read_blocks(store, 7.0, 50.0) for name in block.request_ids]
            assert found == [f"r{at}" for at in range(7, 50)]
        assert list(read_blocks(store, 60.0, math.inf)) == []


def test_outcomes_are_found_by_request_and_row(url, monkeypatch):
    """With when they were last sent, and how often; of other requests none."""
    monkeypatch.setattr(reader, "ASKED", 2)
    with closing(Store(url)) as store:
        store.insert([], [Outcome(name, 0, '"yes"', 1.0, "c") for name in "abcd"])
        store.insert([], [Outcome("a", 1, "2.5", 3.0, "c"), Outcome("b", 0, '"no"', 4.0, "c")])
        assert outcomes_of(store, ["a", "b", "c", "unknown"]) == {
            ("a", 0): ('"yes"', 1.0, 1, None, None),
            ("a", 1): ("2.5", 3.0, 1, None, None),
            ("b", 0): ('"no"', 4.0, 2, None, None),
            ("c", 0): ('"yes"', 1.0, 1, None, None),
        }
        assert outcomes_of(store, []) == {}


def test_damaged_block_is_named(url):
    """A block that cannot be read is an error in words, for readers and for who deletes."""
    with closing(Store(url)) as store:
        store.insert([ONE])
        ((number,),) = store.query("SELECT id FROM prediction_blocks")
        for piece in (b"nothing", compress(b"\xc0")):
            store.write([("UPDATE prediction_blocks SET about = ? WHERE id = ?", (piece, number))])
            for work in (lambda: list(read_blocks(store, 0, 9)), lambda: store.delete_subject("me")):
                with pytest.raises(StoreError, match=f"block {number} of the table prediction_blocks is damaged"):
                    work()


def test_export_prints_a_line_per_request(url):
    """All fields, times in UTC, and the outcomes of each; features are on that line however their caller wrote them."""
    with closing(Store(url, "cars", "3")) as store:
        store.insert(
            [
                ONE._replace(time=1_767_225_600.25, subject="s", features=b'[\n[1.5, "x"]\r\n]'),
                ONE._replace(request_id="later", time=1_767_312_000.0),
            ]
        )
        store.insert([], [Outcome("a", 0, '"yes"', 1_767_400_000.0, "c")])
    done = _export(url, "--since", "2026-01-01", "--until", "2026-01-02")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {
            "request_id": "a",
            "time": "2026-01-01T00:00:00.250+00:00",
            "caller": "caller",
            "subject": "s",
            "role": "served",
            "rows": 1,
            "features": [[1.5, "x"]],
            "answers": [{"value": 2.0}],
            "latency_ms": 0.25,
            "model": "cars",
            "model_version": "3",
            "experiment": "",
            "variant": "",
            "outcomes": [{"row": 0, "outcome": "yes", "time": "2026-01-03T00:26:40.000+00:00", "sent": 1}],
        }
    ]


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("", [], "error: SLIPWAY_DATABASE_URL is not set"),
        ("sqlite:////proc/no/log.db", [], "error: "),
        ("sqlite:///log.db", ["--since", "yesterday"], "error: argument --since: 'yesterday' is no date"),
    ],
)
def test_export_that_cannot_be_made_fails_in_words(url, options, words):
    """It says what is wrong, prints nothing else, and is no traceback."""
    done = _export(url, *options)
    assert done.returncode and not done.stdout
    assert words in done.stderr and "Traceback" not in done.stderr


def test_export_ends_quietly_when_nobody_reads_on(tmp_path):
    """As in `… | head -1`."""
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url)) as store:
        store.insert([ONE] * 3)
    reading, writing = os.pipe()
    os.close(reading)
    done = _export(url, reader=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_export_has_the_value_and_the_variant(tmp_path):
    """With when the value was sent; of a request without one there is no such field."""
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url)) as store:
        store.insert_block([frame_of([ONE])], Source("cars", "4", "new-trees", "B"))
        store.insert([], [Outcome("a", 0, "null", 1_767_225_600.0, "c", 2.5)])
    (line,) = map(json.loads, _export(url).stdout.splitlines())
    assert [line[name] for name in ("model_version", "experiment", "variant")] == ["4", "new-trees", "B"]
    at = "2026-01-01T00:00:00.000+00:00"
    assert line["outcomes"] == [{"row": 0, "outcome": None, "time": at, "sent": 0, "value": 2.5, "value_time": at}]
