"""The simulation of experiments measures the code that judges production."""

from dev.simulate_experiment import DIFFERENT, NOTHING, main, measure, measure_ratio

PROMISED, DAILY = 0.05, 0.1
HALF = 0.5


def test_a_winner_is_named_rarely_where_nothing_differs():
    """By the sequence, in worlds with few skewed values of one variant too; a t-test each day names one often."""
    for world in (NOTHING[0], NOTHING[4], NOTHING[9]):
        cell = measure(world, 60)
        assert cell.better + cell.worse <= PROMISED and cell.daily > DAILY, world.label


def test_shares_that_are_counted_together_mislead():
    """Where the world changes in time; the last phase alone does not."""
    phases, together = measure(NOTHING[-2], 40), measure(NOTHING[-1], 40)
    assert phases.better + phases.worse <= PROMISED < HALF < together.better


def test_a_clear_difference_is_found_within_days():
    """10 to 12 % with 1,000 subjects a day and variant."""
    cell = measure(DIFFERENT[1], 40)
    assert cell.better > 1 - PROMISED and cell.middle <= 7


def test_a_wrong_split_is_found():
    """48 instead of 50 % of 20,000 subjects a day, within a week."""
    assert measure_ratio(0.5, 0.48, 20_000, 40).found[7] == 1


def test_the_same_seed_gives_the_same_figures():
    """A cell measured again is the same, so that the document changes only with the code."""
    assert measure(NOTHING[1], 5) == measure(NOTHING[1], 5)


def test_the_simulation_writes_what_it_measured(tmp_path, capsys, monkeypatch):
    """Each table is shown, the figures are kept, and only --document touches the document."""
    page = tmp_path / "page.md"
    page.write_text(
        "".join(f"<!-- measured: {name} -->\nold\n<!-- end -->\n" for name in ("nothing", "different", "ratio"))
    )
    monkeypatch.setattr("dev.simulate_experiment.DOCUMENT", page)
    monkeypatch.setattr("dev.simulate_experiment.FIGURE", tmp_path / "days.svg")
    monkeypatch.setattr("dev.simulate_experiment.NOTHING", NOTHING[:1])
    monkeypatch.setattr("dev.simulate_experiment.DIFFERENT", DIFFERENT[:2])
    arguments = ["--trials", "2", "--processes", "1", "--json", str(tmp_path / "figures.json")]
    assert main(arguments) == 0 and "old" in page.read_text()
    assert main([*arguments, "--document"]) == 0 and "old" not in page.read_text()
    assert "<svg" in (tmp_path / "days.svg").read_text() and "| no difference |" in capsys.readouterr().out
