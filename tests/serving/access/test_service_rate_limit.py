"""Rate limits per client."""

import pytest

from serving.access import rate_limit
from serving.access.rate_limit import RateLimit
from serving.config import ConfigError, read_config
from tests.serving.service import serving


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when the test moves it."""
    now = [1000.0]
    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: now[0])
    return now


def test_burst_is_limited(clock):
    """A limit of 10 a second admits 10 at once; the eleventh has to wait a tenth of a second."""
    limit = RateLimit(10)
    assert [limit.wait(1) for _ in range(10)] == [0.0] * 10
    assert limit.wait(1) == pytest.approx(0.1)


def test_refused_requests_do_not_count(clock):
    """A client that keeps trying is admitted as soon as one that waits."""
    limit = RateLimit(10)
    for _ in range(100):
        limit.wait(1)
    clock[0] += 0.1001
    assert limit.wait(1) == 0.0
    assert limit.wait(1) > 0


def test_rate_holds_over_a_long_time(clock):
    """A client that sends all the time gets the first 10 and then 10 a second."""
    limit, let_in = RateLimit(10), 0
    for _ in range(10_000):
        let_in += limit.wait(1) == 0.0
        clock[0] += 0.001
    assert let_in == pytest.approx(110, abs=1)


def test_limits_are_per_client(clock):
    """A client that has used up its requests does not affect another."""
    limit = RateLimit(1)
    assert limit.wait(1) == 0.0
    assert limit.wait(1) > 0
    assert limit.wait(2) == 0.0


def test_limit_below_one_a_second(clock):
    """0.1 a second is one every ten seconds."""
    limit = RateLimit(0.1)
    assert limit.wait(1) == 0.0
    assert limit.wait(1) == pytest.approx(10)
    clock[0] += 10
    assert limit.wait(1) == 0.0


def test_0_is_no_limit(clock):
    """0 turns the limit off."""
    limit = RateLimit(0)
    assert not any(limit.wait(1) for _ in range(100_000))


def test_bytes_are_limited_like_requests(clock):
    """A limit of 1,000 bytes a second admits 1,000 at once, in any portions, and then as many as time allows."""
    limit = RateLimit(1_000, 600)
    assert [limit.wait(1, size) for size in (600, 400)] == [0.0, 0.0]
    assert limit.wait(1, 500) == pytest.approx(0.5)
    clock[0] += 0.5
    assert limit.wait(1, 500) == 0.0


def test_body_larger_than_the_byte_limit_passes(clock):
    """Under 1,000 bytes a second, a body of 5,000 is accepted once in five seconds."""
    limit = RateLimit(1_000, 5_000)
    assert limit.wait(1, 5_000) == 0.0
    assert limit.wait(1, 5_000) == pytest.approx(5)
    clock[0] += 5
    assert limit.wait(1, 5_000) == 0.0


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_byte_limit_is_named_in_the_429(bundle, declared):
    """The 429 names the byte limit, not the request limit, and gives the time to wait."""
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
def test_invalid_setting_is_named(environment, words):
    """The message says what the variable must be, without parts of a URL that may be secret."""
    with pytest.raises(ConfigError) as caught:
        read_config(environment)
    assert words in str(caught.value) and "hunter2" not in str(caught.value)


def test_open_service_needs_the_option():
    """Without keys it listens on loopback only, unless --open is given; --open together with keys is an error."""
    assert read_config({}).open
    assert read_config({}, open=True, loopback=False).open
    with pytest.raises(ConfigError, match="no keys are set"):
        read_config({}, loopback=False)
    with pytest.raises(ConfigError, match="leave out one"):
        read_config({"SLIPWAY_API_KEYS": "x"}, open=True)
    assert not read_config({"SLIPWAY_API_KEYS": "x"}, loopback=False).open
