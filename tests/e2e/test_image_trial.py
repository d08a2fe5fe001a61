"""A model is tested in its image before it is registered; a real engine builds and runs that image."""

import hashlib
from types import SimpleNamespace

import pytest
from onnx import TensorProto, helper

from delivery.images import trial
from pipeline.errors import PortabilityError
from tests.serving.bundles import make_bundle, read, seal, write

DIGEST = hashlib.sha256(b"trial").hexdigest()


def tried(folder, target="auto"):
    """The output of testing a bundle's content."""
    settings = SimpleNamespace(name=read(folder, "contract.json")["name"], deploy=SimpleNamespace(target=target))
    return trial.before_registration(settings, folder, DIGEST)


def left(engine):
    """Containers and images that a test of a model has left behind."""
    name = f"slipway/trial:{DIGEST[:12]}"
    running = [one for one in engine.containers.list(all=True) if name in one.image.tags]
    return [*running, *(image for image in engine.images.list() if name in image.tags)]


def test_good_model_passes_in_its_image(engine, tmp_path):
    """A model with the expected answers passes, and nothing of the test remains in the engine."""
    said = tried(make_bundle("binary", tmp_path / "bundle"))
    assert said.endswith("25 golden rows are answered as expected") and not left(engine)


def test_model_that_its_image_cannot_run_is_refused(engine, tmp_path):
    """A graph that needs a locale which the image lacks is refused with the service's message; nothing remains."""
    bundle = make_bundle("columns", tmp_path / "bundle")
    given = [helper.make_tensor_value_info("f0", TensorProto.STRING, ["n", 1])]
    nodes = [
        helper.make_node("Reshape", ["f0", "flat"], ["words"]),
        helper.make_node("StringNormalizer", ["words"], ["low"], case_change_action="LOWER", locale="tlh_QO"),
    ]
    out = [helper.make_tensor_value_info("low", TensorProto.STRING, ["n"])]
    flat = [helper.make_tensor("flat", TensorProto.INT64, [1], [-1])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, out, flat), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    seal(bundle)
    with pytest.raises(PortabilityError, match=r"the image of the service cannot run this model: .*locale"):
        tried(bundle)
    assert not left(engine)


def test_different_answer_in_the_image_is_refused(engine, tmp_path):
    """The message has the difference of the golden row."""
    bundle = make_bundle("regression", tmp_path / "bundle")
    golden = read(bundle, "golden.json")
    golden["expected"][3]["value"] += 10
    write(bundle, "golden.json", golden)
    with pytest.raises(PortabilityError, match="its answer to a golden row differs by"):
        tried(bundle)


def test_target_process_tests_no_image(tmp_path):
    """It runs releases on the machine that tested the model already: the engine gets no request."""
    assert tried(make_bundle("binary", tmp_path / "bundle"), "process") == ""
