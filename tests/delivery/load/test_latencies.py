"""Latencies are counted in little memory, and their quantiles are those of the latencies themselves."""

import numpy as np
import pytest

from delivery.load.latencies import Latencies


def test_quantiles_are_those_of_the_latencies():
    """Mean and max are exact; median, p95 and p99 are within half a percent of what sorting gives."""
    drawn = np.random.default_rng(0).lognormal(-6, 1.5, 20_000)
    latencies = Latencies(10)
    for due, latency in zip(np.linspace(0, 10, len(drawn)), drawn, strict=True):
        latencies.add(due, latency)
    summary = latencies.summary()
    assert summary["mean"] == pytest.approx(drawn.mean()) and summary["max"] == drawn.max()
    wanted = np.quantile(drawn, [0.5, 0.95, 0.99], method="inverted_cdf")
    assert [summary[name] for name in ("median", "p95", "p99")] == pytest.approx(list(wanted), rel=0.0051)


def test_latencies_stand_where_their_requests_were_due():
    """The first tenth of the time holds what was due in it; what is due after the end stands at the end."""
    latencies = Latencies(10)
    for due in (0, 0.99, 1.01, 9.99, 10, 12):
        latencies.add(due, 0.001)
    by_slot = latencies.counts().sum(axis=1)
    assert by_slot[:10].sum() == 2 and by_slot[10] == 1 and by_slot[-1] == 3


@pytest.mark.parametrize("latency", [0.0, 1e-9, 5000.0])
def test_no_latency_is_out_of_bounds(latency):
    """Shorter than a microsecond or longer than a quarter of an hour: counted, and the maximum stays true."""
    latencies = Latencies(1)
    latencies.add(0, latency)
    assert latencies.counts().sum() == 1
    assert latencies.summary()["max"] == latency


def test_several_alike_are_counted_at_once():
    """A count of latencies that are alike is as if each had been added."""
    together, singly = Latencies(1), Latencies(1)
    together.add(0.5, 0.2, 300)
    for _ in range(300):
        singly.add(0.5, 0.2)
    assert (together.counts() == singly.counts()).all()
    assert together.summary() == pytest.approx(singly.summary())


def test_without_a_latency_there_is_no_summary():
    """Nothing measured is nothing, not zero."""
    assert Latencies(1).summary() is None
