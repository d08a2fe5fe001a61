"""Graceful shutdown: connected clients are answered, also those not yet accepted."""

import signal
import threading
import time

import pytest

from tests.serving.bundles import make_bundle
from tests.serving.load import call_until_refused
from tests.serving.service import serving


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_connection_is_lost_when_the_service_stops(tmp_path, workers):
    """SIGTERM while clients keep opening connections: each accepted one is answered, the others are refused."""
    answered, lost = [], []
    with serving(make_bundle("binary", tmp_path / "bundle"), "--workers", workers, SLIPWAY_RATE_LIMIT="0") as service:
        port = int(service.url.rsplit(":", 1)[1])
        callers = [threading.Thread(target=call_until_refused, args=(port, answered, lost)) for _ in range(16)]
        for caller in callers:
            caller.start()
        end = time.monotonic() + 60
        while len(answered) < 200 and time.monotonic() < end:
            time.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
        for caller in callers:
            caller.join(60)
    assert len(answered) >= 200 and lost == []
