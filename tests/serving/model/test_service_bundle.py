"""A bundle that differs from its manifest is refused, and the file is named."""

import hashlib

import pytest
from onnx import TensorProto, helper

from serving.model.bundle import BundleError, open_bundle
from serving.model.predictor import load_predictor
from tests.serving.bundles import change, make_bundle, read, save, seal, write


def _refusal(folder):
    with pytest.raises(BundleError) as caught:
        load_predictor(open_bundle(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_intact_bundle_is_opened(bundle):
    """Contract, release and model are those of the files."""
    opened = open_bundle(bundle)
    assert opened.release.version == "3"
    assert list(opened.contract.names) == ["mass", "tilt", "doors", "sold"]
    assert hashlib.sha256(opened.model).digest() == hashlib.sha256((bundle / "model.onnx").read_bytes()).digest()


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "golden.json", "reference.json", "release.json"])
def test_flipped_bit_is_refused(bundle, name):
    """One changed bit in any file is found, and the file named."""
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    assert f"{name} was altered" in _refusal(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "golden.json"])
def test_missing_file_is_refused(bundle, name):
    """A file that the manifest names must be present."""
    (bundle / name).unlink()
    assert f"{name} is missing" in _refusal(bundle)


@pytest.mark.parametrize("name", ["notes.txt", "nested/extra.json", ".hidden"])
def test_extra_file_is_refused(bundle, name):
    """A file that the manifest does not name must not be present, at any depth."""
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("x")
    assert f"{name} does not belong here" in _refusal(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "release.json"])
def test_bundle_sealed_without_a_needed_file_is_refused(bundle, name):
    """A matching manifest does not help when a needed file was never in the bundle."""
    (bundle / name).unlink()
    assert f"{name} is missing" in _refusal(seal(bundle))


def test_folder_without_manifest_is_refused(bundle):
    """Without a manifest nothing can be verified."""
    (bundle / "manifest.json").unlink()
    assert "manifest.json is missing" in _refusal(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"files": 3}', "\xff"])
def test_damaged_manifest_is_refused(bundle, text):
    """The message says that a manifest without a list of files is damaged."""
    (bundle / "manifest.json").write_text(text, encoding="latin-1")
    assert "manifest.json is damaged" in _refusal(bundle)


def test_missing_folder_is_refused(tmp_path):
    """The message names the path."""
    assert "nowhere is not a bundle folder" in _refusal(tmp_path / "nowhere")


def test_folder_in_place_of_a_file_is_refused(bundle):
    """A manifest entry that is a folder counts as a missing file."""
    (bundle / "golden.json").unlink()
    (bundle / "golden.json").mkdir()
    assert "golden.json is missing" in _refusal(bundle)


def test_unreadable_manifest_is_refused(bundle):
    """The message has the operating system's reason."""
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").mkdir()
    assert "manifest.json cannot be read: Is a directory" in _refusal(bundle)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"schema": 2}, "schema: Invalid enum value 2"),
        ({"format": "pickle"}, "format: Invalid enum value 'pickle'"),
        ({"format": "skops"}, "the format 'skops' needs a part of that name"),
        ({"task": "ranking"}, "task: Invalid enum value 'ranking'"),
        ({"inputs": []}, "inputs: Expected `array` of length >= 1"),
        ({"classes": ["only"]}, "a classifier needs two or more classes"),
        ({"name": "other"}, "release.json is of model 'cars', contract.json of 'other'"),
    ],
)
def test_unknown_contract_is_refused(bundle, changed, words):
    """The message names the key that this service does not understand."""
    assert words in _refusal(change(bundle, "contract.json", **changed))


def _with_input(bundle, position, **changes):
    inputs = read(bundle, "contract.json")["inputs"]
    inputs[position] |= changes
    return change(bundle, "contract.json", inputs=inputs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"example": -1}, "the example of 'mass' breaks the contract: -1 was given"),
        ({"name": "doors"}, "two inputs have the same name"),
        ({"type": "text", "example": "a"}, 'a text input needs the layout "columns"'),
        ({"type": "date"}, "inputs[0].type: Invalid enum value 'date'"),
    ],
)
def test_inconsistent_contract_is_refused(bundle, changes, words):
    """Examples, names and types must be consistent before the service starts."""
    assert words in _refusal(_with_input(bundle, 0, **changes))


def test_contract_that_is_not_json_is_refused(bundle):
    """The message names the file, even when the manifest matches."""
    (bundle / "contract.json").write_text("{")
    assert "contract.json cannot be used: Input data was truncated" in _refusal(seal(bundle))


def test_regression_needs_no_classes(tmp_path):
    """null for a regression's classes is the same as none."""
    folder = change(make_bundle("regression", tmp_path / "bundle"), "contract.json", classes=None)
    assert open_bundle(folder).contract.classes == []


def test_model_that_is_not_onnx_is_refused(bundle):
    """Bytes that are not an ONNX graph are refused in one line."""
    (bundle / "model.onnx").write_bytes(b"not a model")
    assert "model.onnx cannot be loaded" in _refusal(seal(bundle))


@pytest.mark.parametrize(
    ("onnx", "words"),
    [
        ({"layout": "columns"}, "model.onnx takes features, but contract.json says f0, f1, f2, f3"),
        ({"probabilities": "chances"}, "model.onnx has no output 'chances'"),
        ({"dtype": "float64"}, "does not answer the contract's example row"),
    ],
)
def test_model_that_differs_from_its_contract_is_refused(bundle, onnx, words):
    """Names and types of the graph must be those of the contract."""
    whole = read(bundle, "contract.json")["onnx"] | onnx
    assert words in _refusal(change(bundle, "contract.json", onnx=whole))


def test_model_with_more_classes_than_its_contract_is_refused(bundle):
    """A probability without a class name is found before the first request."""
    assert "does not answer" in _refusal(change(bundle, "contract.json", classes=["a", "b", "c"]))


def test_model_with_a_non_finite_answer_is_refused(tmp_path):
    """A model that answers its own example with NaN is not served."""
    folder = make_bundle("regression", tmp_path / "bundle")
    nodes = [
        helper.make_node("Sub", ["features", "features"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["neither"]),
        helper.make_node("ReduceMean", ["neither"], ["variable"], axes=[1]),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "model",
        [tensor("features", TensorProto.DOUBLE, ["n", 2])],
        [tensor("variable", TensorProto.DOUBLE, ["n", 1])],
    )
    save(folder, graph)
    assert "no finite answer" in _refusal(seal(folder))


def test_unknown_keys_are_ignored(bundle):
    """A contract of a newer pipeline may have keys that this service does not read."""
    write(bundle, "contract.json", {**read(bundle, "contract.json"), "added_later": 1})
    assert open_bundle(seal(bundle)).contract.name == "cars"
