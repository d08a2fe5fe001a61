"""The stand-in for GitHub's runners reads expressions as GitHub does, and guesses at none."""

import pytest

from tests.e2e.expressions import Expressions

CONTEXTS = {
    "github": {"repository": "octo/template", "event": {"number": 12}},
    "needs": {"train": {"result": "success", "outputs": {"verdict": "accept"}}},
    "steps": {"gate": {"outputs": {}}},
    "vars": {},
    "secrets": {"KEY": "a key"},
}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${{ secrets.KEY || vars.KEY }}", "a key"),
        ("${{ vars.KEY || format('ghcr.io/{0}', github.repository) }}", "ghcr.io/octo/template"),
        ("${{ secrets.KEY != '' || vars.KEY != '' }}", "true"),
        ("${{ github.event.pull_request.user == 'x' && secrets.KEY || '' }}", ""),
        ("retrain: ${{ github.event.number }} of ${{ github.repository }}", "retrain: 12 of octo/template"),
        ("${{ steps.gate.outputs.verdict }}", ""),
        ("${{ toJSON(needs) }}", '{"train": {"result": "success", "outputs": {"verdict": "accept"}}}'),
    ],
)
def test_settings_are_filled_in(text, says):
    """Contexts, comparisons, defaults and the two functions that the workflows use."""
    assert Expressions(CONTEXTS).fill(text) == says


@pytest.mark.parametrize(
    ("condition", "when_fine", "after_a_failure"),
    [
        (None, True, False),
        ("${{ needs.train.outputs.verdict == 'accept' }}", True, False),
        ("${{ needs.train.outputs.verdict == 'keep' }}", False, False),
        ("${{ !cancelled() }}", True, True),
        ("${{ always() }}", True, True),
        ("${{ !cancelled() && needs.train.result == 'skipped' }}", False, False),
    ],
)
def test_a_condition_that_asks_for_no_status_is_meant_for_when_all_is_fine(condition, when_fine, after_a_failure):
    """After a failure only those start that ask for it."""
    assert Expressions(CONTEXTS, fine=True).hold(condition) is when_fine
    assert Expressions(CONTEXTS, fine=False).hold(condition) is after_a_failure


@pytest.mark.parametrize(
    "text",
    ["${{ hashFiles('x') }}", "${{ runner.os }}", "${{ needs.image.result }}", "${{ github.ref }}", "${{ 1 < 2 }}"],
)
def test_what_is_not_known_is_an_error(text):
    """A function, context, job or sign of which the stand-in knows nothing stops the test."""
    with pytest.raises((AssertionError, LookupError, NameError)):
        Expressions(CONTEXTS).fill(text)
