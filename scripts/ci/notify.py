"""Tell people how a workflow ended: one message to the incoming webhook SLIPWAY_WEBHOOK (Slack's format, which others take too).

    make notify

Reads the jobs before it from NEEDS (`toJSON(needs)`). A message that does not arrive is a warning: it turns nothing red.
Standard library only, so that a job can do it without installing anything.
"""

import argparse
import os
import sys

from pipeline.ci import chat, repository_settings
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> None:
    """Send the message, or say why there is none."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    if not chat.webhook_url():
        print(f"notification: {repository_settings.notification({})[1]}")
    elif chat.tell(chat.message(chat.jobs(os.environ.get("NEEDS", "")))):
        print("told SLIPWAY_WEBHOOK how this ended")


if __name__ == "__main__":
    sys.exit(main())
