"""The log's clock: the real time, or in a drill one that runs faster."""

import time

import pytest

from serving.config import ConfigError, read_config
from serving.log.clock import clock, now


def test_log_clock_is_the_real_one_by_default():
    """Without a setting the function is time.time itself, which costs nothing more."""
    assert clock(read_config({}, open=True).log_clock) is time.time


def test_log_clock_runs_faster_from_its_origin(monkeypatch):
    """ORIGIN:FACTOR multiplies the time since ORIGIN, in a service and in the commands beside it."""
    monkeypatch.setattr(time, "time", lambda: 1_000_002.5)
    setting = {"SLIPWAY_LOG_CLOCK": "1000000:86400"}
    assert clock(read_config(setting, open=True).log_clock)() == 1_000_000 + 2.5 * 86_400
    monkeypatch.setenv("SLIPWAY_LOG_CLOCK", setting["SLIPWAY_LOG_CLOCK"])
    assert now() == 1_000_000 + 2.5 * 86_400


@pytest.mark.parametrize(
    "setting", ["fast", "1000", "1000:", ":60", "1000:0", "-1:60", "1000:1e3", "1000:60:1", "٣:60"]
)
def test_bad_log_clock_is_refused_in_words(setting):
    """The message names the variable and says what it must be."""
    with pytest.raises(ConfigError, match=r"SLIPWAY_LOG_CLOCK is .*; it is ORIGIN:FACTOR"):
        read_config({"SLIPWAY_LOG_CLOCK": setting}, open=True)
