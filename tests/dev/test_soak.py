"""The soak: a service is asked on and on while it is restarted and replaced, and its log is compared with the answers."""

import json
import subprocess
import sys

import pytest

from dev.soak import verdict
from tests.serving.bundles import make_bundle
from tests.serving.service import ROOT

GOOD = {"answers": {"200": 5}, "lost": 0, "records": 5, "records_match": True, "versions": {"1": 2, "2": 3}}


def _soak(*options):
    command = [sys.executable, "-m", "dev.soak", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_small_soak_loses_nothing(tmp_path):
    """Restarts, a new version and SIGTERM in between: every request is answered, and every answer is in the log once."""
    done = _soak("--bundle", make_bundle("binary", tmp_path / "bundle"), "--requests", 4000, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["requests"] >= 4000
    assert found["answers"] == {"200": found["requests"]}
    assert (found["lost"], found["records"], found["records_match"]) == (0, found["requests"], True)
    assert set(found["versions"]) == {"3", "3-next"}
    assert [event.split(" after")[0] for event in found["events"]] == ["SIGHUP", "next version", "SIGHUP", "restart"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lost": 1}, "1 requests got no answer"),
        ({"answers": {"200": 5, "500": 1}}, "{'500': 1}"),
        ({"records": 4}, "4 records for 5 answers"),
        ({"records_match": False}, "5 records for 5 answers"),
        ({"versions": {"1": 5}}, "versions that answered: 1"),
    ],
)
def test_what_must_not_be_is_named(change, words):
    """A lost request, another answer, a missing record or a version that never served fail the soak."""
    assert verdict(GOOD) == []
    assert words in "; ".join(verdict(GOOD | change))


def test_without_a_bundle_it_says_what_to_do(tmp_path):
    """No bundle is one line and exit status 1."""
    done = _soak("--bundle", tmp_path / "none")
    assert done.returncode == 1
    assert "make register" in done.stderr and "Traceback" not in done.stderr
