"""Check the data before anything is trained on it.

    make validate
    python -m scripts.validate_data --json

Runs the team's Great Expectations suite (project/checks.py) and the checks that suit any data
(pipeline/data/checks.py). Writes build/data.json and build/data.md. Exit status 1 when a critical check fails; a
warning is only reported.
"""

import argparse
import sys

from pipeline import artifacts
from pipeline.data.dataset import read_frame
from pipeline.errors import DataError, edge
from pipeline.settings import load_settings
from pipeline.standard_output import kept_clean
from pipeline.validation import data


@edge
def main(argv: list[str] | None = None) -> int:
    """Check, write the report, print it; 1 when a critical check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)

    # An older report must not speak for data that was not looked at.
    files = artifacts.BUILD / "data.json", artifacts.BUILD / "data.md"
    for file in files:
        file.unlink(missing_ok=True)

    with kept_clean():
        settings = load_settings()
        frame = read_frame()
        report = data.examine(frame, settings)
    artifacts.write_text(files[1], data.markdown(report))
    artifacts.write_json(files[0], report)
    if options.json:
        print(artifacts.to_json(report), end="")
    else:
        data.show(report)
    broken = [one for one in report["checks"] if not one["success"] and one["severity"] == "critical"]
    if broken:
        first = f"{broken[0]['column']}: {broken[0]['rule']} ({broken[0]['observed']})"
        raise DataError(
            f"the data fails {data.counted(len(broken), 'critical check')}, first {first}",
            "project/checks.py is still the example's: `make checks` writes a first one from your data"
            if any(one["column"] == "project/checks.py" for one in report["checks"])
            else "build/data.md names column, rule and rows; correct the data, or project/checks.py",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
