"""Rules beside a model: what they are told, what they may answer, and who decides."""

import json

import pytest

from serving.experiment.experiment import model_code
from serving.model.bundle import BundleError, open_bundle
from serving.model.predictor import NoAnswer, load_predictor
from serving.model.rows import read_rows
from serving.model.rules import RuleError, RulesError, load_rules
from serving.requests.response_writer import AnswerWriter
from serving.telemetry.metrics import Metrics
from serving.telemetry.prometheus import exposition
from tests.serving.bundles import make_bundle, read, with_rules

KINDS = {"amount": "number", "tries": "integer", "new": "boolean", "country": "text"}
BINARY = (["bad", "good"], "bad")


def rules_of(text: str, classes=BINARY[0], positive=BINARY[1]):
    """Rules from the text of project/rules.py."""
    return load_rules({"project/rules.py": text.encode()}, KINDS, classes, positive)


def test_a_rule_is_told_a_row_by_name():
    """Whole numbers and booleans are such, and an empty cell is None."""
    rules = rules_of("BEFORE = []")
    nan = float("nan")
    assert rules.named([1.5, 3.0, 1.0, "x"]) == {"amount": 1.5, "tries": 3, "new": True, "country": "x"}
    assert rules.named([nan, nan, nan, ""]) == dict.fromkeys(KINDS)


def test_the_first_rule_that_answers_decides():
    """A class is as certain as can be; a probability is the positive class's; the score as it was decides nothing."""
    rules = rules_of(
        "def none(row): return None\n"
        "def block(row): return 'bad' if row['tries'] > 3 else None\n"
        "def allow(row): return 'good' if row['tries'] > 2 else None\n"
        "def cap(row, score): return min(score, 0.5)\n"
        "def trust(row, score): return 'good'\n"
        "BEFORE = [none, block, allow]\nAFTER = [cap, trust]"
    )
    assert rules.lists == {"before": ["none", "block", "allow"], "after": ["cap", "trust"]}
    assert (rules.before({"tries": 4}).rule, rules.before({"tries": 4}).answer.tolist()) == (1, [1, 0])
    assert (rules.before({"tries": 3}).rule, rules.before({"tries": 1})) == (2, None)
    capped = rules.after({}, [0.9, 0.1])
    assert (rules.names[capped.rule], capped.answer.tolist()) == ("cap", [0.5, 0.5])
    assert rules.names[rules.after({}, [0.25, 0.75]).rule] == "trust"


def test_a_regression_and_several_classes_have_rules_too():
    """A value of a regression; of several classes a name, by what the model says of each."""
    value = rules_of("def low(row, score): return max(score, 0.0)\nAFTER = [low]", [], None)
    assert value.after({}, -3.0).answer == 0
    assert value.after({}, 3.0) is None
    same = rules_of("def same(row, score): return score\nAFTER = [same]", ["a", "b", "c"], None)
    assert same.after({}, [0.2, 0.3, 0.5]) is None
    three = rules_of(
        "def unsure(row, score): return 'b' if max(score.values()) < 0.5 else None\nAFTER = [unsure]",
        ["a", "b", "c"],
        None,
    )
    assert three.after({}, [0.4, 0.3, 0.3]).answer.tolist() == [0, 1, 0]
    assert three.after({}, [0.6, 0.2, 0.2]) is None


@pytest.mark.parametrize("answer", ["'worse'", "1.5", "-0.1", "True", "[]", "float('nan')", "1 / 0"])
def test_an_answer_that_is_none_names_the_rule(answer):
    """No other class, no probability beyond 0 to 1, nothing else; and a rule that raises is one of them."""
    rules = rules_of(f"def odd(row, score): return {answer}\nAFTER = [odd]")
    with pytest.raises(RuleError, match="the rule odd"):
        rules.after({}, [0.3, 0.7])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("BEFORE = 3", "BEFORE in project/rules.py is int, not a list"),
        ("AFTER = [lambda row, score: None]", "no function with a name"),
        ("def twice(row): ...\nBEFORE = [twice]\nAFTER = [twice]", "lists the rule twice twice"),
    ],
)
def test_a_file_of_rules_that_cannot_be_used_is_refused(text, words):
    """With what is wrong in it."""
    with pytest.raises(RulesError, match=words):
        rules_of(text)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "columns", "skops_frame"])
def test_a_bundle_with_rules_answers_one_row_as_in_a_batch(tmp_path, kind):
    """The answer names the rule, and the counters count it; beside every format, and among modules of the same name."""
    folder = make_bundle(kind, tmp_path / "bundle")
    contract = read(folder, "contract.json")
    numbers = [one["name"] for one in contract["inputs"] if one["type"] != "text"]
    last = repr(contract["classes"][-1]) if contract["classes"] else "7.0"
    cap = "min(score, 0.4)" if contract["task"] != "multiclass" else "None"
    text = (
        f"def stop(row): return {last} if (row[{numbers[0]!r}] or 0) > 1 else None\ndef cap(row, score): return {cap}\n"
    )
    with_rules(folder, text + "BEFORE = [stop]\nAFTER = [cap]", ["stop"], ["cap"])
    bundle = open_bundle(folder)
    predictor = load_predictor(bundle)
    rows = read_rows(bundle.contract, read(folder, "golden.json")["inputs"])
    outputs, ones = predictor.predict(rows), [predictor.predict_one(row) for row in rows]
    assert json.loads(AnswerWriter(bundle.contract).write(outputs)) == ones
    stopped = sum(one.get("rule") == "stop" for one in ones)
    assert stopped > 0
    metrics = Metrics(bundle, ["/predict"])
    metrics.predicted_many(outputs)
    for one in ones:
        metrics.predicted(one)
    assert f'slipway_rule_decisions_total{{rule="stop"}} {2 * stopped:.1f}' in exposition(metrics).decode()


def test_a_rule_that_fails_leaves_the_row_without_an_answer(tmp_path):
    """It names the row and the rule, alone and in a batch."""
    folder = make_bundle("binary", tmp_path / "bundle")
    with_rules(folder, "def odd(row, score): return 1 / 0 if 0.85 < score < 0.9 else None\nAFTER = [odd]", (), ["odd"])
    predictor = load_predictor(open_bundle(folder))
    rows = read_rows(predictor.contract, read(folder, "golden.json")["inputs"])
    expected = read(folder, "golden.json")["expected"]
    high = next(place for place, one in enumerate(expected) if 0.85 < one["probabilities"][1] < 0.9)
    with pytest.raises(NoAnswer, match="the rule odd has no answer") as one:
        predictor.predict_one(rows[high])
    with pytest.raises(NoAnswer) as many:
        predictor.predict(rows)
    assert (one.value.rule, many.value.rule, many.value.row) == ("odd", "odd", high)


def test_contract_and_code_name_the_same_rules(tmp_path):
    """A service does not start with others than those that were tried."""
    folder = make_bundle("binary", tmp_path / "bundle")
    with_rules(folder, "def one(row): ...\nBEFORE = [one]", ["another"])
    with pytest.raises(BundleError, match="names the rules another, the code has one"):
        load_predictor(open_bundle(folder))


def test_code_of_rules_is_none_of_the_models(tmp_path):
    """So two bundles with different rules can be served by one process."""
    folder = make_bundle("skops", tmp_path / "bundle")
    with_rules(folder, "def one(row): ...\nBEFORE = [one]", ["one"])
    assert model_code(open_bundle(folder)) == {}
    texts = ["def one(row): return 'bad'\nBEFORE = [one]", "def one(row): return 'good'\nBEFORE = [one]"]
    first, second = (rules_of(text) for text in texts)
    assert first.before({}).answer.tolist() == [1, 0]
    assert second.before({}).answer.tolist() == [0, 1]
