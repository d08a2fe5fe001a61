"""What must be made once in MLflow: runs, logged models, versions.

MLflow's client sends a request that failed again, whatever it was. For reads, and for writes that set something, that is right. A
request that makes something may have been carried out although its answer was lost: sent again, it makes a second one. So each of
these is sent once, and before it is sent again somebody looks whether it is there.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

Made = TypeVar("Made")
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"  # MLflow's client reads it for every request
PAUSES = (0.5, 1, 2, 4, 8)  # seconds before looking; the request may still be under way in the server
REQUEST = "slipway.request"  # tag of a run: which request made it
TRANSIENT = (408, 429, 500, 502, 503, 504)  # what MLflow's client sends again; a lost connection counts as 500


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed when it is sent again."""
    status = getattr(error, "get_http_status_code", lambda: 0)
    return status() in TRANSIENT


@contextmanager
def sent_once() -> Iterator[None]:
    """Have MLflow's client send each request in here once, whether it fails or not."""
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[RETRIES]
        else:
            os.environ[RETRIES] = before


def make(create: Callable[[], Made], find: Callable[[], Made | None]) -> Made:
    """What `create` makes. Where that fails for now, `find` looks whether it was made all the same; else it is tried again.

    Raises what `create` raised when it fails for good, or after five more tries.
    """
    from mlflow.exceptions import MlflowException

    for pause in (*PAUSES, None):
        try:
            with sent_once():
                return create()
        except MlflowException as error:
            if not is_transient(error) or pause is None:
                raise
        time.sleep(pause)
        found = find()
        if found is not None:
            return found
    raise AssertionError("the last try returns or raises")


def run(client, experiment: str, name: str, tags: Mapping[str, str]):
    """A new run of an experiment (its id), made once."""
    request = uuid.uuid4().hex
    return make(
        lambda: client.create_run(experiment, run_name=name, tags={**tags, REQUEST: request}),
        lambda: _of_request(client, experiment, request),
    )


def start_run(client, experiment: str, name: str):
    """Begin a run as MLflow's `start_run` does, made once; a context that ends it."""
    import mlflow

    request = uuid.uuid4().hex

    def find():
        found = _of_request(client, experiment, request)
        return mlflow.start_run(run_id=found.info.run_id) if found else None

    return make(lambda: mlflow.start_run(experiment_id=experiment, run_name=name, tags={REQUEST: request}), find)


def _of_request(client, experiment: str, request: str):
    found = client.search_runs([experiment], f"tags.`{REQUEST}` = '{request}'", max_results=1)
    return found[0] if found else None


def logged_model(client, run, name: str, parameters: Mapping[str, Any]):
    """A new logged model of a run, made once and known as the run's output; it is empty until a model is logged with its id."""
    from mlflow.entities import LoggedModelOutput

    experiment, run_id = run.info.experiment_id, run.info.run_id
    texts = {key: str(value) for key, value in parameters.items()}

    def find():
        found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
        return next((model for model in found if model.name == name), None)

    model = make(
        lambda: client.create_logged_model(experiment, name=name, source_run_id=run_id, params=texts),
        find,
    )
    output = LoggedModelOutput(model.model_id, step=0)

    def is_output():
        known = client.get_run(run_id).outputs
        return True if known and any(one.model_id == model.model_id for one in known.model_outputs) else None

    make(lambda: client.log_outputs(run_id, models=[output]), is_output)
    return model
