"""Graceful shutdown: connected clients are answered, also those not yet accepted."""

import pytest

from tests.serving.bundles import make_bundle
from tests.serving.load import call_until_refused
from tests.serving.service import serving


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_connection_is_lost_when_the_service_stops(tmp_path, workers):
    """SIGTERM while clients keep opening connections: each accepted one is answered, the others are refused."""
    with serving(make_bundle("binary", tmp_path / "bundle"), "--workers", workers, SLIPWAY_RATE_LIMIT="0") as service:
        lost = call_until_refused(int(service.url.rsplit(":", 1)[1]), service.process.terminate)
        assert service.process.wait(60) == 0
    assert lost == []
