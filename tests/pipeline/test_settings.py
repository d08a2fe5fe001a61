"""pipeline.toml: what is wrong is refused by table, key, and what would be right."""

import re
import tomllib
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import Settings, load_settings

GOOD = """
name = "wine-2"
[data]
task = "multiclass"
id = "id"
target = "kind"
[split]
holdout = 0.2
salt = "s"
[train]
seed = 0
[train.parameters]
depth = 3
[gate]
metric = "log_loss"
margin = 0
[gate.limits]
log_loss = 0.5
[deploy]
staging_port = 9001
[mlflow]
port = 9002
"""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings_of(tmp_path):
    """A function that reads settings from a text, or from bytes."""

    def read(text):
        path = tmp_path / "pipeline.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(path)

    return read


def changed(old, new):
    """The good settings with one text replaced."""
    assert old in GOOD
    return GOOD.replace(old, new)


def test_good_settings_are_read(settings_of):
    """What is given is taken, and what is left out has its default."""
    settings = settings_of(GOOD)
    assert (settings.name, settings.data.task, settings.data.positive) == ("wine-2", "multiclass", None)
    assert (settings.train.parameters, settings.gate.limits) == ({"depth": 3}, {"log_loss": 0.5})
    assert (settings.gate.policy, settings.gate.confidence) == ("better", 0.95)
    assert (settings.deploy.port("staging"), settings.deploy.port("production")) == (9001, 8000)


def test_settings_cannot_be_changed_after_reading(settings_of):
    """Settings are frozen: no stage can change them for the next."""
    with pytest.raises(ValueError, match="frozen"):
        settings_of(GOOD).gate.margin = 1.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("margin = 0", "margni = 0", "pipeline.toml: [gate] margni is unknown; did you mean margin?"),
        ("margin = 0", "margin = 0\nmax_latncy = 3", "[gate] max_latncy is unknown; did you mean max_latency_ms?"),
        ("margin = 0", "margin = 0\nxyzzy = 3", "[gate] xyzzy is unknown"),
        ("[mlflow]", "[mlfow]", "pipeline.toml: mlfow is unknown; did you mean mlflow?"),
        ("depth = 3\n[gate]", "depth = 3\n[gates]", "gates is unknown; did you mean gate?"),
        ('salt = "s"', "", "[split] salt is missing"),
        ("seed = 0", "", "[train] seed is missing"),
        ('name = "wine-2"', "", "pipeline.toml: name is missing"),
    ],
)
def test_unknown_and_missing_keys_are_named(settings_of, old, new, message):
    """An unknown key is refused with the nearest known one; a missing key is named with its table."""
    with pytest.raises(SettingsError) as caught:
        settings_of(changed(old, new))
    assert message in caught.value.what and "every key is explained there" in caught.value.then


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("holdout = 0.2", 'holdout = "0.2"', "[split] holdout = '0.2': input should be a valid number"),
        ("holdout = 0.2", "holdout = 0.51", "[split] holdout = 0.51: input should be less than or equal to 0.5"),
        ("holdout = 0.2", "holdout = nan", "[split] holdout = nan"),
        ("holdout = 0.2", "holdout = true", "[split] holdout = True"),
        ("seed = 0", "seed = 1.5", "[train] seed = 1.5: input should be a valid integer"),
        ("seed = 0", "seed = -1", "[train] seed = -1: input should be greater than or equal to 0"),
        ("seed = 0", "seed = 4294967296", "[train] seed"),
        ("margin = 0", "margin = inf", "[gate] margin = inf"),
        ("margin = 0", "margin = -0.1", "[gate] margin = -0.1"),
        ("margin = 0", "margin = 0\npolicy = 'best'", "[gate] policy = 'best': input should be 'better', 'superior'"),
        ("margin = 0", "margin = 0\nconfidence = 95", "[gate] confidence = 95"),
        ("margin = 0", "margin = 0\nslices = 'colour'", "[gate] slices = 'colour': input should be a valid list"),
        ("log_loss = 0.5", "log_loss = 'low'", "[gate.limits] log_loss = 'low'"),
        ("port = 9002", "port = 80", "[mlflow] port = 80: input should be greater than or equal to 1024"),
        ("staging_port = 9001", "staging_port = 70000", "[deploy] staging_port = 70000"),
        ('"wine-2"', '"Wine 2"', "name = 'Wine 2': string should match pattern"),
        ('target = "kind"', 'target = ""', "[data] target = ''"),
        ('"multiclass"', '"ranking"', "[data] task = 'ranking'"),
        ("[split]\nholdout = 0.2\nsalt", "split = 3\n[data.x]\nsalt", "x is unknown"),
    ],
)
def test_wrong_type_and_range_are_named(settings_of, old, new, place):
    """A value of the wrong type or out of range is refused with table, key, the value, and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        settings_of(changed(old, new))
    assert place in caught.value.what


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"multiclass"', '"binary"', '[data] positive is needed for task "binary", and only there'),
        ('target = "kind"', 'target = "kind"\npositive = "a"', '[data] positive is needed for task "binary"'),
        ('target = "kind"', 'target = "id"', "[data] id and target must be two columns"),
        ("staging_port = 9001", "staging_port = 8000", "[deploy] staging_port and production_port must differ"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(settings_of, old, new, message):
    """Keys that do not go together are refused with the rule they break."""
    with pytest.raises(SettingsError) as caught:
        settings_of(changed(old, new))
    assert message in caught.value.what


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"top@20" = 3', "the parameter 'top@20' cannot be logged in MLflow: it holds '@'; allowed are letters"),
        ('C = "' + "x" * 6001 + '"', "the value of parameter 'C' has 6001 characters; MLflow keeps 6000"),
    ],
)
def test_parameter_that_mlflow_does_not_take_is_refused(settings_of, line, message):
    """A parameter that MLflow refuses or cuts off is named when the settings are read, not after the training."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        settings_of(changed("depth = 3", line))


def searching(method: str, space: str, more: str = "") -> str:
    """The good settings with a search."""
    return changed("[gate]\n", f'[search]\nmethod = "{method}"\n{more}\n[search.space]\n{space}\n[gate]\n')


def test_a_space_of_lists_and_ranges_is_read(settings_of):
    """Whole numbers stay whole; a step gives so many values, without the dust of adding."""
    space = settings_of(
        searching("optimise", "a = [1, 'x', [2, 3]]\nb = {low = 1, high = 9}\nc = {low = 0.1, high = 0.5, step = 0.1}")
    ).search.space
    assert space["a"] == [1, "x", [2, 3]] and isinstance(space["b"].low, int)
    assert [space["c"].value(place) for place in range(space["c"].count)] == [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("C = []", "pipeline.toml: [search.space] C: the list of values is empty"),
        ("C = [1, 1]", "C: a value stands in the list twice"),
        ("C = 3", "C: 3 is no list of values and no range such as {low = 0.01, high = 10.0}"),
        ("C = {low = 1}", "C: high is missing"),
        ("C = {low = 2, high = 1}", "C: low = 2 must be below high = 1"),
        ("C = {low = 1.0, high = 1.0}", "C: low = 1.0 must be below high = 1.0"),
        ("C = {low = 0, high = 1, log = true}", "C: log = true needs low above 0, not 0"),
        ("C = {low = 1, high = 9, log = true, step = 2}", "C: log and step exclude each other"),
        ("C = {low = 1, high = 9, step = 0}", "C: step = 0 must be above 0 and at most high - low"),
        ("C = {low = 1, high = 9, step = 9}", "C: step = 9 must be above 0 and at most high - low"),
        ("C = {low = 1, high = 9, step = 0.5}", "C: step = 0.5 is no whole number, but low and high are"),
        ("C = {low = 'a', high = 9}", "C: low = 'a' is no number"),
        ("C = {low = 1, high = inf}", "C: high = inf is no number"),
        ("C = {low = 1, high = true}", "C: high = True is no number"),
        ("C = {low = 1, high = 2, log = 1}", "C: log = 1 must be true or false"),
        ("C = {low = 1, high = 2, hihg = 1}", "C: hihg is unknown in a range; it has low, high, log and step"),
        ('"top@20" = [1, 2]', "the parameter 'top@20' cannot be logged in MLflow"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(settings_of, space, message):
    """Each fault is named when the settings are read, whatever the method."""
    with pytest.raises(SettingsError) as caught:
        settings_of(searching("random", space))
    assert message in caught.value.what and caught.value.what.count("pipeline.toml") == 1


@pytest.mark.parametrize(
    ("method", "space", "more", "message"),
    [
        ("random", "", "", 'method = "random" needs parameters to search for'),
        (
            "grid",
            "C = {low = 1.0, high = 2.0}",
            "",
            "a grid needs a list of values for C, or a step beside low and high",
        ),
        ("grid", "C = [1, 2]\nd = {low = 1, high = 9}", "", "a grid needs a list of values for d"),
        ("grid", "C = [1, 2]\nd = [1, 2, 3]", "trials = 5", "the grid has 6 points, but trials = 5"),
    ],
)
def test_a_method_that_does_not_fit_the_space_is_refused(settings_of, method, space, more, message):
    """A grid must be finite, and not larger than the number of trials."""
    with pytest.raises(SettingsError) as caught:
        settings_of(searching(method, space, more))
    assert message in caught.value.what


def test_all_faults_are_told_at_once(settings_of):
    """Two faults make one message with both, so that nobody mends them one by one."""
    with pytest.raises(SettingsError) as caught:
        settings_of(changed("seed = 0", "seed = -1").replace("holdout = 0.2", "holdout = 2"))
    assert "[split] holdout = 2" in caught.value.what and "[train] seed = -1" in caught.value.what


@pytest.mark.parametrize("text", ['name = "a', "name = 1\nname = 2", b"name = '\xff'", "[data\n"])
def test_broken_toml_is_refused(settings_of, text):
    """What is no TOML is refused as such, with the parser's place."""
    with pytest.raises(SettingsError, match="is not valid TOML: "):
        settings_of(text)


def test_missing_file_is_refused(tmp_path):
    """Without the file the message says where to run."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml is missing") as caught:
        load_settings(tmp_path / "nowhere.toml")
    assert "run from the root of the repository" in caught.value.then


def test_every_setting_is_there_with_a_comment():
    """The shipped pipeline.toml holds every key that there is, and says of each what it means."""
    text = (ROOT / "tests" / "example" / "pipeline.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)
    for name, field in Settings.model_fields.items():
        if not hasattr(field.annotation, "model_fields"):
            assert re.search(rf"^{name} *=.*# \w", text, re.M), name
            continue
        keys = set(field.annotation.model_fields)
        assert keys == set(settings[name]), name
        table = re.search(rf"^\[{name}\].*?\n(.*?)(?=^\[(?!{name}\.)|\Z)", text, re.M | re.S)[1]
        for key in keys:
            assert re.search(rf"^({key} *=|\[{name}\.{key}\]).*# \S", table, re.M), f"[{name}] {key}"
