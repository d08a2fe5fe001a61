"""The drill's story, told by a project whose verbs answer at once."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from delivery.drill import story
from delivery.drill.traffic import Change
from pipeline.errors import SlipwayError

pytestmark = pytest.mark.quick
PERFORMANCE = {"kind": "performance", "open": True, "words": "more are wrong", "since": "2026-01-02", "alarm_day": "2026-01-03"}  # fmt: skip
BROKEN = PERFORMANCE | {"kind": "data_broken", "words": "empty cells"}
CHANGE = Change(shift={"a": 1.0}, missing={"b": 0.1}, relation=True)


@dataclass
class Told(story.Story):
    """A drill in which `make monitor` finds these incidents one after the other, and nobody waits."""

    finds: list[list[dict]] = field(default_factory=list)
    incidents: list[dict] = field(default_factory=list)

    def sleep(self, days):
        """Let no time pass."""

    def make(self, *words, **_):
        """Answer as the verb does."""
        if words == ("monitor",):
            self.incidents = self.finds.pop(0)
            found = {"verdict": "ok", "days": [], "incidents": self.incidents}
            (self.folder / "build" / "monitor.json").write_text(json.dumps(found), encoding="utf-8")
        if words == ("retrain-if-needed",):
            kinds = [one["kind"] for one in self.incidents]
            if "data_broken" in kinds:
                return "no retraining: the data are broken"
            return "a retraining is needed: performance" if "performance" in kinds else "no retraining: all is well"
        return ""


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Play the acts with what the monitor finds; return the lines of the story, and the changes that callers were told."""
    monkeypatch.setattr(story, "production", lambda _: {"version": "2"})
    for name in ("learn_from", "commit"):
        monkeypatch.setattr(story.workspace, name, lambda *_: None)
    (tmp_path / "build").mkdir()

    def play(*finds):
        told, traffic = Told(tmp_path, 2.0, CHANGE, finds=list(finds)), SimpleNamespace(change=Change())
        story._acts(told, traffic)
        return [line[9:] for line in told.said], traffic.change

    return play


def test_broken_data_are_fixed_before_a_retraining(play):
    """The monitor refuses to retrain on them; only the columns are fixed, and once the monitor agrees, the loop closes."""
    said, change = play([], [BROKEN, PERFORMANCE], [BROKEN, PERFORMANCE], [PERFORMANCE], [])
    place = said.index("the monitor decides: no retraining: the data are broken")
    assert said[place + 1].startswith("the data are fixed") and said[place + 2] == "the data are no longer broken"
    assert change == Change(relation=True) and said[-1].startswith("no second retraining")


def test_columns_that_only_drift_are_left_as_they_are(play):
    """Drift stands against no retraining."""
    said, change = play([], [PERFORMANCE], [])
    assert change == CHANGE and not [line for line in said if "mended" in line]


def test_data_that_stay_broken_end_the_drill(play):
    """The error says what is found, and where it can be looked at."""
    with pytest.raises(SlipwayError, match=r"still finds them broken: empty cells") as raised:
        play([], *[[BROKEN, PERFORMANCE]] * 20)
    assert "monitor.html" in raised.value.then and "--keep" in raised.value.then
