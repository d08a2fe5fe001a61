"""The search in the report: a table of its best trials, and a picture of all."""

import warnings

import msgspec
import pytest

from pipeline.evaluation import figures
from pipeline.evaluation.findings import sections
from pipeline.evaluation.record import Evaluation, Search, SearchTrial
from pipeline.search import search_picture, study


def search(count: int = 14, name: str = "C", **changes) -> Search:
    """A search of so many trials, of which the one before the last fails and the third is best."""
    trials = [
        SearchTrial(
            number=number,
            parameters={name: 10.0 ** (number % 5), "solver": ["lbfgs", [1, 2], True][number % 3]},
            scores=[abs(number - 3) + 0.1, abs(number - 3) + 0.3],
            mean=abs(number - 3) + 0.2,
            deviation=0.1,
        )
        for number in range(count)
    ]
    trials[-2] = msgspec.structs.replace(trials[-2], scores=[], mean=None, deviation=None, reason="too small")
    whole = {
        "method": "optimise",
        "metric": "log_loss",
        "higher_is_better": False,
        "folds": 2,
        "planned": count,
        "finished": count,
        "failed": 1,
        "winner": 3,
        "parameters": trials[3].parameters,
        "trials": trials,
    }
    return Search(**(whole | changes))


def section(one: Search):
    """The section of the report that is about a search."""
    made = Evaluation(
        metric="log_loss", higher_is_better=False, verdict="accept", reasons=[], first=True, production=None, rows=1,
        confidence=0.95, metrics=[], search=study.best_of(one),
    )  # fmt: skip
    return next(part for part in sections(made, None) if part.heading == "Search for parameters")


def test_the_table_has_the_ten_best_and_the_winner_first():
    """Ranked by their mean; what stands in pipeline.toml is called so."""
    made = section(search())
    assert [row[0] for row in made.table.rows][:3] == ["trial 3", "trial 2", "trial 4"] and len(made.table.rows) == 10
    assert ("as in pipeline.toml", "1", "lbfgs", "3.2000 ± 0.1000") in made.table.rows
    assert "over 14 trials" in made.sentences[0] and "1 failed" in made.sentences[1]


def test_a_search_that_was_cut_and_one_that_found_nothing_better_say_so():
    """The time limit, and a winner that is trial 0."""
    made = section(search(planned=40, winner=0, failed=0))
    assert "before all 40 trials" in made.sentences[1] and "No other trial was better" in made.sentences[2]


def test_higher_scores_are_ranked_the_other_way():
    """For a score as accuracy the largest is best."""
    assert study.best_of(search(higher_is_better=True)).trials[0].number == 13


@pytest.mark.parametrize("name", ["C", "$x^2$", "w" * 200, "a\nb"])
@pytest.mark.parametrize("higher", [False, True])
def test_the_picture_can_be_drawn(name, higher):
    """Numbers, lists, names of any kind and failed trials neither fail nor warn; the same search gives the same bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (figures.to_png(search_picture.draw(search(name=name, higher_is_better=higher))) for _ in "ab")
    assert first == second and len(first) > 1000


def test_one_trial_is_a_picture_too():
    """A search may be cut after its first trial."""
    one = search()
    assert figures.to_png(search_picture.draw(msgspec.structs.replace(one, trials=one.trials[3:4])))
