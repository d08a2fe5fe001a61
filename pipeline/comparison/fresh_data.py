"""Whether the data of now are others than those of the version in production."""

from pipeline.data.dataset import load_dataset
from pipeline.registry import versions
from pipeline.settings import Settings


def look(client, settings: Settings) -> tuple[bool, str]:
    """Whether there is anything new to train on, and a line that says why; raises what load() raises."""
    production = versions.by_alias(client, settings.name, "production")
    if production is None:
        return True, "something new: nothing is in production yet"
    if not production.data_hash:
        return (
            True,
            f"something new, perhaps: MLflow does not say on which data version {production.number} was trained",
        )
    now = load_dataset(settings).hash
    if now == production.data_hash:
        return False, (
            f"nothing new: the data are those of version {production.number} in production (SHA-256 {now[:12]}), "
            "and the same data give the same model"
        )
    return True, f"something new: the data are others than those of version {production.number} in production"
