"""Turn the report on a pull request into a comment, trusting nothing in it.

make pr-comment

Reads build/incoming/pull_request.json, which a stranger's run may have written, and writes build/comment.md. Sets the outputs
`number` (empty when there is nothing to comment on) and `header`. A report that is not what it should be is refused: exit
status 1 and no comment.
"""

import argparse
import sys

from pipeline import artifacts, pull_request, pull_request_comment, pull_request_event, workflow
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> None:
    """Write the comment, and say where it goes."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    comment = artifacts.BUILD / "comment.md"
    comment.unlink(missing_ok=True)  # an older comment must not go to this pull request
    happened = pull_request_event.event()
    if not pull_request_event.expected(happened):
        return nothing("the run was not of a pull request")
    found = pull_request.read(artifacts.BUILD / "incoming")
    if found is None:
        return nothing("the run left no report")
    place = pull_request_event.place(happened, found)
    artifacts.write_text(comment, pull_request_comment.markdown(found, place.link, place.head))
    workflow.output(number=str(place.number), header=pull_request_comment.HEADER)
    print(f"comment for pull request {place.number}: build/comment.md")


def nothing(why: str) -> None:
    """Say that there is no comment to make."""
    workflow.output(number="", header=pull_request_comment.HEADER)
    print(f"nothing to comment on: {why}")


if __name__ == "__main__":
    sys.exit(main())
