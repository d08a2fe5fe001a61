"""Raise the share of the experiment that runs; a new phase begins, and counting begins anew with it.

make experiment-share SHARE=0.5
"""

import argparse
import sys

from delivery.experiment import lifecycle
from delivery.experiment.admission import share_of
from pipeline.errors import edge
from pipeline.registry import versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Deploy the same two models with the larger share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", required=True, help="of the subjects, more than now, at most 1")
    options = parser.parse_args(argv)
    share = share_of(options.share)
    settings = load_settings()
    record = lifecycle.change_share(versions.connect(settings), settings, share)
    print(record.in_words())


if __name__ == "__main__":
    sys.exit(main())
