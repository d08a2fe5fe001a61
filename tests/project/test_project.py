"""Your own tests: of your data and your model. Replace them with the rules of your work."""

from pathlib import Path

from pipeline.data.dataset import load_dataset
from pipeline.settings import load_settings
from project.data import load
from project.model import build

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_is_a_tumour_with_its_diagnosis():
    """The data holds 569 tumours, 212 of them malignant, each with an id of its own."""
    frame = load()
    assert frame["diagnosis"].value_counts().to_dict() == {"benign": 357, "malignant": 212}
    assert frame["id"].iloc[[0, -1]].tolist() == ["wdbc-0001", "wdbc-0569"] and frame["id"].is_unique


def test_same_seed_gives_the_same_model():
    """Two models built with the same seed learn the same."""
    dataset = load_dataset(load_settings(ROOT / "pipeline.toml"))
    first, second = (build({"C": 0.5}, seed=7).fit(dataset.features, dataset.y) for _ in range(2))
    assert (first.predict_proba(dataset.features) == second.predict_proba(dataset.features)).all()
