"""What is asked for when an experiment starts, before anything is looked up."""

import pytest

from delivery import deployment
from delivery.deployment import refuse_beside_experiment
from delivery.experiment.admission import refuse_words, share_of
from pipeline.errors import DeployError, StageError
from pipeline.registry import experiments
from pipeline.registry.experiments import ExperimentRecord, Phase
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import load_settings


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "inf", "-inf", "10%", "0,1", "many"])
def test_a_share_is_above_0_and_at_most_1(text):
    """Anything else is refused as it was typed, with an example."""
    with pytest.raises(StageError, match=f"^SHARE is {text}$") as caught:
        share_of(text)
    assert "SHARE=0.1" in caught.value.then


def test_a_share_that_is_missing_is_named():
    """An empty variable of a form or a shell is no number."""
    with pytest.raises(StageError, match="SHARE is missing"):
        share_of(" ")
    assert (share_of("1"), share_of("0.05"), share_of("1e-3")) == (1.0, 0.05, 0.001)


@pytest.mark.parametrize(
    ("challenger", "mode", "name", "says"),
    [
        ("", "ab", "spring", "CHALLENGER is missing"),
        ("1", "both", "spring", "MODE is both"),
        ("1", "", "spring", "MODE is missing"),
        ("1", "ab", "", "'' cannot be the name"),
        ("1", "ab", "-a", "'-a' cannot be the name"),
        ("1", "ab", "a b", "'a b' cannot be the name"),
        ("1", "ab", "a\n", "cannot be the name"),
        ("1", "ab", "ä", "'ä' cannot be the name"),
        ("1", "ab", 41 * "a", "cannot be the name"),
    ],
)
def test_words_that_no_experiment_can_have_are_refused(challenger, mode, name, says):
    """Each is said, with what it may be."""
    with pytest.raises(StageError, match=says) as caught:
        refuse_words(challenger, mode, name)
    assert caught.value.then


def test_where_nothing_serves_the_way_back_comes_first(monkeypatch):
    """After `make stop` a new version is refused as well; production must not stay down for want of a word."""
    record = ExperimentRecord("spring", "ab", "2", "d2", "1", "d1", state="running", phases=(Phase(1.0, 0.1),))
    monkeypatch.setattr(experiments, "running", lambda *_: record)
    monkeypatch.setattr(deployment, "last_served", lambda *_: None)
    with pytest.raises(DeployError, match="version 3 cannot go to production while experiment spring") as caught:
        refuse_beside_experiment(None, load_settings(), "production", ModelVersion("m", "3", "run"), "deploy")
    assert caught.value.then.startswith("production serves nothing now: `make reconcile` starts version 2 again.")
    for version, action in (
        ("2", "deploy"),
        ("3", "rollback"),
    ):  # the champion comes back with it, and a rollback ends it
        refuse_beside_experiment(None, load_settings(), "production", ModelVersion("m", version, "run"), action)
