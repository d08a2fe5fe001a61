"""The record of experiments in a real MLflow: written, changed, ended, and read again whatever somebody did to its tags."""

import socket
import time
from dataclasses import dataclass, replace

import pytest
from mlflow import MlflowClient

from pipeline.errors import RegistryError
from pipeline.registry import experiments, mlflow_server, model_version, versions
from pipeline.registry.experiments import ENDED, RUNNING, STOPPING, ExperimentRecord, Phase
from tests.pipeline.registry.embedded_mlflow import embedded

NUMBERS = iter(range(10_000))
ONE = ExperimentRecord("spring", "ab", "2", "d2", "1", "d1", phases=(Phase(1_760_000_000.0, 0.1),), actor="octocat")
HERE = replace(ONE, host=socket.gethostname())


@dataclass
class Served:
    """What production serves."""

    experiment: str
    version: str = "2"
    digest: str = "d2"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a real MLflow."""
    with embedded(tmp_path_factory.mktemp("mlflow")) as settings:
        uri = mlflow_server.uri(settings)
        yield MlflowClient(uri, uri)


@pytest.fixture
def name(client):
    """A model with two versions."""
    name = f"m{next(NUMBERS)}"
    client.create_registered_model(name)
    run = client.create_run(versions.experiment(client, name)).info.run_id
    for number in "12":
        client.create_model_version(name, f"runs:/{run}/model", run_id=run, tags={"digest": f"d{number}"})
    return name


def test_a_model_without_experiments_has_none(client, name):
    """Nothing runs and nothing is made in MLflow by looking."""
    assert experiments.running(client, name) is None and experiments.records(client, name) == []
    assert client.get_experiment_by_name(f"{name}-experiments") is None


def test_what_is_recorded_is_read_again(client, name):
    """From its start through a change of the share to its end, all that is known comes back."""
    begun = experiments.begin(client, name, ONE)
    assert experiments.running(client, name) == begun == replace(ONE, run_id=begun.run_id)
    phases = (*ONE.phases, Phase(1_760_086_400.5, 0.5))
    running = experiments.change(
        client, begun, state=RUNNING, phases=phases, started=1_760_000_009.0, image="r@sha256:0"
    )
    assert experiments.running(client, name) == running and running.share == 0.5
    ended = experiments.end(client, name, running, winner="B", reason="better")
    assert experiments.running(client, name) is None
    assert experiments.records(client, name) == [ended] and ended.over and ended.ended > 0
    assert client.get_run(ended.run_id).info.status == "FINISHED"


def test_both_versions_carry_the_names(client, name):
    """`experiment` is there while it runs; `experiments` keeps every name, each once."""
    for experiment in ("spring", "summer"):
        record = experiments.begin(client, name, replace(ONE, name=experiment))
        experiments.tag(client, name, record)
        assert {versions.by_number(client, name, number).experiment for number in "12"} == {experiment}
        experiments.end(client, name, record)
        experiments.end(client, name, record)
    for number in "12":
        found = versions.by_number(client, name, number)
        assert (found.experiment, found.experiments) == ("", "spring summer")


def test_the_cards_say_how_it_ended(client, name):
    """A line on the card of either version, once; none of an experiment that never served."""
    record = experiments.begin(client, name, replace(ONE, name="autumn"))
    experiments.end(client, name, record)
    assert not client.get_model_version(name, "1").description
    record = replace(experiments.begin(client, name, ONE), started=1_760_000_009.0)
    client.set_tag(record.run_id, "verdict", "B better")
    for _ in range(2):
        experiments.end(client, name, record, winner="B", reason="better")
    for number, letter, other in (("2", "A", "1"), ("1", "B", "2")):
        card = client.get_model_version(name, number).description
        assert card.startswith("### Experiments\n\n- 2025-10-09 to ") and card.count("experiment spring") == 1
        assert f"as {letter} beside version {other}: B better, winner B, better, run [`{record.run_id}`]" in card


def test_it_ends_where_a_version_was_deleted(client, name):
    """The mark goes from the version that is left."""
    record = experiments.begin(client, name, ONE)
    client.delete_model_version(name, "1")
    assert experiments.end(client, name, record).state == ENDED
    assert versions.by_number(client, name, "2").experiment == ""


def test_of_two_that_begin_at_once_the_first_runs(client, name):
    """Each machine has a lock of its own; the one that began later is ended, and leaves the marks to the first."""
    first = experiments.begin(client, name, ONE)
    with pytest.raises(RegistryError, match=r"experiment spring .*, and it began first"):
        experiments.begin(client, name, replace(ONE, name="summer"))
    assert experiments.running(client, name) == first
    assert {versions.by_number(client, name, number).experiment for number in "12"} == {"spring"}
    assert [record.state for record in experiments.records(client, name)] == [ENDED, first.state]


def test_a_start_that_did_not_come_to_production_has_ended(client, name):
    """What was killed is looked for in what production serves, and the record follows that."""
    began = experiments.begin(client, name, HERE)
    experiments.settle(client, name, lambda: None)
    (record,) = experiments.records(client, name)
    assert record.over and record.run_id == began.run_id and "interrupted" in record.reason
    assert versions.by_number(client, name, "1").experiment == ""


def test_a_larger_share_counts_from_when_it_is_known_to_serve(client, name):
    """Between the command and its release subjects met the smaller share, so the new phase does not begin with the command."""
    phases = (*ONE.phases, Phase(1_760_086_400.0, 0.5))
    record = experiments.change(client, experiments.begin(client, name, HERE), started=1.0, phases=phases)
    before = time.time()
    experiments.settle(client, name, lambda: Served(record.release))
    found = experiments.running(client, name)
    assert (found.state, found.phases[0], found.share) == (RUNNING, ONE.phases[0], 0.5) and found.phases[
        1
    ].since >= before


def test_a_larger_share_that_never_served_is_forgotten(client, name):
    """The experiment runs on with the share that it had."""
    phases = (*ONE.phases, Phase(1_760_086_400.0, 0.5))
    record = experiments.change(client, experiments.begin(client, name, HERE), started=1.0, phases=phases)
    experiments.settle(client, name, lambda: Served("spring 0.1"))
    assert experiments.running(client, name) == replace(record, state=RUNNING, phases=ONE.phases)


def test_a_victory_that_did_not_come_to_production_is_taken_back(client, name):
    """The tag `forced` would let the challenger into production later, for a reason that is not true; a person's own words stay."""
    record = experiments.change(client, experiments.begin(client, name, HERE), state=STOPPING, winner="B", started=1.0)
    for forced, left in ((record.victory, None), ("we need it", "we need it")):
        model_version.set_tags(client, name, "1", forced=forced)
        experiments.change(client, record, state=RUNNING)
        experiments.change(client, replace(record, state=RUNNING), state=STOPPING, winner="B")
        experiments.settle(client, name, lambda: Served(record.release))
        assert versions.by_number(client, name, "1").forced == left
        assert (experiments.running(client, name).state, experiments.running(client, name).winner) == (RUNNING, "")


def test_a_deleted_challenger_is_said_with_the_way_out(client, name):
    """Production could not be started again with it."""
    record = experiments.begin(client, name, ONE)
    client.delete_model_version(name, "1")
    with pytest.raises(RegistryError, match="version 1, the challenger of experiment spring, was deleted") as caught:
        experiments.challenger(client, name, record)
    assert "experiment-stop" in caught.value.then


def test_a_damaged_record_is_read_all_the_same(client, name):
    """A share that nobody can read is said where it is asked for, with the way out."""
    record = experiments.begin(client, name, ONE)
    for damaged in ("", "[[1]]", "none", '{"a": 1}'):
        client.set_tag(record.run_id, "phases", damaged)
        client.set_tag(record.run_id, "started", "yesterday")
        found = experiments.running(client, name)
        assert (found.phases, found.started) == ((), 0.0) and "unknown share" in found.in_words()
        with pytest.raises(RegistryError, match="spring has no readable tag"):
            _ = found.share
    experiments.change(client, found, state=STOPPING, host=socket.gethostname())
    experiments.settle(client, name, lambda: Served("spring 0.1"))  # `make experiment-stop` begins with it
    assert experiments.running(client, name) is None


def test_it_reads_as_a_sentence():
    """Which versions, who answers whom, and texts from elsewhere are no markup."""
    said = replace(ONE, state=ENDED, reason="<b>won</b>", winner="B", ended=1.0).markdown()
    assert said.startswith("**experiment spring (ended): version 1 answers 10 % of the subjects beside version 2**")
    assert "`octocat`" in said and "winner: B" in said and "<b>" not in said
    assert "in the shadow" in replace(ONE, mode="shadow").in_words()
