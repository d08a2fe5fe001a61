"""Why a model is trained: SLIPWAY_REASON, kept as the tag `reason` of its run, with its version and on its card."""

import os

from pipeline.ci import outputs

LONGEST = 200  # characters
RETRAIN = "retrain: "  # how the reason of a retraining begins


def given() -> str:
    """What SLIPWAY_REASON says, else "push" in a workflow and "local" here."""
    return os.environ.get("SLIPWAY_REASON", "").strip()[:LONGEST] or ("push" if outputs.is_workflow() else "local")
