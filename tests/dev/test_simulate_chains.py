"""Chains of releases: losses within the margin add up without the second comparison, and hardly ever with it."""

import pytest

from dev import simulation
from dev.simulate_chains import main, simulate, table

WORST = "all lose 0.3 margins"


@pytest.mark.parametrize(("holdout", "policy"), [("grows", "not_worse"), ("new each time", "better")])
def test_the_best_version_so_far_ends_a_chain_of_small_losses(holdout, policy):
    """Of candidates that all lose a little, many chains lose more than a margin; with the best version as well, few."""
    alone = simulate(holdout, WORST, policy, 0.5, "production", chains=100)
    both = simulate(holdout, WORST, policy, 0.5, "best", chains=100)
    assert alone.lost > 0.3
    assert both.lost <= 0.12  # 5 % and three standard errors of 100 chains


def test_better_candidates_are_let_through_all_the_same():
    """The second comparison is not safe by refusing everything."""
    outcome = simulate("grows", "0 ± 0.5 margins", "not_worse", 1 / 6, "best", chains=50)
    assert outcome.let_through > 0.9


def test_the_table_goes_to_its_place_in_the_document(monkeypatch, tmp_path):
    """A line per hold-out, kind of candidates and policy; the text around it stays."""
    path = tmp_path / "gate.md"
    path.write_text("before\n<!-- measured: chains -->\nnothing yet\n<!-- end -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(simulation, "DOCUMENT", path)
    assert main(["--chains", "2", "--document"]) == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "nothing yet" not in text
    assert table(2) in text
    assert text.count("`not_worse`") == text.count("`better`") == 6
