"""What the monitor found, as a run of a real MLflow."""

from mlflow import MlflowClient

from pipeline.monitor.findings import Findings
from pipeline.monitor.pages import mlflow_run
from pipeline.registry import mlflow_server
from tests.pipeline.monitor.found import findings, incident
from tests.pipeline.monitor.watched import columns, watched
from tests.pipeline.registry.embedded_mlflow import embedded

PNG = b"\x89PNG\r\n\x1a\n"


def test_each_day_has_one_run_with_all_that_was_found(tmp_path):
    """Judged again, a day's run is updated; another day or environment has one of its own; any name of a column is taken."""
    page = tmp_path / "monitor.json"
    page.write_text("{}")
    names = ("mean_area", "a/../b@c", "x" * 300)
    first, second = (
        watched(columns=columns(names)),
        watched(verdict="ok", incidents=[], versions=watched().versions[:1]),
    )
    with embedded(tmp_path / "mlflow") as settings:
        uri = mlflow_server.uri(settings)
        client = MlflowClient(uri, uri)

        def record(found: Findings) -> str:
            return mlflow_run.record(client, found, [page], {"evidence": PNG})

        run = record(first)
        made = client.get_run(run)
        assert made.info.run_name == "2026-11-30: performance is falling" and made.info.status == "FINISHED"
        assert made.data.params == {"environment": "production", "versions": "2, 3, 4"}
        assert made.data.metrics["evidence/mean_area"] > 1 and "psi/a_.._b_c" in made.data.metrics
        assert made.data.metrics["performance/accuracy"] == 0.843 and made.data.metrics["estimated/accuracy"] == 0.902
        assert made.data.tags["kinds"] == "data_drift, performance" and made.data.tags["version"] == "2, 3, 4"
        assert {file.path for file in client.list_artifacts(run)} == {"monitor.json", "plots"}
        assert record(second) == run
        again = client.get_run(run)
        assert (again.data.tags["verdict"], again.data.tags["kinds"], again.data.tags["version"]) == ("ok", "none", "3")
        assert again.info.run_name == "2026-11-30: no alarm" and again.data.metrics["open_incidents"] == 0
        assert (
            len({run, record(findings(incident(), last_day="2026-12-01")), record(findings(environment="staging"))})
            == 3
        )
        assert len(client.search_runs([made.info.experiment_id])) == 3


def test_at_most_some_columns_are_metrics():
    """Of a thousand columns those with most evidence are logged, so that a run stays one or two requests."""
    names = tuple(f"c{number}" for number in range(1000))
    logged = mlflow_run.metrics(watched(columns=columns(names)))
    assert len([name for name in logged if name.startswith("evidence/")]) == mlflow_run.MOST_COLUMNS
    assert "evidence/c0" in logged and len(logged) < mlflow_run.A_REQUEST
