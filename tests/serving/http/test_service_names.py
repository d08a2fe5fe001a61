"""Feature names: the contract accepts exactly the names that the decoder supports."""

from types import SimpleNamespace

import msgspec
import pytest

from serving.model.contract import Contract, name_fault
from serving.model.features import Input
from serving.requests.decoder import Decoder

ODD = ["", " ", "Umsatz\n(EUR)", 'a"b', "a\\b", "\ud800", "größe.cm", "f0", "self", "x" * 10_000]
CHARACTERS = [chr(code) for code in [*range(0x180), 0x2028, 0xD800, 0xDFFF, 0xFEFF, 0x1F600]]


def decodable(name):
    """Whether a decoder can be built for a contract with this name, skipping the contract's own rule."""
    column = Input(name=name, type="number", example=1)
    try:
        Decoder(SimpleNamespace(inputs=[column], names={name: 0}, classes=[], largest=1e38))
    except ValueError:
        return False
    return name != ""  # the decoder could, but no client could send it


@pytest.mark.parametrize("names", [ODD, CHARACTERS], ids=["names", "characters"])
def test_contract_and_decoder_accept_the_same_names(names):
    """The contract accepts no name that the decoder refuses, and refuses none that it accepts."""
    assert {name: not name_fault(name) for name in names} == {name: decodable(name) for name in names}


def test_invalid_name_is_refused_with_the_reason():
    """The message has the name as a Python literal, and what is wrong with it."""
    column = {"name": "Umsatz\n(EUR)", "type": "number", "example": 1}
    onnx = {"layout": "matrix", "dtype": "float64", "label": "value"}
    rest = {"schema": 1, "name": "m", "task": "regression", "format": "onnx", "target": "t"}
    with pytest.raises(msgspec.ValidationError, match=r"no input can be called 'Umsatz\\n\(EUR\)': it holds '\\n'"):
        msgspec.convert(rest | {"inputs": [column], "onnx": onnx}, Contract)
