"""Delivery's own key: where it comes from, what is refused before anything is started, and that no message repeats it."""

import hashlib

import pytest

from delivery import keys
from pipeline.errors import DeployError

KEY = "slipway_a-key-that-nobody-guesses"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
GOOD = f"# who may call\npipeline predict,metrics {HASH}\n"


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No keys are set."""
    for name in (*keys.GIVEN, keys.VARIABLE):
        monkeypatch.delenv(name, raising=False)


def refused(action) -> str:
    """The words of a refusal, which must not hold the key."""
    with pytest.raises(DeployError) as raised:
        action()
    said = f"{raised.value.what} {raised.value.then}"
    assert KEY not in said
    return said


def test_without_keys_anybody_may_call():
    """Where the user gives no callers, delivery needs no key and sends no header."""
    assert keys.ours() == "" and keys.headers("") == {"Slipway-Role": "test"} and keys.given() == ""


def test_the_users_callers_need_a_key_of_ours(monkeypatch):
    """With SLIPWAY_API_KEYS alone, what to do is said before a service is started that delivery could not ask."""
    monkeypatch.setenv("SLIPWAY_API_KEYS", GOOD)
    said = refused(keys.ours)
    assert "SLIPWAY_KEY is not" in said and "make key NAME=pipeline SCOPES=predict,metrics" in said


@pytest.mark.parametrize("variable", keys.GIVEN)
def test_a_key_that_is_known_is_ours(variable, monkeypatch, tmp_path):
    """The key of SLIPWAY_KEY is used once its hash is among the callers, in the variable or in the file."""
    file = tmp_path / "keys"
    file.write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv(variable, str(file) if variable.endswith("_FILE") else GOOD)
    monkeypatch.setenv("SLIPWAY_KEY", f"{KEY}\n")
    assert keys.ours() == KEY and keys.headers(KEY) == {"X-API-Key": KEY, "Slipway-Role": "test"}


def test_a_key_that_is_not_known_comes_with_the_line_to_add(monkeypatch):
    """The refusal holds the very line by which the service would know the key."""
    monkeypatch.setenv("SLIPWAY_API_KEYS", f"billing predict {'a' * 64}")
    monkeypatch.setenv("SLIPWAY_KEY", KEY)
    assert f"add this line to it: pipeline predict,metrics {HASH}" in refused(keys.ours)


def test_a_key_that_may_too_little_is_named(monkeypatch):
    """A key without the scope metrics could not judge a canary."""
    monkeypatch.setenv("SLIPWAY_API_KEYS", f"ci predict {HASH}")
    monkeypatch.setenv("SLIPWAY_KEY", KEY)
    said = refused(keys.ours)
    assert "lacks the scope metrics" in said and "the line of ci" in said


@pytest.mark.parametrize("text", [f"{KEY} {KEY}", f"{KEY}\r\nX-Other: 1", f"{KEY}é"])
def test_what_no_header_can_carry_is_refused_without_repeating_it(text, monkeypatch):
    """Spaces, line ends and letters beyond ASCII: the words name the variable alone."""
    monkeypatch.setenv("SLIPWAY_KEY", text)
    assert "SLIPWAY_KEY holds no key" in refused(keys.from_environment)


@pytest.mark.parametrize(
    ("lines", "said"), [("pipeline predict,metrics", "this one has 2 words"), ("# nobody", "names no caller")]
)
def test_lines_that_are_wrong_are_named(lines, said, monkeypatch):
    """What the service would say of its callers is said before it is started."""
    monkeypatch.setenv("SLIPWAY_API_KEYS", lines)
    monkeypatch.setenv("SLIPWAY_KEY", KEY)
    assert said in refused(keys.ours)


def test_a_file_that_is_not_there_is_named(monkeypatch, tmp_path):
    """The file of SLIPWAY_API_KEYS_FILE is looked at here, too."""
    monkeypatch.setenv("SLIPWAY_API_KEYS_FILE", str(tmp_path / "gone"))
    monkeypatch.setenv("SLIPWAY_KEY", KEY)
    assert "cannot be read: No such file or directory" in refused(keys.ours)


def test_a_service_is_not_told_our_key():
    """The environment of a service has everything else."""
    assert keys.without_ours({"SLIPWAY_KEY": KEY, "PATH": "/bin"}) == {"PATH": "/bin"}
