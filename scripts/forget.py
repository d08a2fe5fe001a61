"""Delete all that the prediction log of an environment knows about one subject.

    make forget SUBJECT=customer-17                          # of production
    make forget SUBJECT=customer-17 ENVIRONMENT=staging

The subject is what requests named as `subject`; the log keeps a hash of it. On Kubernetes the command to run is shown.
"""

import argparse
import sys

from delivery import targets
from pipeline.artifacts import ROOT
from pipeline.comparison import recent
from pipeline.errors import DeployError, edge
from pipeline.experiments.replay import state
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Delete, and say how much it was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, required=True)
    parser.add_argument("--subject", required=True, help="as requests named it")
    options = parser.parse_args(argv)
    if not options.subject:
        raise DeployError("no subject is named", "say whom to forget: `make forget SUBJECT=…`")
    settings = load_settings()
    command = ["serving.log.store", "delete-subject", f"--subject={options.subject}"]
    said = targets.choose(settings).on_log(options.environment, settings, command)
    print(f"{options.environment}: {said.decode().strip()}")
    if state.forget():
        print("what an unfinished replay had kept of rows is deleted too")
    if recent.ROWS.is_file():
        where = recent.ROWS.relative_to(ROOT)
        print(f"note: {where} may still have rows about the subject: `make backfill` writes it again", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
