"""Write a first project/checks.py from the data, to be read and edited.

    make checks
    make checks REPLACE=yes     # over checks that are yours already

Types, ranges with room, values of columns of few, and empty cells, as the rows of load() have them. What stands there is
replaced only when it is the shipped example, or on REPLACE=yes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from pipeline.artifacts import write_text
from pipeline.data import draft, leftovers
from pipeline.data.dataset import read_frame, take_apart
from pipeline.errors import ProjectError, edge
from pipeline.settings import load_settings

FILE = Path("project/checks.py")


@edge
def main(argv: list[str] | None = None) -> None:
    """Draft, format and write; raises ProjectError when the file is the team's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replace", action="store_true", help="also over a file that is not the shipped example")
    options = parser.parse_args(argv)
    if FILE.exists() and not leftovers.is_shipped(FILE) and not options.replace:
        raise ProjectError(
            "project/checks.py is not the shipped example: it may hold work of yours",
            "`make checks REPLACE=yes` writes over it; commit it first, so that you can compare",
        )
    settings, frame = load_settings(), read_frame()
    take_apart(frame, settings)  # says what is wrong with data of which nothing can be expected
    write_text(FILE, formatted(draft.draft(frame, settings)))
    print(f"wrote project/checks.py from {len(frame)} rows and {frame.shape[1]} columns")
    print("read and edit it: it says what these rows are like, not what is right; then `make validate`")


def formatted(text: str) -> str:
    """The same as `make fix` would leave it."""
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FILE), "-"]
    done = subprocess.run(ruff, input=text, capture_output=True, text=True, encoding="utf-8")
    return done.stdout if done.returncode == 0 else text


if __name__ == "__main__":
    sys.exit(main())
