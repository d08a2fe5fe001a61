"""Small real bundles: models with weights set by hand, and golden answers computed by numpy."""

import hashlib
import json
import math
import random
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

EXPERIMENT = "experiment"
KINDS = ("binary", "multiclass", "regression", "columns", "skops", "skops_frame")
ROWS = 25
BACKGROUND_ROWS = 10
WORDS = {"red": 0.5, "green": -0.25, "blue": 1.5}  # the weight of each colour in the columns model


def make_bundle(kind: str, folder: Path, version: str = "3") -> Path:
    """A sealed bundle of one kind with ROWS golden rows."""
    contract, model, answer = {
        "binary": _binary,
        "multiclass": _multiclass,
        "regression": _regression,
        "columns": _columns,
        "skops": _skops,
        "skops_frame": _skops_frame,
    }[kind]()
    rows = _rows(contract)
    golden = {"tolerance": 1e-5, "inputs": rows, "expected": [answer(row) for row in rows]}
    folder.mkdir(parents=True)
    (save_estimator if contract["format"] == "skops" else save)(folder, model)
    write(folder, "contract.json", contract)
    write(folder, "golden.json", golden)
    write(folder, "reference.json", {})
    write(folder, "background.json", {"rows": rows[:BACKGROUND_ROWS]})
    release = {"name": contract["name"], "version": version, "run_id": f"run-{version}", "commit": "c0ffee"}
    write(folder, "release.json", {**release, "digest": hashlib.sha256(version.encode()).hexdigest()})
    return seal(folder)


def make_wide_bundle(folder: Path, names: list[str], classes: list[str], model: str = "wide") -> Path:
    """A sealed bundle with one number input per name and any number of classes; a later class is more probable."""
    kind = "multiclass" if len(classes) > 2 else "binary"
    seen = {"minimum": 0.0, "maximum": 4.0}
    inputs = [_input(name, "number", 1.5, minimum=0.0, maximum=100.0, observed=seen) for name in names]
    weights = np.outer(np.ones(len(names)), np.linspace(-1, 1, len(classes))) / len(names)
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    given = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(names)])]
    folder.mkdir(parents=True)
    save(folder, _classifier(nodes, given, [_tensor("weights", weights)]))
    write(folder, "contract.json", _contract(model, kind, inputs, "matrix", "float32", classes, None, "label"))
    write(folder, "reference.json", {})
    release = {"name": model, "version": "3", "run_id": "run-3", "commit": "c0ffee", "digest": "d" * 64}
    write(folder, "release.json", release)
    return seal(folder)


def write(folder: Path, name: str, value) -> None:
    """Write one JSON file of a bundle."""
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def read(folder: Path, name: str):
    """Read one JSON file of a bundle."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


def seal(folder: Path) -> Path:
    """Write the manifest for the current files; what belongs to an experiment is none of them."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in ("manifest.json", EXPERIMENT)
    )
    digests = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    write(folder, "manifest.json", {"files": digests})
    return folder


def change(folder: Path, file: str, **values) -> Path:
    """Change keys of one JSON file and seal the bundle again."""
    write(folder, file, {**read(folder, file), **values})
    return seal(folder)


def with_rules(folder: Path, text: str, before=(), after=()) -> Path:
    """Give a bundle these rules."""
    (folder / "code" / "project").mkdir(parents=True)
    (folder / "code" / "project" / "rules.py").write_text(text)
    return change(folder, "contract.json", rules={"before": list(before), "after": list(after)})


def graph_that_reads_numbers(folder: Path) -> Path:
    """Give a columns bundle a graph that casts its last text to a number, so that it fails on other texts."""
    types = [TensorProto.FLOAT, TensorProto.STRING, TensorProto.STRING]
    nodes = [helper.make_node("Cast", ["f2"], ["score"], to=TensorProto.FLOAT), *TWO]
    given = [helper.make_tensor_value_info(f"f{i}", kind, ["n", 1]) for i, kind in enumerate(types)]
    save(folder, _classifier(nodes, given, [_tensor("one", [[1]])]))
    inputs = read(folder, "contract.json")["inputs"]
    inputs[2]["example"] = "1.5"
    return change(folder, "contract.json", inputs=inputs)


def save(folder: Path, graph) -> None:
    """Write a graph as the bundle's model."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def save_estimator(folder: Path, estimator) -> None:
    """Write a scikit-learn estimator as the bundle's model."""
    (folder / "model.skops").write_bytes(skops.io.dumps(estimator))


def _input(name, kind, example, **more):
    defaults = {"nullable": False, "minimum": None, "maximum": None, "values": None, "observed": None}
    return {"name": name, "type": kind, **defaults, "example": example, **more}


def _contract(name, task, inputs, layout, dtype, classes, positive, label):
    probabilities = None if task == "regression" else "probabilities"
    return {
        "schema": 1,
        "name": name,
        "task": task,
        "format": "onnx",
        "inputs": inputs,
        "classes": classes,
        "positive": positive,
        "target": "target",
        "onnx": {"layout": layout, "dtype": dtype, "label": label, "probabilities": probabilities},
        "commit": "c0ffee",
        "data_hash": "d" * 64,
        "tolerance": 1e-5,
    }


def _rows(contract):
    """Valid rows, including nulls and limits."""
    rng = random.Random(7)
    return [[_value(column, rng) for column in contract["inputs"]] for _ in range(ROWS)]


def _value(column, rng):
    if column["nullable"] and rng.random() < 0.3:
        return None
    match column["type"]:
        case "boolean":
            return rng.random() < 0.5
        case "integer":
            return rng.randint(int(column["minimum"]), int(column["maximum"]))
        case "text":
            return rng.choice(column["values"] or ["red", "green", "blue", "unseen", "ünïcode"])
    low = -5 if column["minimum"] is None else column["minimum"]
    if column.get("exclusive_minimum") is not None:
        low = math.nextafter(column["exclusive_minimum"], math.inf)
    high = 5 if column["maximum"] is None else column["maximum"]
    return rng.choice([low, high, rng.uniform(low, high), rng.uniform(low, high)])


def _tensor(name, values, dtype="float32"):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def _classifier(nodes, inputs, constants):
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", None])
    argmax = helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0)
    return helper.make_graph([*nodes, argmax], "model", inputs, [label, probabilities], constants)


def _labelled(classes, probabilities):
    return {
        "label": classes[int(np.argmax(probabilities))],
        "probabilities": [float(p) for p in probabilities],
    }


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


# Turns the score into the two probabilities of a binary model.
TWO = [
    helper.make_node("Sigmoid", ["score"], ["yes"]),
    helper.make_node("Sub", ["one", "yes"], ["no"]),
    helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
]


def _binary():
    weights, bias = [0.05, -1.5, 0.25, 2.0], -2.0
    inputs = [
        _input("mass", "number", 12.5, minimum=0.0, maximum=100.0, observed={"minimum": 0.5, "maximum": 80.0}),
        _input("tilt", "number", -0.5),
        _input("doors", "integer", 4, minimum=0, maximum=10),
        _input("sold", "boolean", True),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["score"]),
        *TWO,
    ]
    constants = [_tensor("weights", [[w] for w in weights]), _tensor("bias", [bias]), _tensor("one", [[1]])]
    given = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4])]

    def answer(row):
        p = _sigmoid(float(np.dot(row, weights)) + bias)
        return _labelled(["no", "yes"], [1 - p, p])

    contract = _contract("cars", "binary", inputs, "matrix", "float32", ["no", "yes"], "yes", "label")
    return contract, _classifier(nodes, given, constants), answer


def _multiclass():
    weights = np.array([[0.5, -0.5, 1.0], [0.1, 0.2, -0.3]])
    bias = np.array([0.1, 0.0, -0.1])
    classes = ["ä b", "class", "third"]
    inputs = [
        _input("sepal length (cm)", "number", 5.1, minimum=-10.0),
        _input("größe", "number", 1.0, maximum=20.0),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    given = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 2])]
    graph = _classifier(nodes, given, [_tensor("weights", weights), _tensor("bias", bias)])

    def answer(row):
        scores = np.exp(np.array(row) @ weights + bias)
        return _labelled(classes, scores / scores.sum())

    return (
        _contract("flowers", "multiclass", inputs, "matrix", "float32", classes, None, "label"),
        graph,
        answer,
    )


def _regression():
    weights, bias = [3.0, 2.5], 10.0
    inputs = [
        _input("rooms", "integer", 3, minimum=1, maximum=20),
        _input("area", "number", 80.0, exclusive_minimum=0.0, observed={"minimum": 20.0, "maximum": 300.0}),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["variable"]),
        ],
        "model",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", 2])],
        [helper.make_tensor_value_info("variable", TensorProto.DOUBLE, ["n", 1])],
        [_tensor("weights", [[w] for w in weights], "float64"), _tensor("bias", [bias], "float64")],
    )
    contract = _contract("houses", "regression", inputs, "matrix", "float64", [], None, "variable")
    return contract, graph, lambda row: {"value": float(np.dot(row, weights)) + bias}


def _columns():
    """Three inputs: a nullable number (null counts as 0), a text of three values, and a nullable text (null counts as 1)."""
    inputs = [
        _input("age", "number", 30.5, nullable=True, minimum=0.0, maximum=120.0),
        _input("colour", "text", "green", values=list(WORDS)),
        _input("note", "text", "red", nullable=True),
    ]
    words = {"keys_strings": list(WORDS), "values_floats": list(WORDS.values()), "domain": "ai.onnx.ml"}
    with_empty = {
        "keys_strings": [*WORDS, ""],
        "values_floats": [*WORDS.values(), 1.0],
        "domain": "ai.onnx.ml",
    }
    nodes = [
        helper.make_node("IsNaN", ["f0"], ["empty"]),
        helper.make_node("Where", ["empty", "zero", "f0"], ["age"]),
        helper.make_node("LabelEncoder", ["f1"], ["colour"], **words, default_float=0.0),
        helper.make_node("LabelEncoder", ["f2"], ["note"], **with_empty, default_float=0.0),
        helper.make_node("Mul", ["age", "slope"], ["years"]),
        helper.make_node("Sum", ["years", "colour", "note", "bias"], ["score"]),
        *TWO,
    ]
    types = [TensorProto.FLOAT, TensorProto.STRING, TensorProto.STRING]
    given = [helper.make_tensor_value_info(f"f{i}", kind, ["n", 1]) for i, kind in enumerate(types)]
    constants = [
        _tensor("zero", [[0]]),
        _tensor("slope", [[0.02]]),
        _tensor("bias", [[-1]]),
        _tensor("one", [[1]]),
    ]

    def answer(row):
        note = 1.0 if row[2] is None else WORDS.get(row[2], 0.0)
        p = _sigmoid((row[0] or 0.0) * 0.02 + WORDS[row[1]] + note - 1)
        return _labelled(["left", "stayed"], [1 - p, p])

    classes = ["left", "stayed"]
    contract = _contract("visitors", "binary", inputs, "columns", "float32", classes, "stayed", "label")
    return contract, _classifier(nodes, given, constants), answer


def _as_skops(contract, layout, *trusted):
    """The same contract for a scikit-learn model."""
    return {**contract, "format": "skops", "onnx": None, "skops": {"layout": layout, "trusted": trusted}}


def _weighted(weights, bias):
    """A logistic regression with given weights instead of fitted ones."""
    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = np.array([0, 1]), np.array([weights]), np.array([bias])
    return model


def _skops():
    """The binary model as a scikit-learn estimator that takes a matrix."""
    contract, _, answer = _binary()
    return _as_skops(contract, "matrix"), _weighted([0.05, -1.5, 0.25, 2.0], -2.0), answer


def _skops_frame():
    """The columns model as a scikit-learn pipeline that selects its columns by name."""
    contract, _, answer = _columns()
    words = [np.array([*WORDS], dtype=object), np.array([*WORDS, ""], dtype=object)]
    columns = ColumnTransformer(
        [
            ("age", SimpleImputer(strategy="constant", fill_value=0.0), ["age"]),
            ("colour", OneHotEncoder(categories=[words[0]], handle_unknown="ignore"), ["colour"]),
            ("note", OneHotEncoder(categories=[words[1]], handle_unknown="ignore"), ["note"]),
        ]
    )
    columns.fit(pd.DataFrame({"age": [1.0, np.nan], "colour": ["red", "blue"], "note": ["", "green"]}))
    model = _weighted([0.02, *WORDS.values(), *WORDS.values(), 1.0], -1.0)
    return _as_skops(contract, "frame", "numpy.dtype"), make_pipeline(columns, model), answer
