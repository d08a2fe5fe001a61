"""The version that a rollback restores."""

from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from pipeline.errors import RegistryError
from pipeline.settings import load_settings
from scripts import rollback


def test_second_rollback_does_not_undo_the_first(tmp_path):
    """After a rollback to version 1, another one is refused; after deploying version 2 on purpose, version 1 is the previous one again."""
    settings, database = load_settings(), f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(database, database)
    client.create_registered_model(settings.name)
    for _ in range(2):
        client.create_model_version(settings.name, "file:///nowhere", tags={"rolled_back": "never"})

    def went(to: str, left: str) -> SimpleNamespace:
        client.set_registered_model_alias(settings.name, "production", to)
        client.set_registered_model_alias(settings.name, "previous", left)
        client.delete_model_version_tag(settings.name, to, "rolled_back")
        client.set_model_version_tag(settings.name, left, "rolled_back", "then")
        return SimpleNamespace(version=to, digest="")

    served = went("1", left="2")
    with pytest.raises(RegistryError, match="version 2 was rolled back") as refused:
        rollback.earlier(client, settings, "production", None, served)
    assert "VERSION=2" in refused.value.then
    served = went("2", left="1")
    assert rollback.earlier(client, settings, "production", None, served).number == "1"
