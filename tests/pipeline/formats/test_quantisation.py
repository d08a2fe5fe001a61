"""A model in int8: what can be quantised, what the result answers, and that a row's answer is its own."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.errors import PortabilityError
from pipeline.formats import choose
from pipeline.formats.onnx import quantisation, quantised
from tests.pipeline.formats.test_choose import chosen
from tests.pipeline.formats.test_onnx_model import made


@pytest.fixture(scope="module", params=["dynamic", "static"])
def network(request):
    """A small network in float32 and in int8: data set, what is served, its trials and contract, and the candidate."""
    dataset = made("binary")
    model = make_pipeline(StandardScaler(), MLPClassifier((64, 64), max_iter=60, random_state=0))
    served, tried, contract = chosen(model, dataset)
    return dataset, served, tried, contract, quantised.candidate(served.files, contract, dataset, tried, request.param)


def test_a_network_in_int8_is_smaller_and_answers_nearly_alike(network):
    """It has less than two thirds of the bytes, which a larger one halves again, and no answer to the hold-out is further away than some percent."""
    _, served, tried, _, made_int8 = network
    assert len(made_int8.files["model.onnx"]) < len(served.files["model.onnx"]) * 2 / 3
    off = np.abs(made_int8.y_pred - tried[0].trained)
    assert 1e-6 < off.max() < 0.1 and off.mean() < 0.02


def test_a_rows_answer_does_not_depend_on_the_rows_beside_it(network):
    """Asked alone, among others and beside a row of very large numbers, a row gets the same answer to the last bit."""
    dataset, *_, made_int8 = network
    rows = dataset.features[dataset.holdout].head(20)
    assert (made_int8.alone(rows) == made_int8.y_pred[:20]).all()
    beside = rows.copy()
    beside.iloc[-1] = 1e6
    assert (made_int8.ask(beside)[:-1] == made_int8.y_pred[:19]).all()


def test_the_same_graph_gives_the_same_bytes(network):
    """Quantised again, it is the same to the byte."""
    dataset, served, tried, contract, made_int8 = network
    again = quantised.candidate(served.files, contract, dataset, tried, made_int8.contract["onnx"]["quantised"])
    assert again.files == made_int8.files


def test_values_are_quantised_too():
    """A regression in int8 is near to the same in float32."""
    dataset = made("regression")
    object.__setattr__(dataset, "target", dataset.target / 1000)
    served, tried, contract = chosen(
        make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(64,), max_iter=60, random_state=0)), dataset
    )
    found = quantised.candidate(served.files, contract, dataset, tried, "dynamic")
    assert found.y_pred.shape == tried[0].trained.shape
    assert np.abs(found.y_pred - tried[0].trained).max() < 0.1 * np.ptp(tried[0].trained)


@pytest.mark.parametrize("kind", [("Gemm", 0), ("Gemm", 1), ("MatMul", None)])
@pytest.mark.parametrize("opset", [13, 18])
def test_every_linear_layer_is_quantised(kind, opset):
    """MatMul, and Gemm with a bias and weights either way around, in old operator sets and in newer ones."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    op, transposed = kind
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(30, 8)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    more = {} if transposed is None else {"transB": transposed}
    inputs = ["features", "w"] + (["b"] if op == "Gemm" else [])
    tensors = [
        numpy_helper.from_array(weight.T.copy() if transposed else weight, "w"),
        numpy_helper.from_array(bias, "b"),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], **more)], "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 30])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        tensors if op == "Gemm" else tensors[:1],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    found = quantisation.dynamic(model.SerializeToString())
    assert "MatMulInteger" in {node.op_type for node in onnx.load_from_string(found).graph.node}
    rows = rng.normal(size=(50, 30)).astype(np.float32)
    (given,) = onnxruntime.InferenceSession(found).run(None, {"features": rows})
    wanted = rows @ weight + (bias if op == "Gemm" else 0)
    assert np.abs(given - wanted).mean() < 0.03 * np.abs(wanted).mean()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LogisticRegression(), "nothing to quantise in a LogisticRegression: it becomes a linear operator"),
        (make_pipeline(StandardScaler(), Ridge()), "nothing to quantise in a Ridge: it becomes a linear operator"),
        (RandomForestClassifier(), "nothing to quantise in a RandomForestClassifier: it becomes an operator of trees"),
        (MLPClassifier(), ""),
    ],
)
def test_what_has_nothing_to_quantise_is_known_before_the_fit(model, words):
    """Linear models and trees are named at once; of a network nothing is known against it."""
    assert quantisation.hopeless(model).startswith(words) and bool(quantisation.hopeless(model)) == bool(words)


def test_a_graph_without_layers_is_refused_with_the_reason():
    """A linear model has one operator of ai.onnx.ml, which is named."""
    dataset = made("binary")
    served, tried, contract = chosen(LogisticRegression(), dataset)
    with pytest.raises(PortabilityError, match=r"no layer with weights \(LinearClassifier"):
        quantised.candidate(served.files, contract, dataset, tried, "dynamic")
    with pytest.raises(PortabilityError, match="served as skops, and only ONNX is quantised"):
        quantised.candidate({}, {"format": "skops"}, dataset, tried, "static")
    assert tried[0].where == choose.HOLDOUT
