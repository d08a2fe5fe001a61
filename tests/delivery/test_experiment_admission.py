"""What is asked for when an experiment starts, before anything is looked up."""

import pytest

from delivery.experiment.admission import refuse_words, share_of
from pipeline.errors import StageError


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
