"""Reports on pull requests, as their own stage writes them, to read, to spoil and to render."""

import copy
import json
from functools import cache

from pipeline import artifacts
from pipeline.pull_request import report, schema
from pipeline.settings import load_settings
from tests.pipeline.evaluation.evaluations import DATA, RUN, evaluation

CHANGE = {
    "version": "3",
    "same": False,
    "rows": 569,
    "rows_before": 529,
    "rows_added": None,
    "rows_removed": None,
    "columns_added": ["age"],
    "columns_removed": [],
    "drift": [
        {"column": "mean_radius", "psi": 0.31, "missing": {"before": 0.0, "now": 0.02}},
        {"column": "mean_area", "psi": 0.12, "missing": {"before": 0.0, "now": 0.0}},
        {"column": "worst_area", "psi": 0.01, "missing": {"before": 0.0, "now": 0.0}},
    ],
}


def write_stages(build, one=None, **files):
    """Fill a build folder as the stages do; `files` replace the content of a file, None leaves it out."""
    one = one or evaluation("binary")
    one = one | {"data": one.get("data", CHANGE if one["production"] else None), "next_version": 4}
    one["candidate"] = one["candidate"] | {"model_digest": "m" * 64}
    made = {
        "data": DATA,
        "model_checks": {"success": True, "checks": []},
        "run": RUN | {"model_digest": "m" * 64},
        "evaluation": one,
    } | files
    build.mkdir(exist_ok=True)
    for name, content in made.items():
        if content is not None:
            (build / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


@cache
def _plain(task, candidate, production):
    import tempfile
    from pathlib import Path
    from unittest.mock import patch

    with tempfile.TemporaryDirectory() as folder, patch.object(artifacts, "BUILD", Path(folder)):
        write_stages(Path(folder), evaluation(task, candidate, production))
        return report.document(load_settings("tests/example/pipeline.toml")).model_dump()


def plain(task="binary", candidate="good", production: str | None = "bad", **changes):
    """A report as plain data; `changes` replace keys."""
    return copy.deepcopy(_plain(task, candidate, production)) | changes


def report_of(*args, **changes):
    """A report."""
    return schema.PullRequest.model_validate(plain(*args, **changes))
