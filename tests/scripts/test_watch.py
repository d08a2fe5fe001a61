"""`make watch`: the three verbs of the workflow `monitor` in one command, once or every day, as separate processes."""

import json
import time
from pathlib import Path

import pytest

from scripts.ci import watch
from tests.scripts.incoming_webhook import webhook

VERBS = {"monitor": "monitor", "alert": "ci/alert", "retrain-if-needed": "ci/retrain_if_needed"}
STEP = """import pathlib, sys
with open("did", "a") as file:
    print({verb!r}, *sys.argv[1:], file=file)
{then}
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder in which each verb only notes that it was called."""
    monkeypatch.setattr(watch.artifacts, "ROOT", tmp_path)
    monkeypatch.setattr(watch, "STATE", tmp_path / "build" / "watch.json")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("SLIPWAY_WEBHOOK", raising=False)
    (tmp_path / "scripts" / "ci").mkdir(parents=True)
    for verb in VERBS:
        let(tmp_path, verb)
    return tmp_path


def let(project: Path, verb: str, then: str = "") -> None:
    """What a verb does after its note."""
    (project / f"scripts/{VERBS[verb]}.py").write_text(STEP.format(verb=verb, then=then), encoding="utf-8")


def did(project: Path) -> list[str]:
    """The verbs that were called, with their arguments."""
    return (project / "did").read_text(encoding="utf-8").splitlines()


def test_all_verbs_run_in_order(project, capsys):
    """The monitor gets the environment; each step is named before it runs."""
    assert watch.main(["--environment", "staging"]) == 0
    assert did(project) == ["monitor --environment staging", "alert", "retrain-if-needed"]
    assert capsys.readouterr().out.splitlines() == [f"--- {verb}" for verb in VERBS]


def test_nothing_follows_a_monitor_that_failed(project, monkeypatch, capsys):
    """Without findings nobody is told anything about the model; the chat hears that the watching failed."""
    let(project, "monitor", "sys.exit(1)")
    with webhook() as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", chat.url)
        assert watch.main([]) == 1
    assert did(project) == ["monitor --environment production"]
    assert chat.got == [{"text": "watching production failed: monitor; the log of this job says why"}]
    assert "error: watching production failed: monitor" in capsys.readouterr().err


def test_retraining_is_decided_when_people_cannot_be_told(project, capsys):
    """GitHub's refusal of an issue does not keep a model from being retrained; the round is red."""
    let(project, "alert", "sys.exit(1)")
    assert watch.main([]) == 1
    assert did(project)[1:] == ["alert", "retrain-if-needed"] and "failed: alert" in capsys.readouterr().err


def test_step_that_takes_too_long_is_ended(project, monkeypatch, capsys):
    """A database that never answers does not keep the rounds of later days from running."""
    monkeypatch.setattr(watch, "LONGEST", 0.5)
    let(project, "monitor", "import time; time.sleep(60)")
    began = time.monotonic()
    assert watch.main([]) == 1 and time.monotonic() - began < 20
    assert "monitor took longer than 0.5 s" in capsys.readouterr().err


def test_every_day_goes_on_and_comes_back_sooner_after_a_failure(project, monkeypatch):
    """A failure is tried again after an hour, and the chat is told once; afterwards the next round is the next morning's."""
    pauses = []

    def rest(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            let(project, "monitor")
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch, "rest", rest)
    let(project, "monitor", "sys.exit(1)")
    with webhook() as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", chat.url)
        assert watch.main(["--every-day"]) == 130
    assert len(chat.got) == 1 and did(project).count("monitor --environment production") == 3
    assert pauses[:2] == [watch.AGAIN, watch.AGAIN] and 0 < pauses[2] <= watch.DAY


@pytest.mark.parametrize(("clock", "hours"), [("03:41", 24), ("03:40", 1 / 60), ("00:00", 3 + 41 / 60), ("23:41", 4)])
def test_round_is_at_the_workflow_s_time(clock, hours):
    """At 03:41 UTC, whenever it was started."""
    hour, minute = map(int, clock.split(":"))
    assert watch.until(20_000 * watch.DAY + hour * 3600 + minute * 60) == pytest.approx(hours * 3600)


@pytest.mark.parametrize(
    ("state", "hours", "healthy"),
    [("running", 0.5, True), ("running", 9, False), ("done", 24, True), ("done", 48, False), ("failed", 0, False),
     (None, 0, False)],
)  # fmt: skip
def test_health_says_whether_rounds_are_done(project, capsys, state, hours, healthy):
    """Healthy while a round runs and after one that succeeded within the last day, and only then."""
    if state:
        watch.STATE.parent.mkdir()
        watch.STATE.write_text(json.dumps({"state": state, "time": time.time() - hours * 3600}))
    assert watch.main(["--healthy"]) == int(not healthy)
    assert (state or "not begun") in capsys.readouterr().out


def test_health_follows_a_round(project):
    """What a round leaves is what --healthy reads."""
    assert watch.main([]) == 0 and watch.main(["--healthy"]) == 0
    let(project, "alert", "sys.exit(1)")
    assert watch.main([]) == 1 and watch.main(["--healthy"]) == 1


def test_the_time_is_that_of_the_workflow_and_of_the_cluster():
    """Wherever production is watched, it is at the same time of day."""
    root = Path(__file__).resolve().parents[2]
    schedule = f'"{watch.AT // 60 % 60} {watch.AT // 3600} * * *"'
    for file in (".github/workflows/monitor.yml", "k8s/components/monitor/cron-job.yaml"):
        assert schedule in (root / file).read_text(encoding="utf-8"), file
