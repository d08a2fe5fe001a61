"""Check the model's code on a sample, before it is trained on everything.

    make validate-model
    python -m scripts.validate_model --json

Fits what build() in project/model.py returns on a few rows of the training side; the hold-out is never touched. Writes
build/model_checks.json. Exit status 1 when a check fails.
"""

import argparse
import sys
from dataclasses import asdict

from pipeline import artifacts
from pipeline.data.dataset import load_dataset
from pipeline.errors import ProjectError, edge
from pipeline.formats import trusted_types
from pipeline.formats.onnx import conversion
from pipeline.settings import load_settings
from pipeline.standard_output import kept_clean
from pipeline.validation import model


@edge
def main(argv: list[str] | None = None) -> int:
    """Check, write the outcomes, print them; ProjectError when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)

    # Older outcomes must not speak for code that was not looked at.
    file = artifacts.BUILD / "model_checks.json"
    file.unlink(missing_ok=True)

    with kept_clean():
        settings = load_settings()
        conversion.prepare()
        outcomes = model.examine(load_dataset(settings))
    broken = [one for one in outcomes if not one.success]
    report = {"success": not broken, "checks": [asdict(one) for one in outcomes]}
    artifacts.write_json(file, report)
    if options.json:
        print(artifacts.to_json(report), end="")
    else:
        model.show(outcomes)
    if broken:
        then = "correct project/model.py, or a rule of project/checks.py that does not hold"
        if broken[0].check == model.STORED:
            known = settings.train.trusted_types
            then = trusted_types.advice(broken[0].observed.removeprefix(model.UNTRUSTED).split(", "), known)
        raise ProjectError(
            f"the model fails {len(broken)} of {len(outcomes)} checks, first “{broken[0].check}”: {broken[0].observed}",
            then,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
