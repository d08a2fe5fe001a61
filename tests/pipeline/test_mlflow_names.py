"""Names for MLflow: our rule refuses what MLflow refuses, and nothing that it takes."""

import itertools

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils import validation

from pipeline.mlflow_names import LONGEST, LONGEST_VALUE, fault, fit

SIGNS = ["a", "Z", "ß", "7", "_", "-", ".", " ", ":", "/", "@", "%", "(", "\n", "\t", "\\", '"', "é", "μ"]
NAMES = ["", "recall@20", "F1 (macro)", "größe", *map("".join, itertools.product(SIGNS, repeat=2))]
NAMES += ["a/b", "a//b", "a/../b", "../a", "a/./b", "/a", "a/", "a.b", "..a", "x" * LONGEST, "x" * 300]


def taken(name):
    """Whether MLflow takes it behind each prefix that we put there."""
    try:
        validation._validate_metric_name(name)
        validation._validate_param(f"train.{name}", "1")
        validation._validate_model_version_tag(f"metric_{name}", "1")
    except MlflowException:
        return False
    return True


def test_rule_for_names_is_mlflows():
    """Our rule and MLflow's differ only where MLflow's lets a trailing line break through."""
    differ = {name for name in NAMES if taken(name) == bool(fault(name))}
    assert {name for name in differ if not name.endswith("\n")} == set()


def test_any_name_can_be_made_fit():
    """What is made fit behind a heading is taken by MLflow, and a name that is fit stays as it is."""
    assert all(taken(f"evidence/{fit(name)}") and not fault(fit(name)) for name in NAMES)
    assert fit("mean area: 2.5-3_b") == "mean area: 2.5-3_b" and fit("a/../b@c") == "a_.._b_c"


def test_longest_names_and_values_are_mlflows():
    """The longest name fits with its prefix, and the longest value is MLflow's own."""
    assert LONGEST + len("metric_") <= validation.MAX_ENTITY_KEY_LENGTH
    assert LONGEST_VALUE == validation.MAX_PARAM_VAL_LENGTH


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("recall@20", "it holds '@'; allowed are letters, digits, spaces and _ - . : /"),
        ("", "it is empty"),
        (1, "it is int, not text"),
        ("x" * 231, "it has 231 characters; at most 230 are allowed"),
        ("a//b", "MLflow makes a path of it"),
    ],
)
def test_fault_is_said(name, words):
    """What is wrong with a name, and what is allowed."""
    assert fault(name).startswith(words)
