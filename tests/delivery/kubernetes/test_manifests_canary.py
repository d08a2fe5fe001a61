"""The canary is the Deployment with another track and nothing else; its share is that of pods or of weights."""

import copy

import pytest
from manifest_trees import COMPONENTS, needs_kubectl, rendered

from delivery.targets.kubernetes import manifests
from pipeline.errors import SlipwayError

pytestmark = needs_kubectl


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> list[dict]:
    """Production with every component but Argo's, which has its own canary."""
    chosen = [name for name in COMPONENTS if name != "argo-rollouts"]
    return rendered(tmp_path_factory.mktemp("canary"), *chosen)


def differences(left, right, path: str = "") -> dict[str, tuple]:
    """Each path at which two objects differ, with both values."""
    if isinstance(left, dict) and isinstance(right, dict):
        found = {}
        for key in left.keys() | right.keys():
            found |= differences(left.get(key), right.get(key), f"{path}.{key}")
        return found
    return {} if left == right else {path: (left, right)}


def test_canary_differs_from_stable_by_name_track_and_number(objects):
    """Everything else, image, environment and probes, is the same by construction."""
    [canary] = manifests.canary_of(objects, 2)
    assert differences(manifests.deployment_of(objects), canary) == {
        ".metadata.name": ("model", "model-canary"),
        ".spec.replicas": (None, 2),
        ".spec.selector.matchLabels.slipway/track": ("stable", "canary"),
        ".spec.template.metadata.labels.slipway/track": ("stable", "canary"),
    }


@pytest.mark.parametrize("percent", [0, 10, 50, 100])
def test_route_gives_the_canary_its_share(objects, percent):
    """The two weights add up to a hundred, and nothing else of the route changes."""
    [route] = manifests.weighted(objects, percent)
    weights = {each["name"]: each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]}
    assert weights == {"model-stable": 100 - percent, "model-canary": percent}
    before = manifests.find(objects, "HTTPRoute")
    assert set(differences(before, route)) <= {".spec.rules"}


def test_other_backends_keep_their_weight(objects):
    """In an extended route, backends besides stable and canary are unchanged."""
    extended = copy.deepcopy(objects)
    manifests.find(extended, "HTTPRoute")["spec"]["rules"][0]["backendRefs"].append({"name": "mirror", "port": 80})
    [route] = manifests.weighted(extended, 10)
    assert [each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]] == [90, 10, 1]


def test_a_route_by_header_keeps_its_backend(objects):
    """It leads to another namespace, which the canary does not touch."""
    assert manifests.find(objects, "HTTPRoute", "model-by-header")
    assert [route["metadata"]["name"] for route in manifests.weighted(objects, 10)] == ["model"]


def test_without_a_gateway_there_are_no_weights(tmp_path):
    """Then the share is that of the pods."""
    assert manifests.weighted(rendered(tmp_path), 10) == []


def test_deriving_a_canary_does_not_change_the_release(objects):
    """The objects applied at the end are the rendered ones."""
    before = copy.deepcopy(objects)
    manifests.canary_of(objects, 1)
    manifests.weighted(objects, 50)
    assert objects == before


def test_argo_is_recognised(objects, tmp_path):
    """If the Rollout owns the pods, our own canary would compete with it."""
    assert not manifests.rolled_out_by_argo(objects)
    assert manifests.rolled_out_by_argo(rendered(tmp_path, "argo-rollouts"))


def test_missing_deployment_is_reported(objects):
    """An overlay that renamed or dropped the Deployment gets a message."""
    with pytest.raises(SlipwayError, match="no Deployment"):
        manifests.canary_of([item for item in objects if item["kind"] != "Deployment"], 1)
