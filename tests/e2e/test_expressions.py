"""The stand-in for GitHub's runners evaluates expressions like GitHub, and guesses none."""

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
def test_expressions_are_evaluated(text, says):
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
def test_condition_without_status_requires_success(condition, when_fine, after_a_failure):
    """After a failure only jobs and steps that ask for it start."""
    assert Expressions(CONTEXTS, fine=True).hold(condition) is when_fine
    assert Expressions(CONTEXTS, fine=False).hold(condition) is after_a_failure


@pytest.mark.parametrize(
    "text",
    ["${{ hashFiles('x') }}", "${{ runner.os }}", "${{ needs.image.result }}", "${{ github.ref }}", "${{ 1 < 2 }}"],
)
def test_unknown_names_are_errors(text):
    """An unknown function, context, job or character stops the test."""
    with pytest.raises((AssertionError, LookupError, NameError)):
        Expressions(CONTEXTS).fill(text)
