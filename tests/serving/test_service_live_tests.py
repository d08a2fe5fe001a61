"""The integration tests pass for every kind of model, and fail when something is wrong."""

import os
import subprocess
import sys

from tests.serving.bundles import change, make_bundle, read, write
from tests.serving.service import ROOT


def _integration(url, bundle):
    """Run tests/integration against a service."""
    environment = {
        **os.environ,
        "SLIPWAY_URL": url,
        "SLIPWAY_BUNDLE": str(bundle),
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "tests/integration"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_integration_tests_pass_for_every_kind_of_model(service):
    """Against the service's own bundle every test passes, and none is skipped."""
    done = _integration(service.url, service.bundle)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout


def test_integration_tests_fail_against_another_version(binary, tmp_path):
    """They fail when the service runs another release than the bundle's."""
    done = _integration(binary.url, make_bundle("binary", tmp_path / "bundle", version="4"))
    assert done.returncode == 1
    assert "test_serves_the_release_of_the_bundle" in done.stdout


def test_integration_tests_fail_when_an_answer_differs(binary, tmp_path):
    """One changed golden answer makes them fail."""
    bundle = make_bundle("binary", tmp_path / "bundle")
    golden = read(bundle, "golden.json")
    golden["expected"][3]["probabilities"] = [0.5, 0.5]
    write(bundle, "golden.json", golden)
    done = _integration(binary.url, bundle)
    assert done.returncode == 1
    assert "test_golden_rows_by_list_and_by_name" in done.stdout


def test_integration_tests_fail_when_a_limit_is_not_enforced(binary, tmp_path):
    """A contract that is stricter than the service makes them fail."""
    bundle = make_bundle("binary", tmp_path / "bundle")
    inputs = read(bundle, "contract.json")["inputs"]
    inputs[0]["maximum"] = 50
    done = _integration(binary.url, change(bundle, "contract.json", inputs=inputs))
    assert done.returncode == 1
    assert "test_out_of_range_is_named" in done.stdout


def test_integration_tests_are_skipped_without_an_address():
    """Without an address they are skipped, and the reason says what to run."""
    environment = {name: value for name, value in os.environ.items() if name != "SLIPWAY_URL"}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "tests/integration"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "SLIPWAY_URL is not set; `make integration ENVIRONMENT=staging` sets it" in done.stdout
    assert "passed" not in done.stdout
