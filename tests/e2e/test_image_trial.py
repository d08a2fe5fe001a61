"""A model is tried in its image before it is registered; a real engine builds and runs that image."""

import hashlib
from types import SimpleNamespace

import pytest
from onnx import TensorProto, helper

from delivery.images import trial
from pipeline.errors import PortabilityError
from tests.serving.bundles import make_bundle, read, seal, write

DIGEST = hashlib.sha256(b"trial").hexdigest()


def tried(folder, target="auto"):
    """What the trial of a bundle's content said."""
    settings = SimpleNamespace(name=read(folder, "contract.json")["name"], deploy=SimpleNamespace(target=target))
    return trial.before_registration(settings, folder, DIGEST)


def left(engine):
    """Containers and images that a trial has left behind."""
    name = f"slipway/trial:{DIGEST[:12]}"
    running = [one for one in engine.containers.list(all=True) if name in one.image.tags]
    return [*running, *(image for image in engine.images.list() if name in image.tags)]


def test_model_answers_its_golden_rows_in_its_image(engine, tmp_path):
    """A model that answers as expected in the image passes, and nothing of the trial stays in the engine."""
    said = tried(make_bundle("binary", tmp_path / "bundle"))
    assert said.endswith("25 golden rows are answered as expected") and not left(engine)


def test_model_that_its_image_cannot_run_is_refused(engine, tmp_path):
    """A graph that wants a locale which an image does not have is refused with the service's words; nothing stays."""
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


def test_other_answer_in_the_image_is_refused(engine, tmp_path):
    """A golden row that is answered otherwise in the image is refused with the difference."""
    bundle = make_bundle("regression", tmp_path / "bundle")
    golden = read(bundle, "golden.json")
    golden["expected"][3]["value"] += 10
    write(bundle, "golden.json", golden)
    with pytest.raises(PortabilityError, match="its answer to a golden row differs by"):
        tried(bundle)


def test_where_releases_are_processes_no_image_is_tried(tmp_path):
    """Target `process` runs releases where the model was tried already: no engine is asked."""
    assert tried(make_bundle("binary", tmp_path / "bundle"), "process") == ""
