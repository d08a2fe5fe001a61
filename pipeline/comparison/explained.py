"""Which columns the candidate's answers rest on, and how its parameters were found."""

from dataclasses import dataclass

from pipeline.comparison.candidate import ServedCandidate
from pipeline.data.dataset import Dataset
from pipeline.evaluation import record
from pipeline.evaluation.importance import permutation, shapley
from pipeline.formats import choose
from pipeline.settings import Settings


@dataclass(frozen=True)
class Explained:
    """What the report says of the model alone: which columns its answers rest on, and how its parameters were found."""

    importance: dict[str, float]
    contributions: shapley.Contributions | None  # None: the library is not there
    search: record.Search | None


def explain(settings: Settings, dataset: Dataset, served: ServedCandidate, search: record.Search | None) -> Explained:
    """By how much the served model's score falls when a column is shuffled, and what columns add to single answers."""
    rows, shuffles = permutation.counts(dataset)
    if rows < dataset.holdout.sum() or shuffles < permutation.MOST_SHUFFLES:
        print(f"feature importance: {rows} of the held-out rows, {shuffles} shuffles of each column")

    def ask(frames):
        return choose.ask(served.files, served.contract, frames, each=True)[0]

    seed = settings.train.seed
    columns = permutation.feature_importance(ask, dataset, seed, rows, shuffles)
    return Explained(columns, shapley.contributions(ask, dataset, seed) if shapley.available() else None, search)
