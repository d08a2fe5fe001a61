"""How often a caller may ask."""

import pytest

from serving.access import rate_limit
from serving.access.rate_limit import RateLimit
from serving.config import ConfigError, read_config
from tests.serving.service import serving


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: now[0])
    return now


def test_so_many_at_once_and_then_no_more(clock):
    """A limit of 10 a second lets 10 in at once; the eleventh has to wait a tenth of a second."""
    limit = RateLimit(10)
    assert [limit.wait(1) for _ in range(10)] == [0.0] * 10
    assert limit.wait(1) == pytest.approx(0.1)


def test_what_is_refused_does_not_count(clock):
    """A caller that goes on asking in vain is let in as soon as one that waits."""
    limit = RateLimit(10)
    for _ in range(100):
        limit.wait(1)
    clock[0] += 0.1001
    assert limit.wait(1) == 0.0
    assert limit.wait(1) > 0


def test_over_a_long_time_the_rate_is_kept(clock):
    """Whoever asks all the time gets 10 a second, and the first 10."""
    limit, let_in = RateLimit(10), 0
    for _ in range(10_000):
        let_in += limit.wait(1) == 0.0
        clock[0] += 0.001
    assert let_in == pytest.approx(110, abs=1)


def test_callers_do_not_share_a_limit(clock):
    """One that has used up its requests takes none from another."""
    limit = RateLimit(1)
    assert limit.wait(1) == 0.0
    assert limit.wait(1) > 0
    assert limit.wait(2) == 0.0


def test_a_limit_of_less_than_one_a_second_lets_one_in(clock):
    """0.1 a second is one each ten seconds."""
    limit = RateLimit(0.1)
    assert limit.wait(1) == 0.0
    assert limit.wait(1) == pytest.approx(10)
    clock[0] += 10
    assert limit.wait(1) == 0.0


def test_no_limit_is_no_limit(clock):
    """0 switches it off."""
    limit = RateLimit(0)
    assert not any(limit.wait(1) for _ in range(100_000))


def test_bytes_are_limited_as_requests_are(clock):
    """A limit of 1,000 bytes a second lets 1,000 in at once, however they are cut, and then as many as time brings."""
    limit = RateLimit(1_000, 600)
    assert [limit.wait(1, size) for size in (600, 400)] == [0.0, 0.0]
    assert limit.wait(1, 500) == pytest.approx(0.5)
    clock[0] += 0.5
    assert limit.wait(1, 500) == 0.0


def test_the_largest_body_passes_a_limit_that_is_smaller(clock):
    """A body of 5,000 bytes under 1,000 a second is taken once in five seconds, not never."""
    limit = RateLimit(1_000, 5_000)
    assert limit.wait(1, 5_000) == 0.0
    assert limit.wait(1, 5_000) == pytest.approx(5)
    clock[0] += 5
    assert limit.wait(1, 5_000) == 0.0


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_who_sends_too_many_bytes_is_told_which_limit_that_was(bundle, declared):
    """429 names the limit by bytes, not the one by requests, and says when to come again."""
    body = b'{"features": [[12.5, -0.5, 4, true' + b" " * 4_000_000 + b"]]}"
    with serving(bundle, SLIPWAY_RATE_LIMIT_BYTES="100000") as service:
        answers = [service.post("/predict/batch", data=body if declared else iter([body])) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["detail"] == "too many bytes from this caller; send smaller bodies, or fewer a second"
    assert 5 <= int(answers[1].headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SLIPWAY_RATE_LIMIT": "many"}, "SLIPWAY_RATE_LIMIT is 'many'"),
        ({"SLIPWAY_RATE_LIMIT": "-1"}, "SLIPWAY_RATE_LIMIT is '-1'"),
        ({"SLIPWAY_RATE_LIMIT": "inf"}, "SLIPWAY_RATE_LIMIT is 'inf'"),
        ({"SLIPWAY_RATE_LIMIT_BYTES": "5MB"}, "SLIPWAY_RATE_LIMIT_BYTES is '5MB'"),
        ({"SLIPWAY_LOG_RETENTION_DAYS": "a year"}, "SLIPWAY_LOG_RETENTION_DAYS is 'a year'"),
        ({"SLIPWAY_REQUEST_LOG": "yes"}, "SLIPWAY_REQUEST_LOG is 'yes'"),
        ({"SLIPWAY_DATABASE_URL": "mysql://u:hunter2@x/y"}, "SLIPWAY_DATABASE_URL is neither"),
        ({"SLIPWAY_API_KEYS": "a", "SLIPWAY_API_KEYS_FILE": "b"}, "are both set"),
    ],
)
def test_a_wrong_setting_is_named(environment, words):
    """What a variable must be is said, without what an address may hide."""
    with pytest.raises(ConfigError) as caught:
        read_config(environment)
    assert words in str(caught.value) and "hunter2" not in str(caught.value)


def test_an_open_service_must_be_asked_for():
    """Without keys it listens on this machine alone, unless told to be open; open and keys contradict each other."""
    assert read_config({}).open
    assert read_config({}, open=True, loopback=False).open
    with pytest.raises(ConfigError, match="no keys are set"):
        read_config({}, loopback=False)
    with pytest.raises(ConfigError, match="leave out one"):
        read_config({"SLIPWAY_API_KEYS": "x"}, open=True)
    assert not read_config({"SLIPWAY_API_KEYS": "x"}, loopback=False).open
