"""Artifacts in S3: an MLflow configured with a bucket as in monitoring/compose.yaml, and clients that know only MLflow's URL."""

import os
import threading
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from pipeline.processes import free_port
from tests.delivery.host.mlflow_auth import server

KEYS = {"AWS_ACCESS_KEY_ID": "mlflow", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket():
    """A bucket of an S3 double on loopback: its URL, and a client."""
    made = make_server("127.0.0.1", free_port(), DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{made.port}"
    s3 = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    s3.create_bucket(Bucket="models")
    try:
        yield address, s3
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def test_artifacts_are_stored_in_the_bucket_through_mlflow(bucket, tmp_path, monkeypatch):
    """A file is in the bucket under its prefix and comes back unchanged; the client has neither key nor URL of the bucket."""
    address, s3 = bucket
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_S3"))]:
        monkeypatch.delenv(name)
    (tmp_path / "server").mkdir()
    (tmp_path / "back").mkdir()
    content = os.urandom(6_000_000)  # too large for a single part
    (tmp_path / "weights.bin").write_bytes(content)
    told = KEYS | {"MLFLOW_S3_ENDPOINT_URL": address}
    with server(tmp_path / "server", artifacts="s3://models/team", **told) as uri:
        client = MlflowClient(uri, uri)
        run = client.create_run(client.create_experiment("s3"))
        client.log_artifact(run.info.run_id, str(tmp_path / "weights.bin"))
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        stored = s3.list_objects_v2(Bucket="models")["Contents"]
        assert [one["Key"].endswith("/artifacts/weights.bin") for one in stored] == [True]
        assert stored[0]["Key"].startswith("team/")
        assert s3.get_object(Bucket="models", Key=stored[0]["Key"])["Body"].read() == content
        back = client.download_artifacts(run.info.run_id, "weights.bin", str(tmp_path / "back"))
    assert Path(back).read_bytes() == content
    assert not list((tmp_path / "server").rglob("weights.bin"))
