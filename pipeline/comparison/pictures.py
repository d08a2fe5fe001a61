"""The figures of the report."""

import shutil

from pipeline.artifacts import BUILD, replace_directory
from pipeline.comparison.candidate import ServedCandidate
from pipeline.comparison.compared import Comparisons
from pipeline.comparison.explained import Explained
from pipeline.data.dataset import Dataset
from pipeline.decisions import judged
from pipeline.evaluation import plots
from pipeline.evaluation.figures import to_png
from pipeline.evaluation.measures import Measures, position_of_positive
from pipeline.evaluation.record import Evaluation
from pipeline.formats.comparison import formats_page
from pipeline.search import search_picture
from pipeline.settings import Settings


def draw(
    settings: Settings, dataset: Dataset, measures: Measures, found: Comparisons, served: ServedCandidate,
    evaluation: Evaluation, explained: Explained,
) -> dict[str, bytes]:  # fmt: skip
    """Draw every figure of both models into build/plots/; return them as PNG by name."""
    figures = plots.figures_for(
        settings.data.task, dataset.classes, position_of_positive(settings, dataset), measures.y_true[found.rows],
        served.y_pred[found.rows], production=found.production, importance=explained.importance,
        thresholds=(served.threshold, found.production_threshold),
        weights=None if measures.weights is None else measures.weights[found.rows],
    )  # fmt: skip
    figures |= judged.pictures(evaluation.decision, dataset, served.y_pred)
    if evaluation.comparison:
        figures["comparison"] = plots.comparison(evaluation)
    if explained.contributions and len(explained.contributions.values):
        figures["shapley"] = plots.contributions(explained.contributions)
    if evaluation.formats:
        figures["formats"] = formats_page.draw(evaluation.formats)
    if explained.search:
        figures["search"] = search_picture.draw(explained.search)
    pictures = {name: to_png(figure) for name, figure in figures.items()}
    folder = BUILD / ".plots"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    replace_directory(folder, BUILD / "plots")
    return pictures
