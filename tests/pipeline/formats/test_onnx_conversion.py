"""Turning a model into ONNX: limits of time and memory, what is left behind, and the words for what fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import psutil
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from pipeline.formats.onnx import conversion

KINDS = {"a": "number"}
# Seven rows that a tree divides into missing and not missing: converting it with float64 inputs never ends.
X = np.array([[1.0], [2.0], [3.0], [4.0], [np.nan], [np.nan], [np.nan]])
Y = [0, 0, 0, 0, 1, 1, 1]


def convert(model, *forms, kinds=KINDS):
    """The model in these forms; what does not convert raises."""
    with conversion.converting(model, kinds, True) as one:
        return [one(*form) for form in forms]


class Forks:
    """A model whose conversion starts a process of its own and never ends; it writes down who both are."""

    def __init__(self, file):
        self.file = file

    def __setstate__(self, state):
        other = subprocess.Popen(["sleep", "600"])
        Path(state["file"]).write_text(f"{os.getpid()} {other.pid}")
        time.sleep(600)


class Grows:
    """A model whose conversion takes all the memory that it can have."""

    def __getstate__(self):
        return {"there": "is"}

    def __setstate__(self, state):
        self.kept = [bytearray(50_000_000) for _ in range(1000)]


def gone(*processes):
    """Whether none of these processes runs any more; one that nobody has collected has ended too."""

    def ended(process):
        try:
            return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    deadline = time.monotonic() + 60
    while not all(ended(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def recorded(file, command=None):
    """The processes that wrote down who they are."""
    deadline = time.monotonic() + 300
    while not (file.exists() and len(file.read_text().split()) == 2):
        assert time.monotonic() < deadline
        assert command is None or command.poll() is None, command.stderr.read()
        time.sleep(0.05)
    return [int(one) for one in file.read_text().split()]


def test_conversion_that_never_ends_is_ended(monkeypatch):
    """A converter that loops for ever is killed after the time limit, and the reason says so in a sentence."""
    monkeypatch.setattr(conversion, "SECONDS", 3.0)
    model = DecisionTreeClassifier().fit(X, Y)
    with pytest.raises(conversion.UnendedError, match="its conversion to ONNX did not end within 3 s"):
        convert(model, ("matrix", "float32"), ("matrix", "float64"))


def test_limit_is_of_all_forms_together(monkeypatch):
    """What the forms before took is taken from what the next ones may take."""
    monkeypatch.setattr(conversion, "SECONDS", 30.0)
    with conversion.converting(DecisionTreeClassifier().fit(X, Y), KINDS, True) as one:
        one("matrix", "float32")
        began = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda clock=time.monotonic: clock() + 29 * (clock() - began > 0.5))
        with pytest.raises(conversion.UnendedError, match="within 30 s"):
            one("matrix", "float64")
    monkeypatch.undo()
    assert time.monotonic() - began < 29


def test_conversion_takes_no_more_memory_than_it_may(monkeypatch):
    """A converter that asks for memory without end is refused it, and this process is not touched."""
    monkeypatch.setattr(conversion, "BYTES", 300_000_000)
    with pytest.raises(conversion.ConversionError, match="memory"):
        convert(Grows(), ("matrix", "float32"))


def test_nothing_is_left_of_a_conversion(monkeypatch, tmp_path):
    """The process that was ended takes with it the processes that the converter started."""
    monkeypatch.setattr(conversion, "SECONDS", 15.0)
    with pytest.raises(conversion.UnendedError):
        convert(Forks(str(tmp_path / "who")), ("matrix", "float32"))
    assert gone(*recorded(tmp_path / "who"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_command_is_ended(tmp_path, how):
    """Ctrl-C and the death of the command end the conversion and what it started."""
    code = (
        "from pipeline.errors import edge\nfrom tests.pipeline.formats.test_onnx_conversion import Forks, convert\n"
        f"edge(lambda: convert(Forks({str(tmp_path / 'who')!r}), ('matrix', 'float32')))()"
    )
    command = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True)
    processes = recorded(tmp_path / "who", command)
    os.killpg(command.pid, how) if how == signal.SIGINT else os.kill(command.pid, how)
    _, said = command.communicate(timeout=120)
    assert "Traceback" not in said and gone(*processes)


def test_same_model_converts_to_the_same_bytes():
    """Each conversion is a process of its own, and gives the same bytes."""
    model = RandomForestClassifier(5, random_state=1).fit(X, Y)
    first, again = (convert(model, ("matrix", "float32"))[0] for _ in range(2))
    assert first == again and first[1]["dtype"] == "float32"


class Unknown(DecisionTreeClassifier):
    """A model that nothing converts."""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Unknown(), f"it cannot become ONNX: nothing converts {__name__}.Unknown"),
        (CalibratedClassifierCV(LogisticRegression(), method="temperature", cv=2),
         "it cannot become ONNX: its converter does not expect this model ('_TemperatureScaling' object has no attribute 'out_of_bounds')"),
    ],
)  # fmt: skip
def test_reason_is_one_sentence(model, words):
    """What a converter raises becomes one line that names the cause, without dumps and names of exceptions."""
    model.fit(np.nan_to_num(X), Y)
    with pytest.raises(conversion.ConversionError) as caught:
        convert(model, ("matrix", "float32"))
    assert caught.value.what == words


@pytest.mark.parametrize("categories", [[0], None])
def test_histogram_boosting_says_why_it_is_no_onnx(categories):
    """Categories have no counterpart in ONNX; without them the sentence names what could not be written, and no dump of the graph."""
    model = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=1, categorical_features=categories)
    model.fit(np.nan_to_num(X), Y)
    try:
        convert(model, ("matrix", "float64"))
    except conversion.ConversionError as error:
        said = error.what
        assert said.startswith("it cannot become ONNX: ") and "\n" not in said and "=" not in said
        assert not categories or said.endswith(
            "HistGradientBoostingClassifier with categorical features has no counterpart there"
        )
    else:
        assert not categories


def test_categories_inside_another_estimator_are_found():
    """Categories are found in the members of an ensemble too."""
    boosting = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=1, categorical_features=[0])
    model = CalibratedClassifierCV(boosting, cv=2).fit(np.nan_to_num(X), Y)
    with pytest.raises(conversion.ConversionError, match="with categorical features has no counterpart there"):
        convert(model, ("matrix", "float64"))


def test_categories_found_by_their_type_are_found():
    """`from_dtype`, the default, makes columns of pandas' type category categorical: the sentence is the same."""
    frame = pd.DataFrame(np.nan_to_num(X)).round().astype({0: "category"})
    boosting = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=1, categorical_features="from_dtype")
    with pytest.raises(conversion.ConversionError, match="with categorical features has no counterpart there"):
        convert(boosting.fit(frame, Y), ("columns", "float64"), kinds=dict.fromkeys(map(str, frame), "number"))


def test_no_locale_is_left_in_a_graph():
    """Text is put into lower case in the locale C, which is everywhere: the one that ONNX Runtime takes by itself is not."""
    words = np.array([["good coffee"], ["Bad tea"]] * 5, dtype=object)
    model = make_pipeline(make_column_transformer((CountVectorizer(), 0)), LogisticRegression()).fit(words, [0, 1] * 5)
    ((graph, _),) = convert(model, ("columns", "float32"), kinds={"words": "text"})
    nodes = [node for node in onnx.load_from_string(graph).graph.node if node.op_type == "StringNormalizer"]
    locales = [attribute.s for node in nodes for attribute in node.attribute if attribute.name == "locale"]
    assert locales == [b"C"] * len(nodes) and nodes
