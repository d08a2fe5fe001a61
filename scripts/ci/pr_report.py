"""Write down what a pull request would change, as plain data for the comment.

make pr-report

Reads what the stages left in build/ and writes build/pull_request.json. Exits 0 also when a stage has failed: then the report
says which, for the verdict is data.
"""

import argparse
import sys

from pipeline import artifacts
from pipeline.errors import edge
from pipeline.pull_request import comment, report, schema
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Write the report and print what would happen on merge."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    file = artifacts.BUILD / schema.NAME
    file.unlink(missing_ok=True)  # an older report must not speak for this pull request
    found = report.document(load_settings())
    artifacts.write_json(file, found.model_dump())
    if found.failed_stage:
        print(f"`make {found.failed_stage}` failed or did not run")
    print(f"on merge: {comment.on_merge(found)}")
    print("report: build/pull_request.json")


if __name__ == "__main__":
    sys.exit(main())
