"""A training run's title in MLflow has version, change and verdict."""

from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from pipeline.registry.training_run import run_title

FACTS = {"parameters": {"C": 0.4}, "data_hash": "d", "commit": "abcdef0123", "dirty": False}
SAME = {"data_hash": "d", "commit": "abcdef0123"}


@pytest.mark.parametrize(
    ("parameters", "tags", "facts", "said"),
    [
        (None, {}, {}, "first model"),
        ({"train.C": "0.5", "seed": "42"}, SAME, {}, "C 0.5→0.4"),
        ({"train.C": "0.4"}, SAME | {"data_hash": "e"}, {}, "new data"),
        ({"train.C": "0.5"}, SAME | {"data_hash": "e"}, {}, "C 0.5→0.4, new data"),
        ({"train.C": "0.4", "train.depth": "3"}, SAME, {}, "depth 3→none"),
        ({}, SAME, {}, "C none→0.4"),
        ({"train.C": "0.4"}, SAME | {"commit": "1234567"}, {}, "commit abcdef0"),
        ({"train.C": "0.4"}, SAME, {"dirty": True}, "commit abcdef0 with changes"),
        ({"train.C": "0.4"}, SAME, {}, "no change"),
        ({}, SAME, {"parameters": dict.fromkeys("abcde", 1)}, "a none→1, b none→1, c none→1, 2 more"),
        ({}, SAME, {"parameters": {"grid": [*range(30)]}}, "grid none→[0, 1, 2, 3, 4, 5, …"),
    ],
)
def test_title_names_the_change_from_production(parameters, tags, facts, said):
    """Parameters first, then the data; else the commit."""
    assert run_title.change(FACTS | facts, parameters, tags) == said


def test_title_omits_what_is_unknown():
    """Before the verdict, and for a candidate that is never registered."""
    assert run_title.title("C 0.5→0.4") == "C 0.5→0.4"
    assert run_title.title("C 0.5→0.4", "refuse") == "C 0.5→0.4 · refused"
    assert run_title.title("C 0.5→0.4", "accept", "12") == "v12 · C 0.5→0.4 · accepted"


class Client:
    """A client that counts how often a run's name and tags are written."""

    def __init__(self):
        self.run = SimpleNamespace(
            info=SimpleNamespace(run_name="new data"), data=SimpleNamespace(tags={"change": "new data"})
        )
        self.writes = 0

    def get_run(self, run_id):
        return self.run

    def set_tag(self, run_id, key, value):
        self.run.data.tags[key] = value
        self.writes += 1

    def update_run(self, run_id, name):
        self.run.info.run_name = name
        self.writes += 1


def test_same_title_is_written_once():
    """A stage that runs again changes nothing."""
    client = Client()
    for _ in range(2):
        run_title.tell(client, "r", "accept", "3")
    assert (client.run.info.run_name, client.run.data.tags["verdict"]) == ("v3 · new data · accepted", "accept")
    assert client.writes == 2


def test_title_that_cannot_be_written_is_a_warning(capsys):
    """Titles are for people: a delivery does not fail for them."""

    class Refuses(Client):
        def set_tag(self, run_id, key, value):
            raise MlflowException("no permission")

    run_title.tell(Refuses(), "r", "keep")
    assert "keeps its name in MLflow: no permission" in capsys.readouterr().err
