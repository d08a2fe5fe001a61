"""Failures around a fork: each has a clear message, a red exit, and leaves nothing half-done."""

import os
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest
import requests

from pipeline.processes import free_port
from tests.spine.flaky_proxy import flaky


@pytest.fixture(scope="module")
def shipped(fork):
    """A fork whose first model is in production, through an MLflow of which every third request fails."""
    fork.ok("-m", "scripts.mlflow.start_mlflow")
    with flaky(fork.json(".mlflow/server.json")["uri"], every=3) as proxy:
        fork.ok("-m", "scripts.ship", MLFLOW_TRACKING_URI=proxy.url)
    assert len(proxy.failed) > 50
    return fork


def test_unreachable_mlflow_is_reported_at_once(fork):
    """A URL where nothing listens is named before anything is trained, within a minute on the busiest machine."""
    begin = time.monotonic()
    said = fork.refused("-m", "scripts.ship", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - begin < 60
    assert "MLFLOW_TRACKING_URI" in said and "cannot be reached" in said
    assert not (fork.root / "build/run.json").exists()


def test_ship_through_a_failing_mlflow_creates_everything_once(shipped):
    """Requests failed before and after MLflow executed them: one run, one model, one version, one record for each environment."""
    client = shipped.mlflow()
    run, *others = client.search_runs([client.get_experiment_by_name("breast-cancer").experiment_id])
    assert (run.info.status, others) == ("FINISHED", [])
    assert len(client.search_logged_models([run.info.experiment_id])) == len(run.outputs.model_outputs) == 1
    assert [one.version for one in client.search_model_versions("name='breast-cancer'")] == ["1"]
    records = client.search_runs([client.get_experiment_by_name("breast-cancer-deployments").experiment_id])
    ends = sorted((one.data.tags["environment"], one.data.tags["result"], one.info.status) for one in records)
    assert ends == [("production", "deployed", "FINISHED"), ("staging", "deployed", "FINISHED")]
    assert shipped.status()["production"]["agree"]


@pytest.mark.parametrize("healthy", [False, True])
def test_mlflow_with_errors_is_reported_at_once(shipped, healthy):
    """A server that returns 500, even one whose health page still works, is reported within a minute on the busiest machine."""

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if healthy and self.path == "/health" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        begin = time.monotonic()
        address = f"http://127.0.0.1:{server.server_port}"
        said = shipped.refused("-m", "scripts.ship", MLFLOW_TRACKING_URI=address)
        server.shutdown()
    assert time.monotonic() - begin < 60
    assert "500" in said


def test_port_of_production_taken_by_another_program(shipped):
    """The message names the foreign program, and the setting of production's port."""
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        old = shipped.json(".slipway/production.json")["port"]
        shipped.edit("pipeline.toml", f"production_port = {old}", f"production_port = {foreign.getsockname()[1]}")
        said = shipped.refused("-m", "scripts.deploy", "--environment", "production")
        shipped.edit("pipeline.toml", f"production_port = {foreign.getsockname()[1]}", f"production_port = {old}")
    assert "taken by another program" in said and "production_port" in said
    assert shipped.status()["production"]["agree"]


def test_concurrent_ships_run_one_after_the_other(shipped):
    """The second `make ship` names the one it waits for; both are green and production is one version."""
    first = shipped.start("-m", "scripts.ship")
    time.sleep(1.5)
    second = shipped.start("-m", "scripts.ship")
    said = [process.communicate(timeout=180)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "waiting: `make ship` is at work here" in said[1]
    assert shipped.status()["production"]["agree"]


def test_release_with_wrong_answers_is_undone(shipped):
    """A version whose service does not give its golden predictions never serves; the previous one continues."""
    before = shipped.json(".slipway/production.json")
    shipped.edit(
        "serving/model/predictor.py", "import numpy as np", "import numpy as np\nraise SystemExit('broken release')"
    )
    said = shipped.refused("-m", "scripts.deploy", "--environment", "production")
    shipped.edit(
        "serving/model/predictor.py", "import numpy as np\nraise SystemExit('broken release')", "import numpy as np"
    )
    assert "broken release" in said
    assert shipped.json(".slipway/production.json") == before
    assert requests.get(f"{before['url']}/readyz", timeout=5).status_code == 200


def test_flipped_byte_in_a_bundle_is_refused_at_start(shipped, tmp_path):
    """A service whose model file has one wrong byte does not start, and names the file."""
    bundle = tmp_path / "bundle"
    subprocess.run(["cp", "-r", shipped.json(".slipway/production.json")["bundle"], bundle], check=True)
    model = bytearray((bundle / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(model)
    done = shipped.run("-m", "serving", "--bundle", str(bundle), "--port", str(free_port()))
    assert done.returncode == 1 and "model.onnx" in done.stderr and "Traceback" not in done.stderr


def test_flipped_byte_in_mlflow_is_refused_before_deployment(shipped):
    """A stored bundle with one wrong byte is not deployed, and production is unchanged."""
    stored = next((shipped.root / ".mlflow/artifacts").rglob("bundle-1/model.onnx"))
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = shipped.refused("-m", "scripts.deploy", "--environment", "production")
    stored.write_bytes(whole)
    assert "model.onnx" in said and "damaged" in said
    assert shipped.status()["production"]["agree"]


STAGES = {
    "validate": ["-m", "scripts.validate_data"],
    "train": ["train.py"],
    "evaluate": ["evaluate.py"],
    "register": ["register_model.py"],
    "deploy staging": ["-m", "scripts.deploy", "--environment", "staging"],
    "deploy production": ["-m", "scripts.deploy", "--environment", "production"],
    "promote": ["-m", "scripts.promote"],
}


def test_every_stage_can_be_killed_and_run_again(new_fork):
    """Each stage is killed at three moments and then run again; in the end one version is in production, and nothing is left over.

    Nothing is ever written to data/, which is read-only meanwhile.
    """
    fork = new_fork()
    data = fork.root / "data"
    before = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}
    for path in [*data.iterdir(), data]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    fork.ok("-m", "scripts.mlflow.start_mlflow")
    for command in STAGES.values():
        for seconds in (0.1, 0.4, 1.2):
            process = fork.start(*command)
            time.sleep(seconds)
            process.kill()
            process.communicate(timeout=300)  # until its child processes have noticed
        fork.ok(*command)
    data.chmod(0o755)
    assert {path.name: path.stat().st_mtime_ns for path in data.iterdir()} == before
    status = fork.status()["production"]
    assert (status["version"], status["alias"], status["agree"]) == ("1", "1", True)
    processes = [one.info for one in psutil.process_iter(["pid", "ppid", "cmdline"])]
    for environment in ("staging", "production"):
        state = str(fork.root / ".slipway" / environment)
        assert len(first_of(f"{state}/", processes)) == 1  # the service
        assert len(first_of(f"{state}.json", processes)) == 1  # its proxy
    fork.ok("-m", "scripts.ship")
    assert fork.json("build/evaluation.json")["verdict"] == "keep"


def first_of(word: str, processes: list[dict]) -> list[int]:
    """The processes with a word on their command line, without child processes of such processes."""
    parents = {one["pid"]: one["ppid"] for one in processes if word in " ".join(one["cmdline"] or [])}
    return [process for process, parent in parents.items() if parent not in parents]


def test_ship_continues_after_one_that_was_killed(new_fork):
    """One killed during training does not block the next.

    One killed after production was deployed and before it was promoted is not taken for a deleted version: the next ship promotes it.
    """
    fork = new_fork()
    process = fork.start("-m", "scripts.ship")
    deadline = time.monotonic() + 90
    while not (fork.root / "build/logs/train.log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    fork.edit(
        "scripts/promote.py",
        "    client = versions.connect(settings)\n",
        "    __import__('os').kill(__import__('os').getpid(), 9)\n    client = versions.connect(settings)\n",
    )
    said = fork.run("-m", "scripts.ship")
    assert said.returncode == 1 and "failed promote" in said.stdout
    fork.edit("scripts/promote.py", "    __import__('os').kill(__import__('os').getpid(), 9)\n", "")
    assert fork.status()["production"]["alias"] is None
    fork.ok("-m", "scripts.ship")
    status = fork.status()["production"]
    assert status["agree"] and status["alias"] == fork.json("build/registered.json")["version"]


def test_settings_changed_between_stages_are_noticed(shipped):
    """A model trained with other settings is not evaluated, one evaluated with others is not registered."""
    shipped.edit("pipeline.toml", "confidence = 0.95", "confidence = 0.9")
    assert "pipeline.toml was changed since the evaluation" in shipped.refused("register_model.py")
    shipped.edit("pipeline.toml", "confidence = 0.9 ", "confidence = 0.95 ")
    shipped.edit("pipeline.toml", 'salt = "slipway"', 'salt = "other"')
    assert "pipeline.toml was changed since the model was trained" in shipped.refused("evaluate.py")
    shipped.edit("pipeline.toml", 'salt = "other"', 'salt = "slipway"')


def test_deleted_production_version_is_noticed(shipped):
    """When the production version was deleted in MLflow, evaluate says so instead of taking the candidate for the first."""
    client = shipped.mlflow()
    client.delete_model_version("breast-cancer", "1")
    said = shipped.refused("evaluate.py")
    assert "deleted in MLflow" in said and "version 1" in said
    shipped.ok("-m", "scripts.ship", "--first")
    status = shipped.status()["production"]
    assert (status["version"], status["agree"]) == ("2", True)
