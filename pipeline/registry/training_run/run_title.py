"""What a training run is called in MLflow: "v12 · C 0.5→0.4 · accepted", as far as it is known by then.

train.py knows what was changed, evaluate.py adds the verdict, register_model.py the version. Asked again, each writes the same.
"""

import sys
from collections.abc import Mapping
from typing import Any

WORDS = {"accept": "accepted", "keep": "kept", "refuse": "refused"}
MOST_PARAMETERS = 3  # that are named; a list of runs shows some forty characters


def title(change: str, verdict: str | None = None, version: str | None = None) -> str:
    """Version, change and verdict, without what is not known yet."""
    parts = (f"v{version}" if version else "", change, WORDS[verdict] if verdict else "")
    return " · ".join(part for part in parts if part)[:250]


def change(facts: Mapping[str, Any], parameters: Mapping[str, str] | None, tags: Mapping[str, str]) -> str:
    """What was changed since the run of the production model: its `parameters` and `tags`; None: there is no such run.

    Parameters first, then the data; where neither was changed, the commit.
    """
    if parameters is None:
        return "first model"
    before = {key.removeprefix("train."): value for key, value in parameters.items() if key.startswith("train.")}
    now = {key: str(value) for key, value in facts["parameters"].items()}
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    said = [f"{_short(key)} {_short(before.get(key, 'none'))}→{_short(now.get(key, 'none'))}" for key in changed]
    if len(said) > MOST_PARAMETERS:
        said[MOST_PARAMETERS:] = [f"{len(said) - MOST_PARAMETERS} more"]
    if tags.get("data_hash") != facts["data_hash"]:
        said.append("new data")
    if said:
        return ", ".join(said)
    if tags.get("commit") == facts["commit"] and not facts["dirty"]:
        return "no change"
    return f"commit {facts['commit'][:7]}{' with changes' if facts['dirty'] else ''}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 20 else f"{line[:19]}…"


def of_production(client, name: str) -> tuple[Mapping[str, str] | None, Mapping[str, str]]:
    """Parameters and tags of the run behind the production model; None and none where there is no such run any more."""
    from mlflow.exceptions import MlflowException

    from pipeline.registry import versions

    version = versions.by_alias(client, name, "production")
    if version is None:
        return None, {}
    try:
        data = client.get_run(version.run_id).data
    except MlflowException:  # deleted: the name of a run is not worth a failure
        return {}, {}
    return data.params, data.tags


def tell(client, run_id: str, verdict: str, version: str | None = None) -> None:
    """Put verdict and version into the run's name, and the verdict into a tag of its own.

    The name is for people: one that cannot be written is told and no more.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
        named = title(run.data.tags.get("change", ""), verdict, version)
        if run.data.tags.get("verdict") != verdict:
            client.set_tag(run_id, "verdict", verdict)
        if run.info.run_name != named:
            client.update_run(run_id, name=named)
    except MlflowException as error:
        print(f"note: run {run_id} keeps its name in MLflow: {error.message}", file=sys.stderr)
