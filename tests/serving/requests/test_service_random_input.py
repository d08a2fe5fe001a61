"""No input makes the service fail."""

import psutil
import pytest

from tests.serving.bundles import KINDS, make_bundle
from tests.serving.fuzz import LONG, fuzz
from tests.serving.service import HEADERS, KEY, serving, with_keys

REQUESTS = 25_000 if LONG else 500  # per kind of model
WORKERS = 2


@pytest.fixture(params=KINDS)
def watched(request, tmp_path):
    """Each kind of model in a service with two workers, keys and a prediction log."""
    bundle = make_bundle(request.param, tmp_path / "bundle")
    with serving(bundle, "--workers", str(WORKERS), **with_keys(tmp_path)) as service:
        service.session.headers.update(HEADERS)
        yield service


def _processes(service):
    return {child.pid for child in psutil.Process(service.process.pid).children(recursive=True)}


def test_random_requests_are_answered_or_refused(watched):
    """Valid, nearly valid and random requests get finite numbers or problem details, and no worker dies."""
    before = _processes(watched)
    seen = fuzz(watched.url, watched.example, KEY, REQUESTS)
    print(f"  {watched.contract['name']}: {dict(sorted(seen.items()))}")
    assert {200, 400, 401, 404, 405, 415, 422} <= set(seen)
    assert _processes(watched) == before and len(before) == WORKERS + 1
    assert "slipway_worker_restarts_total 0.0" in watched.get("/metrics").text
    for row, expected in zip(watched.golden["inputs"], watched.golden["expected"], strict=True):
        answer = watched.predict(row).json()
        assert answer.get("label") == expected.get("label")
        assert answer.get("value") == pytest.approx(expected.get("value"))
        assert list(answer.get("probabilities", {}).values()) == pytest.approx(
            expected.get("probabilities", []), abs=1e-5
        )
