"""Bundles with a scikit-learn model: allowed types, the code that comes with them, and predictions."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from pipeline.formats import bare_service
from serving.model.bundle import BundleError, open_bundle
from serving.model.predictor import NoAnswer, load_predictor
from tests.serving.bundles import change, make_bundle, read, save_estimator, seal
from tests.serving.service import ROOT, serving

TREES = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor", "sklearn.tree._tree.Tree"]
# A transformer class of a project, which exists in the bundle only.
OWN = """from sklearn.base import BaseEstimator

from project.arithmetic import {name}


class Own(BaseEstimator):
    def predict_proba(self, rows):
        return {name}(rows)
"""
ARITHMETIC = """import numpy as np


def halves(rows):
    return np.full((len(rows), 2), 0.5)
"""
STORE = """
import sys, types, skops.io
module = types.ModuleType("project.own")
exec("class Own:\\n    pass", module.__dict__)
sys.modules["project.own"] = module
open(sys.argv[1], "wb").write(skops.io.dumps(module.Own()))
"""


@pytest.fixture
def bundle(tmp_path):
    """A skops bundle that the test may damage."""
    return make_bundle("skops", tmp_path / "bundle")


def _refusal(folder):
    with pytest.raises(BundleError) as caught:
        load_predictor(open_bundle(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _with_model(folder, estimator):
    """The bundle with another fitted estimator, whose tree types the contract lists."""
    save_estimator(folder, estimator)
    return change(folder, "contract.json", skops={"layout": "matrix", "trusted": TREES})


def _fitted(estimator):
    rows = np.random.default_rng(1).normal(size=(200, 4))
    return estimator.fit(rows, (rows[:, 0] > rows[:, 1]).astype(int))


def _with_code(folder, **files):
    """The bundle with a model of class project.own.Own, and files of its project."""
    subprocess.run([sys.executable, "-c", STORE, folder / "model.skops"], check=True)
    (folder / "code/project").mkdir(parents=True)
    for name, text in files.items():
        (folder / f"code/project/{name}.py").write_text(text)
    return change(folder, "contract.json", skops={"layout": "matrix", "trusted": ["project.own.Own"]})


def test_unlisted_types_are_refused(bundle):
    """A model with a type that the pipeline did not check is not loaded, and the type is named."""
    save_estimator(bundle, _fitted(RandomForestClassifier(3)))
    assert "does not list: sklearn.tree._tree.Tree" in _refusal(seal(bundle))


def test_model_that_is_not_skops_is_refused(bundle):
    """Bytes that are not a skops file, for example a pickle, are refused and not executed."""
    (bundle / "model.skops").write_bytes(b"\x80\x04cposix\nsystem\n(S'touch /tmp/never'\ntR.")
    assert "model.skops, cannot be loaded: BadZipFile" in _refusal(seal(bundle))


def test_model_that_does_not_match_the_task_is_refused(bundle):
    """An estimator without probabilities cannot be a classifier's."""
    from sklearn.linear_model import Ridge

    _with_model(bundle, _fitted(Ridge()))
    assert "has no predict_proba()" in _refusal(bundle)


def test_model_with_more_classes_than_its_contract_is_refused(bundle):
    """A probability without a class name is found before the first request."""
    assert "does not answer" in _refusal(change(bundle, "contract.json", classes=["a", "b", "c"]))


def test_value_that_the_model_refuses_is_a_client_error(bundle):
    """Numbers too large for the trees, or without a finite answer, are the client's fault, not a server error."""
    predictor = load_predictor(open_bundle(_with_model(bundle, _fitted(RandomForestClassifier(3)))))
    for row in ([1e300, 0, 1, 1], [1e300, 1e300, 1, 1]):
        with pytest.raises(NoAnswer):
            predictor.predict_one(row)


def test_one_row_uses_one_thread(bundle):
    """A forest that was trained with all processors predicts with one."""
    predictor = load_predictor(open_bundle(_with_model(bundle, _fitted(RandomForestClassifier(3, n_jobs=-1)))))
    assert predictor._model._estimator.n_jobs == 1


def test_code_comes_from_the_bundle(bundle):
    """A class of the project is imported from the bundle, with its own imports, and nothing is written to disk."""
    _with_code(bundle, own=OWN.format(name="halves"), arithmetic=ARITHMETIC)
    with serving(bundle) as service:
        answer = service.predict(service.example).json()
        assert answer["probabilities"] == {"no": 0.5, "yes": 0.5}
    assert {path.name for path in (bundle / "code/project").iterdir()} == {"own.py", "arithmetic.py"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"own": OWN.format(name="halves")}, "No module named 'project.arithmetic'"),
        ({"own": OWN.format(name="other"), "arithmetic": ARITHMETIC}, "cannot import name 'other'"),
        ({"own": "class Another:\n    pass\n"}, "Own"),
        ({"own": "class Own("}, "SyntaxError"),
    ],
)
def test_missing_code_stops_the_start(bundle, files, words):
    """A module or class missing in the bundle is named in one line, though this repository has a project/ of its own."""
    _with_code(bundle, **files)
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--port", "0"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "model.skops, cannot be loaded: " in ended.stderr and words in ended.stderr


def test_altered_code_is_refused(bundle):
    """One changed byte in a module is found as in any other file."""
    _with_code(bundle, own=OWN.format(name="halves"), arithmetic=ARITHMETIC)
    (bundle / "code/project/arithmetic.py").write_text(ARITHMETIC.replace("0.5", "0.6"))
    assert "code/project/arithmetic.py was altered" in _refusal(bundle)


def test_onnx_bundle_may_not_contain_code(tmp_path):
    """Not even with a matching manifest."""
    folder = make_bundle("binary", tmp_path / "onnx")
    (folder / "code").mkdir()
    (folder / "code/project.py").write_text("raise SystemExit")
    assert "code/project.py does not belong here" in _refusal(seal(folder))


def test_forked_workers_answer_after_their_parent_did(bundle):
    """Trees that use several threads answer in a process that was forked after they had answered."""
    _with_model(bundle, _fitted(HistGradientBoostingClassifier(max_iter=20)))
    with serving(bundle, "--workers", "2") as service:
        rows = [[1.0 + row, -2.0, 3, True] for row in range(90)]
        for _ in range(4):
            assert service.post("/predict/batch", {"features": rows}).status_code == 200


def test_batch_predictions_equal_the_service_s(bundle, tmp_path):
    """Rows from a file get exactly the answers that the service gives over HTTP, and single predictions are timed."""
    rows = read(bundle, "golden.json")["inputs"]
    columns = {f"f{place}": np.array(column, dtype=float) for place, column in enumerate(zip(*rows, strict=True))}
    np.savez(tmp_path / "rows.npz", **columns)
    options = {"bundle": bundle, "rows": tmp_path / "rows.npz", "answers": tmp_path / "answers.npz", "calls": 5}
    command = [sys.executable, "-m", "serving.batch", *(f"--{name}={value}" for name, value in options.items())]
    subprocess.run(command, cwd=ROOT, check=True)
    with np.load(tmp_path / "answers.npz") as found, serving(bundle) as service:
        given = service.post("/predict/batch", {"features": rows}).json()["predictions"]
        assert found["answers"].tolist() == [list(answer["probabilities"].values()) for answer in given]
        assert 0 < found["milliseconds"] < 1000


def test_batch_hides_other_packages(bundle, tmp_path):
    """If the allowed packages are given, any other cannot be imported, installed or not."""
    _with_code(bundle, own="import requests\n" + OWN.format(name="halves"), arithmetic=ARITHMETIC)
    np.savez(tmp_path / "rows.npz", f0=[1.0])
    options = {"bundle": bundle, "rows": tmp_path / "rows.npz", "answers": tmp_path / "answers.npz"}
    command = [sys.executable, "-m", "serving.batch", *(f"--{name}={value}" for name, value in options.items())]
    only = f"--only={','.join(bare_service.packages('skops'))}"
    ended = subprocess.run([*command, only], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1 and "No module named 'requests'" in ended.stderr
