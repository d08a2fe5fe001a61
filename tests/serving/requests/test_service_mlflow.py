"""A client of `mlflow models serve` only changes the URL: both servers answer alike with the same model."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.linear_model import LogisticRegression

from pipeline.processes import free_port
from tests.serving.bundles import make_bundle, read
from tests.serving.service import serving

ROWS = [[12.5, -0.5, 4, True], [10.0, 1.5, 2, False], [0.0, 4.25, 9, True], [55.25, -3.0, 7, False]]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(our service, the URL of MLflow's server), both with the model of the binary bundle."""
    folder = tmp_path_factory.mktemp("both")
    bundle = make_bundle("binary", folder / "bundle")
    _save(folder / "model", [column["name"] for column in read(bundle, "contract.json")["inputs"]])
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "model",
        "-p",
        str(port),
        "--env-manager",
        "local",
    ]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        with serving(bundle) as service:
            _until_up(f"http://127.0.0.1:{port}/ping", server)
            yield service, f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def _save(folder, names):
    """Save the bundle's weights as a scikit-learn model in MLflow's format."""
    import mlflow

    frame = pd.DataFrame(ROWS, columns=names)
    model = LogisticRegression().fit(frame, [0, 1, 0, 1])
    model.coef_, model.intercept_ = np.array([[0.05, -1.5, 0.25, 2.0]]), np.array([-2.0])
    signature = mlflow.models.infer_signature(frame, np.array([0, 1]))
    mlflow.sklearn.save_model(
        model, str(folder), signature=signature, serialization_format="cloudpickle", pip_requirements=[]
    )


def _until_up(url, server):
    end = time.monotonic() + 90
    while True:
        assert server.poll() is None and time.monotonic() < end, "MLflow's server did not start"
        try:
            if requests.get(url, timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.2)


def _names(service):
    return [column["name"] for column in service.contract["inputs"]]


def _forms(names):
    rows = [dict(zip(names, row, strict=True)) for row in ROWS]
    columns = {name: [row[name] for row in rows] for name in names}
    turned = [[row[name] for name in reversed(names)] for row in rows]
    csv = pd.DataFrame(ROWS, columns=names).to_csv(index=False)
    return {
        "split": ({"dataframe_split": {"columns": names, "data": ROWS}}, None),
        "split with an index": ({"dataframe_split": {"columns": names, "index": [7, 8, 9, 10], "data": ROWS}}, None),
        "split in another order": ({"dataframe_split": {"columns": names[::-1], "data": turned}}, None),
        "records": ({"dataframe_records": rows}, None),
        "records with more than is needed": ({"dataframe_records": [{**row, "colour": "red"} for row in rows]}, None),
        "instances by name": ({"instances": rows}, None),
        "inputs by name": ({"inputs": columns}, None),
        "parameters": ({"dataframe_records": rows, "params": {}}, None),
        "CSV": (csv, "text/csv"),
        "CSV of a character set": (csv, "text/csv; charset=utf-8"),
        "CSV in another order": (pd.DataFrame(ROWS, columns=names)[names[::-1]].to_csv(index=False), "text/csv"),
    }


@pytest.mark.parametrize("form", _forms(list("abcd")))
def test_both_servers_answer_alike(both, form):
    """Every form of the protocol gets the same JSON answer."""
    service, url = both
    body, kind = _forms(_names(service))[form]
    given = {"json": body} if kind is None else {"data": body, "headers": {"Content-Type": kind}}
    theirs, ours = (requests.post(f"{where}/invocations", timeout=60, **given) for where in (url, service.url))
    assert theirs.status_code == ours.status_code == 200, (theirs.text, ours.text)
    assert ours.json() == theirs.json()
    assert len(set(ours.json()["predictions"])) == 2
    assert ours.headers["Content-Type"] == theirs.headers["Content-Type"]


def test_mlflow_deployments_client_works_with_both(both):
    """MLflow's own client gets the same from both servers."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    service, url = both
    frame = pd.DataFrame(ROWS, columns=_names(service))
    clients = [ScoringServerClient("127.0.0.1", int(where.rsplit(":", 1)[1])) for where in (url, service.url)]
    for client in clients:
        client.ping()
    theirs, ours = (client.invoke(frame).get_predictions() for client in clients)
    pd.testing.assert_frame_equal(theirs, ours)
    assert clients[0].get_version() and clients[1].get_version()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b'{"columns": []}', "application/json"),
        (b'{"dataframe_records": [{"mass": "heavy"}]}', "application/json"),
        (b'{"dataframe_records": [], "instances": []}', "application/json"),
        (b"<xml/>", "text/xml"),
    ],
)
def test_both_servers_refuse_alike(both, given, kind):
    """What MLflow's server refuses is refused here, too, with a client error."""
    service, url = both
    for where in (url, service.url):
        response = requests.post(f"{where}/invocations", data=given, headers={"Content-Type": kind}, timeout=60)
        assert 400 <= response.status_code < 500, (where, response.text)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["detail"]


def test_health_paths_work_on_both_servers(both):
    """/ping, /health and /version return 200 on both, and /ping the same body."""
    service, url = both
    for path in ("/ping", "/health", "/version"):
        assert requests.get(url + path, timeout=60).status_code == service.get(path).status_code == 200
    assert requests.get(f"{url}/ping", timeout=60).text == service.get("/ping").text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"dataframe_split": {"columns": ["mass"], "data": [[1, 2]]}}, "row 0 must be a list of 1 values"),
        ({"dataframe_split": {"columns": ["mass", "mass"], "data": []}}, "a name stands in columns twice"),
        ({"dataframe_split": {"columns": "mass", "data": []}}, "columns must be a list of names"),
        ({"dataframe_split": [1]}, "dataframe_split must be an object"),
        ({"dataframe_records": {"mass": 1}}, "dataframe_records must be a list"),
        ({"inputs": {"mass": [1, 2], "tilt": [1]}}, "a list of the same length"),
        ({"inputs": 5}, "inputs must be a list of rows, not 5"),
        ({"instances": []}, "0 rows were given"),
        ({"instances": [[1, 2]]}, "2 values were given, 4 are needed"),
        ({"instances": [{"mass": 1e9}]}, "row 0: feature 'tilt' is missing"),
        ({"dataframe_records": [], "extra": 1}, 'unknown field "extra"'),
    ],
)
def test_invalid_body_is_named(binary, body, words):
    """For a body that cannot be read as rows, the message says what is wrong, and where."""
    response = binary.post("/invocations", body)
    assert response.status_code == 422
    assert words in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{}] * 10_001},
        {"dataframe_records": [{}] * 10_001},
        {"dataframe_split": {"columns": [], "data": [[]] * 10_001}},
        {"inputs": {"mass": [1] * 10_001}},
    ],
)
def test_too_many_rows_are_refused_before_parsing(binary, body):
    """The message gives the number of rows, not what is missing in the first."""
    response = binary.post("/invocations", body)
    assert response.status_code == 422
    assert response.json()["detail"] == "10001 rows were given, allowed are 1 to 10000"


def test_too_many_lines_are_refused_before_parsing(binary):
    """The same for CSV."""
    response = binary.post("/invocations", data=b"colour\n" + b"x\n" * 10_001, headers={"Content-Type": "text/csv"})
    assert response.json()["detail"] == "10001 rows were given, allowed are 1 to 10000"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (b"", 422, "no line of names"),
        (b"mass,tilt\n1\n", 422, "row 0: 1 values were given, the first line has 2"),
        (b"mass,mass\n", 422, "twice"),
        (b"mass,tilt,doors,sold\nheavy,1,2,true\n", 422, "feature 'mass': \"heavy\" was given"),
        (b"mass,tilt,doors,sold\n,1,2,true\n", 422, "feature 'mass': null was given"),
        (b"mass,tilt,doors,sold\n", 422, "0 rows were given"),
        (b"\xff\xfe", 400, "byte 0 is not UTF-8"),
        (b'"a\n', 400, "the body is not CSV"),
    ],
)
def test_wrong_csv_is_named(binary, text, status, words):
    """The message has the line, the column and the value."""
    response = binary.post("/invocations", data=text, headers={"Content-Type": "text/csv"})
    assert response.status_code == status
    assert words in response.json()["detail"]


def test_empty_cell_is_null_where_allowed(columns):
    """CSV has no null: an empty cell stands for it, for a number and for a text."""
    rows = [
        dict(zip([c["name"] for c in columns.contract["inputs"]], row, strict=True)) for row in columns.golden["inputs"]
    ]
    csv = pd.DataFrame(rows).to_csv(index=False)
    response = columns.post("/invocations", data=csv.encode(), headers={"Content-Type": "text/csv"})
    labels = [columns.contract["classes"].index(expected["label"]) for expected in columns.golden["expected"]]
    assert response.json()["predictions"] == labels
    assert any(None in row.values() for row in rows)


def test_regression_returns_values(regression):
    """One number per row."""
    response = regression.post("/invocations", {"instances": regression.golden["inputs"]})
    expected = [answer["value"] for answer in regression.golden["expected"]]
    assert response.json()["predictions"] == pytest.approx(expected, rel=1e-5, abs=1e-5)
