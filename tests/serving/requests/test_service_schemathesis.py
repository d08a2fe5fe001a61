"""The service conforms to its OpenAPI document: valid requests are accepted, invalid ones refused.

A few hundred requests in the suite; `make fuzz` sends thousands for each kind of model.
"""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.serving.bundles import KINDS, change, make_bundle, read
from tests.serving.fuzz import LONG, SEED
from tests.serving.service import KEY, ROOT, serving, with_keys

# Numbers near the largest double overflow inside these models, which no document can express: they get a documented
# 422, which test_service_bad_input asserts. A contract with limits, as a careful team writes, has none.
LIMITS = {"multiclass": 1e30, "regression": 1e300}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)
# Valid requests must be answered; the default check would accept a 401, too. Invalid ones may also be too large: 10,001
# rows of long names exceed 5 MB, and the default check does not count a 413 as a refusal, but any 5xx. Wrong keys are
# for the check `ignored_auth`; generated here, they would replace invalid bodies.
CONFIG = f"""
[generation]
database = "none"
with-security-parameters = false
[checks.positive_data_acceptance]
expected-statuses = ["2xx"]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 413, 415, 422, 429]
[auth.openapi]
Key = {{ api_key = "{KEY}" }}
"""


def _bundle(kind, folder):
    make_bundle(kind, folder)
    if limit := LIMITS.get(kind):
        inputs = read(folder, "contract.json")["inputs"]
        for column in inputs:
            column["minimum"] = -limit if column["minimum"] is None else column["minimum"]
            column["maximum"] = limit if column["maximum"] is None else column["maximum"]
        change(folder, "contract.json", inputs=inputs)
    return folder


def _schemathesis(service, folder, examples, *options):
    """Run schemathesis against a service; return its exit status and its counts."""
    (folder / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    report = folder / "report.ndjson"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json", "--seed", str(SEED)]
    command += ["--max-examples", str(examples), "--checks", ",".join(CHECKS)]
    command += [*options, "--report", "ndjson", "--report-ndjson-path", str(report)]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.serving.schemathesis_hooks", "BUNDLE": str(service.bundle)}
    environment = {**os.environ, **hooks, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done, *_counted(report)


def _counted(report):
    """From a run's report: requests by phase, responses by status, and checks by name."""
    requests, answers, checks = Counter(), Counter(), Counter()
    with report.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith('{"ScenarioFinished"'):
                scenario = json.loads(line)["ScenarioFinished"]
                made = list(scenario["recorder"].get("interactions", {}).values())
                requests[scenario["phase"]] += len(made)
                answers.update(one["response"]["status_code"] for one in made)
                for all_of_one in scenario["recorder"].get("checks", {}).values():
                    checks.update(check["name"] for check in all_of_one)
    return requests, answers, checks


@pytest.fixture(params=KINDS if LONG else ["columns"])
def checked(request, tmp_path):
    """A service with keys, a prediction log and no rate limit."""
    with serving(_bundle(request.param, tmp_path / "bundle"), **with_keys(tmp_path)) as service:
        yield service


def test_service_conforms_to_its_document(checked, tmp_path):
    """Valid requests are accepted, all others refused, and every response is a documented one."""
    done, requests, answers, checks = _schemathesis(checked, tmp_path, 300 if LONG else 3)
    print(f"\n{checked.contract['name']}: {dict(requests)}, {dict(answers)}, {dict(checks)}")
    assert done.returncode == 0, done.stdout[-20_000:]
    assert set(requests) == {"examples", "coverage", "fuzzing", "stateful"}
    assert requests.total() >= (5000 if LONG else 500)
    assert set(checks) == set(CHECKS)
    assert {200, 401, 405, 422} <= set(answers)


@pytest.mark.skipif(not LONG, reason="the test above sends hundreds of such bodies; `make fuzz` sends thousands more")
def test_invalid_requests_are_refused(checked, tmp_path):
    """Bodies that break the document in one place, or are not JSON, get 400 or 422."""
    options = ("--mode", "negative", "--phases", "fuzzing")
    done, requests, answers, checks = _schemathesis(checked, tmp_path, 500, *options)
    print(f"\n{checked.contract['name']}: {dict(requests)}, {dict(answers)}, {dict(checks)}")
    assert done.returncode == 0, done.stdout[-20_000:]
    assert answers[400] and answers[422] >= 200
