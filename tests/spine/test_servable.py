"""train.py checks a contract with the service's own decoder before there is a run in MLflow."""

import pytest

from pipeline.errors import DataError
from pipeline.training.servable import servable

CONTRACT = {
    "schema": 1, "name": "m", "task": "regression", "format": "skops", "target": "t", "skops": {"layout": "frame"},
    "inputs": [{"name": "a", "type": "number", "minimum": 0, "example": 1}],
}  # fmt: skip


def test_valid_contract_passes():
    """There is no message for a contract that the service can use."""
    servable(CONTRACT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Umsatz\n(EUR)"}, r"no input can be called 'Umsatz\\n\(EUR\)'"),
        ({"example": -1}, "the example of 'a' breaks the contract"),
        ({"minimum": "low"}, "Expected `float | null`"),
    ],
)
def test_invalid_contract_is_refused(change, words):
    """A name, range or value that the service refuses at its start is refused with the same message."""
    wrong = CONTRACT | {"inputs": [CONTRACT["inputs"][0] | change]}
    with pytest.raises(DataError, match=words) as caught:
        servable(wrong)
    assert "project/data.py" in caught.value.then
