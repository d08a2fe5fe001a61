"""What `make deploy` refuses before it changes a target."""

from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from delivery import deployment, targets
from delivery.images import attestation
from pipeline.errors import DeployError, ImageError
from pipeline.registry import versions
from pipeline.settings import load_settings


@pytest.fixture
def outdated(tmp_path):
    """A client of an MLflow with version 1 in production, and a version 2 without comparison."""
    settings, database = load_settings(), f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(database, database)
    client.create_registered_model(settings.name)
    for _ in range(2):
        client.create_model_version(
            settings.name, "file:///nowhere", tags={"verdict": "accept", "compared_with": "none"}
        )
    client.set_registered_model_alias(settings.name, "production", "1")
    return client, settings


@pytest.mark.parametrize(
    ("in_workflow", "advice"),
    [("true", "run the workflow again, from its first job"), ("", "`make evaluate`")],
)
def test_outdated_comparison_is_refused_with_suitable_advice(outdated, monkeypatch, in_workflow, advice):
    """A delivery that another one overtook is told what to do: in a workflow to run it again, elsewhere the verb."""
    monkeypatch.setenv("GITHUB_ACTIONS", in_workflow)
    client, settings = outdated
    with pytest.raises(DeployError, match="version 1 is in production now") as refused:
        deployment.approved(client, settings, "production", versions.by_number(client, settings.name, "2"))
    assert refused.value.then.startswith(advice)


@pytest.mark.parametrize("action", ["deploy", "rollback", "reconcile"])
@pytest.mark.parametrize(("attested", "refused"), [("true", True), ("false", False), ("", False)])
def test_attested_images_are_verified_by_every_deployment(outdated, monkeypatch, action, attested, refused):
    """Delivery, rollback and promotion refuse an image without attestation before they change the target or build anything."""
    client, settings = outdated

    def unattested(settings, version):
        raise ImageError("not attested", "run the delivery again")

    def prepared(*_, **__):
        raise DeployError("the image is prepared", "")

    monkeypatch.setenv("SLIPWAY_ATTESTED", attested)
    target = SimpleNamespace(NAME="docker", IMAGES=True, serving=lambda *_: None)
    monkeypatch.setattr(targets, "choose", lambda _: target)
    monkeypatch.setattr(attestation, "verify", unattested)
    monkeypatch.setattr(deployment, "prepared", prepared)
    with pytest.raises(ImageError if refused else DeployError):
        deployment.deploy(client, settings, "staging", versions.by_number(client, settings.name, "2"), action)
