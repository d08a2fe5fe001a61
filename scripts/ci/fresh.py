"""Say whether there is anything new to learn from, before anything is trained.

    make fresh              # the output `fresh` is true or false; never red for want of new data
    make fresh FORCE=yes    # true whatever the data are

Training is repeatable: the same rows give the same model. So where the data are those of the production version, by their hash, a retraining
learns nothing. While an experiment runs nothing is trained either: a new version could not go to production beside it. SLIPWAY_REASON, the reason of the retraining, is written into the summary of the job.
"""

import argparse
import sys

from pipeline.ci import outputs
from pipeline.comparison import fresh_data
from pipeline.errors import edge
from pipeline.evaluation.github_markdown import prose
from pipeline.registry import experiments, versions
from pipeline.registry.embedded import sync
from pipeline.registry.training_run import run_reason
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Compare the data's hash with production's, and say so in one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="say that there is, whatever the data are")
    forced = parser.parse_args(argv).force
    if forced:
        fresh, says = True, "trained anew whatever the data are, because a person said so"
    else:
        settings = load_settings()
        sync.refuse_unknown()
        client = versions.connect(settings)
        experiment = experiments.running(client, settings.name)
        if experiment:
            fresh, says = False, f"no retraining: {experiment.in_words()}, and what wins it comes first"
        else:
            fresh, says = fresh_data.look(client, settings)
    print(says)
    outputs.output(fresh=str(fresh).lower())
    outputs.summary(f"**{prose(run_reason.given())}**: {prose(says)}")


if __name__ == "__main__":
    sys.exit(main())
