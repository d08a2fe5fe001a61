"""An experiment's looks, kept in a real MLflow."""

from dataclasses import replace

import msgspec
from mlflow import MlflowClient

from pipeline.experiments.judgement import NAME
from pipeline.experiments.pages import mlflow_run
from pipeline.registry import mlflow_server
from tests.pipeline.experiments.pages.judgements import judgement, record
from tests.pipeline.registry.embedded_mlflow import embedded


def test_looks_are_kept_with_the_run(tmp_path):
    """Each day that is over is a step, once however often one looks; the last judgement can be read again."""
    judged = judgement("B better")
    file = tmp_path / NAME
    file.write_bytes(msgspec.json.encode(judged))
    with embedded(tmp_path / "mlflow") as settings:
        uri = mlflow_server.uri(settings)
        client = MlflowClient(uri, uri)
        run = client.create_run(client.create_experiment("experiments")).info.run_id
        of = replace(record("B better"), run_id=run)
        assert mlflow_run.kept(client, of) is None
        early = msgspec.structs.replace(judged, looks=judged.looks[:3], until=judged.since + 2.5 * 86400)
        for one in (early, judged, judged):
            mlflow_run.keep(client, of, one, [file], {"difference": b"\x89PNG\r\n\x1a\n"})
        history = {one.step: one.value for one in client.get_metric_history(run, "difference")}
        assert history == {look.number - 1: look.difference for look in judged.looks}
        assert len(client.get_metric_history(run, "difference")) == 21
        assert {one.path for one in client.list_artifacts(run)} == {NAME, "difference.png"}
        assert mlflow_run.kept(client, of) == judged
        assert client.get_run(run).data.tags["verdict"] == "B better"
