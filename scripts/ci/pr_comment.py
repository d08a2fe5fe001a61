"""Turn the report on a pull request into a comment, trusting nothing in it.

make pr-comment

Reads build/incoming/pull_request.json, which a stranger's run may have written, and writes build/comment.md. Sets the outputs
`number` (empty when there is nothing to comment on) and `header`. A report that is not what it should be is refused: exit
status 1 and no comment.
"""

import argparse
import sys

from pipeline import artifacts
from pipeline.ci import outputs
from pipeline.errors import edge
from pipeline.pull_request import comment as pull_request_comment
from pipeline.pull_request import event, schema


@edge
def main(argv: list[str] | None = None) -> None:
    """Write the comment, and say where it goes."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    comment = artifacts.BUILD / "comment.md"
    comment.unlink(missing_ok=True)  # an older comment must not go to this pull request
    happened = event.event()
    if not event.expected(happened):
        return nothing("the run was not of a pull request")
    found = schema.read(artifacts.BUILD / "incoming")
    if found is None:
        return nothing("the run left no report")
    place = event.place(happened, found)
    artifacts.write_text(comment, pull_request_comment.markdown(found, place.link, place.head))
    outputs.output(number=str(place.number), header=pull_request_comment.HEADER)
    print(f"comment for pull request {place.number}: build/comment.md")


def nothing(why: str) -> None:
    """Say that there is no comment to make."""
    outputs.output(number="", header=pull_request_comment.HEADER)
    print(f"nothing to comment on: {why}")


if __name__ == "__main__":
    sys.exit(main())
