"""Compare several models with build(), before one of them becomes the candidate.

    make try-models
    python -m scripts.try_models --json

Those of MODELS in project/model.py, or where it has none a linear model, a forest and gradient boosting; and a dummy. All are
cross-validated on the same folds of the training side ([search] folds, minutes, parallel), by the gate's metric. Writes build/models.json and
build/models.html, and runs in MLflow (experiment NAME-models). Nothing is deployed, and the hold-out has no part in it. Exit status 0 whatever it finds.
"""

import argparse
import sys

import msgspec

from pipeline import artifacts
from pipeline.data.dataset import load_dataset
from pipeline.errors import edge
from pipeline.evaluation import metrics
from pipeline.registry import versions
from pipeline.search import model_comparison, models_page, nested_runs
from pipeline.settings import load_settings
from pipeline.standard_output import kept_clean


@edge
def main(argv: list[str] | None = None) -> None:
    """Compare, write the files, tell MLflow, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print build/models.json instead of a table")
    options = parser.parse_args(argv)
    file, page = artifacts.BUILD / model_comparison.NAME, artifacts.BUILD / models_page.PAGE
    for older in (file, page):
        older.unlink(missing_ok=True)  # must not speak for this comparison, should it fail
    with kept_clean():
        settings = load_settings()
        dataset = load_dataset(settings)
        metrics.check_names(settings, list(dataset.features), metrics.of_project())
        client = versions.connect(settings)
        versions.find_experiment(client, f"{settings.name}-models")  # before any time is spent on fits
        found = model_comparison.compare(dataset)
    artifacts.write_json(file, msgspec.to_builtins(found))
    artifacts.write_text(page, models_page.html(found))
    nested_runs.log_models(client, found, [file, page])
    if options.json:
        print(file.read_text(encoding="utf-8"), end="")
    else:
        models_page.terminal(found)


if __name__ == "__main__":
    sys.exit(main())
