"""Every overlay with every combination of components: valid for Kubernetes, and keeping every rule."""

from itertools import combinations

import pytest
from manifest_policy import faults
from manifest_schemas import NEWEST, OLDEST, schema_faults
from manifest_trees import (
    ABOUT,
    COMPONENTS,
    ENVIRONMENTS,
    IMAGE,
    copy_of_k8s,
    needs_kubectl,
    rendered_together,
    variant,
)

from delivery.targets.kubernetes.manifests import canary_of, image_of, render, weighted

COMBINATIONS = [chosen for size in range(len(COMPONENTS) + 1) for chosen in combinations(COMPONENTS, size)]
BATCH = 16  # kustomize compares each object with each: all at once takes longer than a few at a time

pytestmark = needs_kubectl


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def every_combination(request, tmp_path_factory) -> dict[tuple[str, ...], list[dict]]:
    """The objects of one environment for each combination of components, the canary's among them."""
    found = {}
    for first in range(0, len(COMBINATIONS), BATCH):
        root = copy_of_k8s(tmp_path_factory.mktemp("k8s"))
        batch = COMBINATIONS[first : first + BATCH]
        places = [variant(root, request.param, chosen, number) for number, chosen in enumerate(batch)]
        together = rendered_together(root)
        found |= {chosen: together[place] for chosen, place in zip(batch, places, strict=True)}
    return {chosen: objects + canary_of(objects, 1) for chosen, objects in found.items()}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_overlays_as_they_are_can_be_deployed(environment, tmp_path):
    """What would be applied from k8s/ right now is rendered by the deploy step, valid, and keeps every rule."""
    objects = render(environment, "breast-cancer", IMAGE, ABOUT, copy_of_k8s(tmp_path))
    assert image_of(objects) == IMAGE
    assert [fault for item in objects for fault in schema_faults(item, OLDEST) + schema_faults(item, NEWEST)] == []
    assert faults(objects + canary_of(objects, 1)) == []


def test_all_combinations_are_there_and_differ(every_combination):
    """64 combinations give 64 different sets of objects, so no component is left out of what is checked below."""
    assert len(COMBINATIONS) == 2 ** len(COMPONENTS) == 64
    seen = {
        repr([{**item, "metadata": item["metadata"]["name"]} for item in each]) for each in every_combination.values()
    }
    assert len(seen) == 64


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_combination_is_valid(every_combination, version):
    """No object has a field, value or type that Kubernetes or an extension of it does not know."""
    found = {
        fault for objects in every_combination.values() for item in objects for fault in schema_faults(item, version)
    }
    assert found == set()


def test_every_combination_keeps_every_rule(every_combination):
    """No combination of components breaks a rule, not even together with the canary."""
    found = {chosen: broken for chosen, objects in every_combination.items() if (broken := faults(objects))}
    assert found == {}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_route_with_other_weights_is_valid(every_combination, version):
    """What is applied in the middle of a canary is valid too."""
    routes = weighted(every_combination[COMPONENTS], 10)
    assert routes and [fault for item in routes for fault in schema_faults(item, version)] == []


def test_the_two_versions_are_an_old_and_a_new_one():
    """The range of Kubernetes that is checked begins at 1.32 and goes up to what the schemas know."""
    assert OLDEST == "1.32" and int(NEWEST.split(".")[1]) > 32
