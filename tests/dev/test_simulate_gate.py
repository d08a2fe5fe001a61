"""The simulation of the gate: what it writes down is what it measured."""

import json

import pytest

from dev import simulation
from dev.simulate_gate import main
from dev.simulation import Cell, document, plan, table

PLACES = "\n\n".join(
    f"<!-- measured: {name} -->\nold\n<!-- end -->"
    for name in (
        "not_worse", "better", "superior", "refused", "slices", "repeated", "repeated-superior", "copies-as-rows", "power-better", "power-superior", "power-not_worse",
        "grouped", "grouped-superior", "groups-as-rows", "weighted", "weighted-superior",
    )
)  # fmt: skip


@pytest.fixture
def small_world(monkeypatch, tmp_path):
    """A small population, and a document of our own."""
    monkeypatch.setattr(simulation, "POPULATION", 4000)
    monkeypatch.setattr(simulation, "DOCUMENT", tmp_path / "gate.md")
    monkeypatch.setattr(simulation, "FIGURE", tmp_path / "power.svg")
    (tmp_path / "gate.md").write_text(f"before\n\n{PLACES}\n\nafter\n", encoding="utf-8")
    drawn = (simulation.population, simulation.true_gain, simulation.grouped, simulation.row_weights)
    for one in drawn:
        one.cache_clear()
    yield tmp_path
    for one in drawn:
        one.cache_clear()


def cell(rows: int, accepted: float, situation: str = "worse") -> Cell:
    """A cell with one policy."""
    return Cell("binary", "f1", situation, -0.02, rows, 400, {"better": accepted}, {"better": 0.0})


def test_figures_tables_and_picture_are_written(small_world, capsys):
    """Every cell is in the JSON file, every table in the document, and the text around them stays."""
    figures = small_world / "figures.json"
    assert main(["--trials", "4", "--sizes", "50", "80", "--json", str(figures), "--document"]) == 0
    cells = json.loads(figures.read_text(encoding="utf-8"))
    assert len(cells) == len(plan(4, (50, 80)))
    assert {one["rows"] for one in cells} == {50, 80}
    text = (small_world / "gate.md").read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert text.count("| data | metric | true gain | n = 50 | n = 80 |") == 16
    assert "<svg" in (small_world / "power.svg").read_text(encoding="utf-8")
    assert "one standard error at 5 % is 10.9 points" in capsys.readouterr().out


def test_the_document_is_left_alone_unless_asked_for(small_world):
    """A quick look changes nothing that is committed."""
    before = (small_world / "gate.md").read_text(encoding="utf-8")
    assert main(["--trials", "2", "--sizes", "50", "--processes", "1", "--json", str(small_world / "f.json")]) == 0
    assert (small_world / "gate.md").read_text(encoding="utf-8") == before
    assert not (small_world / "power.svg").exists()


def test_a_table_shows_percent_and_marks_what_is_above_the_level_for_sure():
    """Bold from 5 % and two standard errors on; power is no error and never marked."""
    cells = [cell(100, 0.0525), cell(50, 0.08)]
    assert table(cells, "worse", "accepted", "better").splitlines()[-1] == ("| binary | f1 | -0.0200 | **8.0** | 5.2 |")
    assert "**" not in table([cell(50, 0.9, "better")], "better", "accepted", "better")


@pytest.mark.parametrize("text", ["no place", "<!-- measured: a -->\n<!-- end -->\n<!-- measured: a -->\n<!-- end -->"])
def test_a_document_without_just_one_place_for_a_table_is_refused(text):
    """Nothing measured may silently go nowhere."""
    with pytest.raises(ValueError, match="one place for a"):
        document(text, {"a": "new"})


def test_of_two_equal_models_each_is_the_candidate_in_half_of_the_trials(small_world):
    """So their true difference is exactly zero."""
    found = simulation.measure("regression", "mae", "equal", 0.5, 60, 10)
    assert found.gain == 0.0
    assert found.trials == 10


def test_large_hold_outs_get_a_third_of_the_trials():
    """They take most of the time; so do repeated rows, of which none are measured on large hold-outs."""
    cells = plan(30, (1000, 5000))
    others = ("repeated", "grouped", "weighted")
    plain = {(rows, trials) for *_, situation, _, rows, trials in cells if not any(one in situation for one in others)}
    repeated = {(rows, trials) for *_, situation, _, rows, trials in cells if "repeated" in situation}
    assert (plain, repeated) == ({(1000, 30), (5000, 10)}, {(1000, 10)})
