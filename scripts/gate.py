"""Turn the verdict of build/evaluation.json into an exit status: 1 when the candidate is refused, else 0.

make gate
"""

import argparse
import sys

from pipeline.artifacts import BUILD, read_json
from pipeline.ci import outputs
from pipeline.errors import StageError, edge
from pipeline.evaluation import record


@edge
def main(argv: list[str] | None = None) -> int:
    """Print the verdict and its reasons."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    evaluation, run = record.read(BUILD), read_json(BUILD / "run.json")
    if evaluation.candidate.model_digest != run["model_digest"]:
        raise StageError("build/evaluation.json is about another build than build/run.json", "run `make evaluate`")
    outputs.output(verdict=evaluation.verdict)
    print(f"verdict: {evaluation.verdict}")
    for reason in evaluation.reasons:
        print(f"  {reason}")
    return 1 if evaluation.verdict == "refuse" else 0


if __name__ == "__main__":
    sys.exit(main())
