"""Rules of project/rules.py: what is refused before a model is fitted, and what they do to its answers."""

from functools import partial

import numpy as np
import pytest

from pipeline.decisions import rules
from pipeline.errors import ProjectError
from pipeline.formats import bundle
from serving.model.decision import Threshold
from tests.pipeline.decisions.test_threshold import by_column, dataset


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes project/rules.py, and further modules of project/, into a repository of its own."""
    monkeypatch.setattr("pipeline.decisions.rules.ROOT", tmp_path)
    monkeypatch.setattr("pipeline.formats.sklearn_model.ROOT", tmp_path)

    def write(text: str, **others: str):
        (tmp_path / "project").mkdir(exist_ok=True)
        for name, content in {"rules": text, **others}.items():
            (tmp_path / "project" / f"{name}.py").write_text(content)

    return write


def test_without_the_file_there_are_no_rules(written):
    """Nor with one that lists none."""
    assert rules.checked(dataset()) == {}
    written("BEFORE = []")
    assert rules.checked(dataset()) == {}


def test_rules_travel_with_the_modules_that_they_import(written):
    """Those of project/ alone; numpy and the standard library are in every image."""
    limits = "import math\nMOST = 2.0"
    written(
        "import numpy\nfrom project.limits import MOST\ndef top(row): return 'yes' if row['a'] > MOST else None\nBEFORE = [top]",
        limits=limits,
    )
    data = dataset()
    found = rules.checked(data)
    assert sorted(found) == ["code/project/limits.py", "code/project/rules.py"]
    assert rules.contract_part(found, data) == {"rules": {"before": ["top"], "after": []}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import pandas", "project/rules.py imports pandas, which the image of the service does not have"),
        ("BEFORE = [1]", "BEFORE in project/rules.py holds 1"),
        (
            "def block(row): return None\nBEFOR = [block]",
            "project/rules.py has neither BEFORE nor AFTER, so it lists no rule",
        ),
        ("def block(row) return None", "project.rules is not valid Python: .*, line 1"),
        ("def out(row): raise SystemExit(3)\nBEFORE = [out]", "the rule out fails: SystemExit: 3, on row r"),
        ("raise SystemExit(3)", "project/rules.py cannot be imported: SystemExit: 3"),
        ("def odd(row): return 'perhaps'\nBEFORE = [odd]", "the rule odd returns .perhaps., allowed is .*'no', 'yes'"),
        (
            "def listed(row): open('README.md')\nBEFORE = [listed]",
            "the rule listed fails: FileNotFoundError: .*README.md",
        ),
        ("def odd(row): return row['b']\nBEFORE = [odd]", "the rule odd fails: KeyError: 'b', on row r"),
        ("def odd(row, score): return score * 2\nAFTER = [odd]", "the rule odd returns 2.0, allowed"),
        ("def odd(row): row['a'] = 0.0\nBEFORE = [odd]", "the rule odd changes the row that it is given, on row r"),
        (
            "n = [0]\ndef odd(row):\n    n[0] += 1\n    return 'yes' if n[0] % 2 else None\nBEFORE = [odd]",
            "the rule odd answers differently when asked twice, on row r",
        ),
    ],
)
def test_a_rule_that_cannot_be_served_is_refused_at_the_start(written, text, words):
    """With the rule and the row by name."""
    written(text)
    with pytest.raises(ProjectError, match=words):
        rules.checked(dataset())


def test_the_report_says_what_each_rule_decided_and_how_it_went(written):
    """Beside what the model alone would have said, by the same threshold."""
    written(
        "def top(row): return 'yes' if row['a'] > 1 else None\n"
        "def cap(row, score): return 0.0 if row['a'] < -1 else None\n"
        "BEFORE = [top]\nAFTER = [cap]"
    )
    data = dataset()
    held, a = by_column(data, data.holdout), data.features["a"][data.holdout].to_numpy()
    ruled = rules.of_files(rules.checked(data), data)
    top, cap = rules.on_holdout(ruled, data, held, Threshold(1, 0.3))
    assert (top.rule, top.before, top.rows) == ("top", True, (a > 1).sum())
    assert (cap.rule, cap.before, cap.rows) == ("cap", False, (a < -1).sum())
    assert top.right == (data.target[data.holdout][a > 1] == "yes").mean()
    together = rules.together(ruled, data, held)
    assert (together[a > 1] == [0, 1]).all()
    assert (together[(a >= -1) & (a <= 1)] == held[(a >= -1) & (a <= 1)]).all()


def test_golden_rows_leave_out_what_a_rounding_error_decides(written):
    """A rule with a limit on the score may go either way beside it."""
    written("def block(row, score): return 'yes' if score > 0.5 else None\nAFTER = [block]")
    data = dataset()
    ruled = rules.of_files(rules.checked(data), data)
    some = data.features[:3]
    positive = np.array([0.2, 0.5 + 1e-6, 0.9])
    given, numbers, holds = rules.settled(ruled, data, 1e-5, some, np.stack([1 - positive, positive], axis=1))
    assert holds.tolist() == [True, False, True]
    assert given[2].tolist() == [0, 1]
    assert numbers.tolist() == [-1, 0, 0]


def test_a_row_of_each_rule_is_golden(written):
    """However rarely it decides: a service that lost the rule would otherwise pass."""
    data = dataset()
    answers = by_column(data, data.holdout)
    plain = {row[0] for row in bundle.golden(data, answers, 1e-5)["inputs"]}
    rare = next(value for value in data.features["a"][data.holdout] if value not in plain)
    written(f"def rare(row): return 'yes' if row['a'] == {rare!r} else None\nBEFORE = [rare]")
    ruled = partial(rules.settled, rules.of_files(rules.checked(data), data), data, 1e-5)
    golden = bundle.golden(data, answers, 1e-5, ruled=ruled)
    [place] = [place for place, row in enumerate(golden["inputs"]) if row[0] == rare]
    assert golden["expected"][place] == {"label": "yes", "probabilities": [0.0, 1.0]}


def test_parity_is_of_the_model_alone():
    """Its files and contract, without the rules; a stored model keeps its own code."""
    files = {"model.onnx": b"", "code/project/rules.py": b""}
    assert rules.without(files, {"format": "onnx", "rules": {}, "name": "x"}) == (
        {"model.onnx": b""},
        {"format": "onnx", "name": "x"},
    )
    assert rules.without(files, {"format": "skops"})[0] == files
