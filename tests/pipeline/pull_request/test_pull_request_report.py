"""The report on a pull request is made of what the stages left, and a stage that failed is part of it."""

import json

import pytest
from msgspec.structs import replace
from pull_requests import CHANGE, write_stages

from pipeline import artifacts
from pipeline.experiments import paired
from pipeline.experiments.replay import result
from pipeline.experiments.replay.result import Replay
from pipeline.pull_request import comment, report, schema
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import snapshot
from pipeline.settings import load_settings
from tests.pipeline.evaluation.evaluations import DATA, RUN, evaluation


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build folder of its own, outside of any workflow and without an MLflow."""
    monkeypatch.setattr(artifacts, "BUILD", tmp_path / "build")
    monkeypatch.setattr(mlflow_server, "HOME", tmp_path / ".mlflow")
    for name in ("GITHUB_EVENT_PATH", "GITHUB_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "build"


def document():
    """The report on the build folder, read back as a stranger's would be."""
    made = report.document(load_settings("tests/example/pipeline.toml"))
    assert schema.parsed(json.dumps(made.model_dump()).encode()) == made
    return made


def test_after_all_stages_the_report_holds_what_was_found(build):
    """Verdict, production, metrics, slices, limits, checks, data and drift are the evaluation's own."""
    one = evaluation("binary")
    write_stages(build, one)
    found = document()
    assert found.failed_stage is None and found.evaluation.verdict == one["verdict"]
    assert found.evaluation.production.version == "3" and found.evaluation.next_version == 4
    assert [row.candidate for row in found.evaluation.metrics] == [row["candidate"] for row in one["metrics"]]
    assert found.data.change.model_dump() == CHANGE
    assert (found.data.rows, found.data.passed, len(found.data.failed)) == (569, 1, 2)
    assert found.data.failed[0].severity == "critical"


def test_a_replay_of_this_build_is_in_the_report(build):
    """Its figures, or why there is none; that of another build is left out, and so is a damaged one."""
    one = paired.Paired(metric="log_loss", higher_is_better=False, confidence=0.95, rows=90, agreement=0.9, outcomes=50,
                        subjects=9, a=0.2, b=0.1, difference=-0.1, lower=-0.2, upper=-0.05)  # fmt: skip
    found = Replay(
        name="x", environment="production", challenger="the candidate", digest="m" * 64, days=7, rows=90, paired=one
    )
    write_stages(build)
    assert document().replay is None
    result.write(build, found)
    told = document().replay
    assert (told.rows, told.agreement, told.outcomes, told.candidate, told.upper) == (90, 0.9, 50, 0.1, -0.05)
    result.write(build, replace(found, paired=None, rows=0, note="the log\ncannot be reached"))
    assert document().replay.note == "the log cannot be reached"
    result.write(build, replace(found, digest="o" * 64))
    assert document().replay is None
    (build / result.NAME).write_text("{")
    assert document().replay is None


@pytest.mark.parametrize(
    ("files", "stage", "failures"),
    [
        ({"data": None}, "validate", 0),
        ({"data": DATA | {"success": False}}, "validate", 1),
        ({"model_checks": None}, "validate-model", 0),
        (
            {
                "model_checks": {
                    "success": False,
                    "checks": [
                        {"check": "beats a dummy", "success": False, "observed": "0.5"},
                        {"check": "same seed", "success": True, "observed": ""},
                    ],
                }
            },
            "validate-model",
            1,
        ),
        ({"run": None}, "train", 0),
        ({"run": RUN | {"model_digest": "m" * 64, "data_hash": "e" * 64}}, "train", 0),
        ({"evaluation": None}, "evaluate", 0),
        ({"run": RUN | {"model_digest": "n" * 64}}, "evaluate", 0),
    ],
)
def test_the_first_stage_that_failed_is_named(build, files, stage, failures):
    """Missing, failed, of other data or of another build: then there is no verdict, and an older one is not believed."""
    write_stages(build, **files)
    found = document()
    assert (found.failed_stage, len(found.failures), found.evaluation) == (stage, failures, None)


def test_nothing_at_all_is_still_a_report(build):
    """When the first step already failed, the report says so."""
    found = document()
    assert found.failed_stage == "validate" and found.data is None


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
def test_a_damaged_file_counts_as_not_written(build, text):
    """What is half written or no object is taken for missing, and named by its stage."""
    write_stages(build)
    (build / "evaluation.json").write_bytes(text.encode("latin-1"))
    assert document().failed_stage == "evaluate"


def test_names_that_a_reader_would_refuse_are_made_readable(build):
    """Control characters, changes of direction and endless names of the team's own data do not lose them their report."""
    name = "a\nb\u202ec\0" + "x" * 5000
    write_stages(build)
    one = json.loads((build / "evaluation.json").read_text())
    one["slices"] = [one["slices"][0] | {"slice": name}] * 500
    one["reasons"] = [name] * 100
    one["data"] = CHANGE | {
        "columns_added": [name] * 500,
        "drift": [CHANGE["drift"][0] | {"column": name}] * 500,
    }
    failed = DATA["checks"][1] | {"column": name, "rule": name, "observed": name, "success": False}
    write_stages(build, one, data=DATA | {"checks": [failed] * 300})
    found = document()
    assert found.evaluation.slices[0].slice.startswith("a b c x")
    assert len(json.dumps(found.model_dump())) < schema.MOST_BYTES


def test_number_and_head_are_the_event_s(build, tmp_path, monkeypatch):
    """In a workflow of a pull request the report carries its number, its head commit and the run."""
    event = {"pull_request": {"number": 12, "head": {"sha": "a" * 40}}}
    (tmp_path / "event.json").write_text(json.dumps(event), encoding="utf-8")
    for key, value in {
        "EVENT_PATH": str(tmp_path / "event.json"),
        "SERVER_URL": "https://github.example",
        "REPOSITORY": "octo/template",
        "RUN_ID": "7",
    }.items():
        monkeypatch.setenv(f"GITHUB_{key}", value)
    found = document()
    assert (found.number, found.head) == (12, "a" * 40)
    assert found.link == "https://github.example/octo/template/actions/runs/7"
    (tmp_path / "event.json").write_text(json.dumps({"push": {}}), encoding="utf-8")
    assert document().number is None


def test_production_that_could_not_be_fetched_is_unknown(build, monkeypatch):
    """The mark that a refused fetch leaves is in the report; a team's own server knows better."""
    write_stages(build)
    assert not document().production_unknown
    mlflow_server.HOME.mkdir()
    (mlflow_server.HOME / snapshot.UNKNOWN).write_text("refused\n", encoding="utf-8")
    assert document().production_unknown
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert not document().production_unknown


def test_without_production_there_is_nothing_to_compare(build):
    """A regression without production has neither comparison nor data to compare."""
    write_stages(build, evaluation("regression", "good", None))
    found = document()
    assert found.evaluation.first and found.evaluation.comparison is None and found.data.change is None


def test_how_rows_count_reaches_the_comment(build):
    """Weight, groups and the cut of a time split; the figures of a threshold are called weighted."""
    counting = {"weight": "worth", "unweighted": ["mine"], "group": "customer", "groups": 70, "time": "day", "cut": "2026-01-01"}  # fmt: skip
    decision = {"rule": "recall", "positive": "malignant", "threshold": 0.3, "floor": 0.9, "recall": 0.95}
    write_stages(build, evaluation("binary") | {"counting": counting, "decision": decision})
    text = " ".join(comment.findings(document()))
    assert "70 groups (customer)" in text and "from 2026-01-01 on (day)" in text and "Not weighted: mine" in text
    assert "Rows count by their weight (worth): the figures here are weighted." in text
