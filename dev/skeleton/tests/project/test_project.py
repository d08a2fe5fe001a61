"""Your own tests: of your data and your model."""

from pathlib import Path

from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_are_valid():
    """pipeline.toml has every key that is needed, and no other."""
    assert load_settings(ROOT / "pipeline.toml").data.id
