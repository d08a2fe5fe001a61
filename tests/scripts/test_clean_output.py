"""What the team's own code and the libraries print does not get into the JSON of a verb."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PRINTS = """
print("data.py was imported")
def load():
    print("reading the customers")
    return pd.read_csv("data.csv")
"""


@pytest.fixture
def talkative(scratch):
    """A project that prints when it is imported, when it reads data, and when it builds a model."""
    scratch.edit("project/data.py", 'def load():\n    return pd.read_csv("data.csv")\n', PRINTS)
    scratch.edit("project/model.py", "    numbers =", '    print("building")\n    numbers =')
    return scratch


@pytest.mark.parametrize(
    ("verb", "file"), [("validate_data", "data"), ("validate_model", "model_checks"), ("try_models", "models")]
)
def test_json_of_a_verb_is_all_that_it_prints(talkative, mlflow_client, verb, file):
    """The rest is on standard error."""
    if verb == "try_models":
        talkative.edit("pipeline.toml", "[gate]", "[search]\nfolds = 2\n[gate]")
    status, out, err = talkative.run(verb, "--json")
    assert status == 0, err
    assert json.loads(out) == json.loads((talkative.root / f"build/{file}.json").read_text(encoding="utf-8"))
    assert "reading the customers" in err


def test_table_of_formats_is_all_that_is_printed(two):
    """The progress and what project/ prints are on standard error."""
    two.edit("project/model.py", "def build(", 'print("model.py was imported")\n\n\ndef build(')
    done = two.run("-m", "scripts.compare_formats", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((two.root / "build/formats.json").read_text(encoding="utf-8"))
    assert {one["name"] for one in json.loads(done.stdout)["formats"]} >= {"pickle", "skops", "ONNX"}
    assert "model.py was imported" in done.stderr and (two.root / "build/formats.png").exists()


def test_programs_and_libraries_in_c_are_kept_from_standard_output_too():
    """Only what is printed outside the block is on it."""
    code = """
import os, subprocess
from pipeline.standard_output import kept_clean
print("before", flush=True)
with kept_clean():
    print("python")
    os.write(1, b"library\\n")
    subprocess.run(["echo", "program"], check=True)
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "after"]
    assert sorted(done.stderr.split()) == ["library", "program", "python"]
