"""The record of a deployment: what is written into MLflow is read again, and people can read it."""

from dataclasses import replace
from types import SimpleNamespace

from pipeline.registry.deployment_record import DUE, MARKS, Deployment
from pipeline.registry.model_version import ModelVersion

ONE = Deployment(
    environment="production",
    version="4",
    digest="d",
    action="reconcile",
    target="kubernetes",
    before="3",
    image="ghcr.io/octo/model@sha256:" + "0" * 64,
    link="https://github.com/octo/model/actions/runs/7",
    actor="octocat",
    host="runner",
    result="failed",
    detail="not ready: <b>boom</b>\n# heading",
)


def read(tags: dict[str, str]) -> Deployment:
    """A record as MLflow's client gives it."""
    info = SimpleNamespace(run_id="r", experiment_id="7", start_time=1_760_000_000_000, end_time=1_760_000_009_000)
    return Deployment.from_mlflow(SimpleNamespace(data=SimpleNamespace(tags=tags), info=info))


def test_what_is_written_is_read_again():
    """All attributes come back, and with them the run and its times: a deployment serves since it ended."""
    times = {"run_id": "r", "experiment_id": "7", "began": 1_760_000_000, "since": 1_760_000_009}
    nothing = replace(ONE, before=None, image=None)
    for one in (ONE, nothing, replace(ONE, bookkeeping=DUE, left="3"), replace(ONE, bookkeeping=MARKS, left="3")):
        assert read(one.tags()) == replace(one, **times)


def test_what_is_not_there_is_none_in_mlflow():
    """No version before and no image are the word none, as in the records of older releases."""
    tags = replace(ONE, before=None, image=None, bookkeeping=DUE).tags()
    assert (tags["before"], tags["image"], tags["alias_from"]) == ("none", "none", "none")
    assert not {"bookkeeping", "alias_from", "left"} & set(ONE.tags())


def test_a_record_that_lacks_tags_is_read_all_the_same():
    """What an older release did not write, or somebody took away, is empty."""
    found = read({"environment": "production", "version": "4"})
    assert (found.version, found.digest, found.before, found.image, found.bookkeeping) == ("4", "", None, None, "")


def test_a_deployment_begins_with_what_mlflow_knows_of_the_version(monkeypatch):
    """Its number, its build and its image, what served before, and who is at work where."""
    monkeypatch.setenv("GITHUB_ACTOR", "octocat")
    version = ModelVersion("m", "5", "r", digest="e", image="mine")
    begun = Deployment.of(version, "staging", "deploy", "docker", ONE)
    assert (begun.version, begun.digest, begun.image, begun.before) == ("5", "e", "mine", "4")
    assert begun.actor == "octocat" and begun.host and begun.result == "begun"
    assert Deployment.of(replace(version, image=""), "staging", "deploy", "process", None).image is None


def test_it_reads_as_a_sentence():
    """Who put what where, in place of what, how it ended, why and where to read on; texts from elsewhere are no markup."""
    said = ONE.markdown()
    assert said.startswith("**production: version 3 → version 4, failed**\n\n")
    assert "`reconcile` by `octocat` on `runner`, to target `kubernetes`" in said
    assert ONE.image in said and ONE.link in said
    assert "<b>" not in said and "\n#" not in said
    assert "**production: nothing → version 4" in replace(ONE, before=None).markdown()
    assert len(replace(ONE, detail="<" * 9000).markdown()) < 8000, "MLflow takes no longer tag"
    assert len(replace(ONE, detail="<" * 9000).tags()["detail"]) == 4000
