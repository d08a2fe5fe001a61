"""Every overlay with each pair of components, and with all of them, is valid for Kubernetes and follows every rule."""

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

# A component can disturb another one; it takes no third to do so. All of them together are checked as well.
COMBINATIONS = [*(chosen for size in range(3) for chosen in combinations(COMPONENTS, size)), COMPONENTS]
BATCH = 16  # kustomize compares each object with each other: all at once takes longer than a few at a time

pytestmark = needs_kubectl


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def every_combination(request, tmp_path_factory) -> dict[tuple[str, ...], list[dict]]:
    """The objects of one environment, including the canary's, for each combination of components."""
    found = {}
    for first in range(0, len(COMBINATIONS), BATCH):
        root = copy_of_k8s(tmp_path_factory.mktemp("k8s"))
        batch = COMBINATIONS[first : first + BATCH]
        places = [variant(root, request.param, chosen, number) for number, chosen in enumerate(batch)]
        together = rendered_together(root)
        found |= {chosen: together[place] for chosen, place in zip(batch, places, strict=True)}
    return {chosen: objects + canary_of(objects, 1) for chosen, objects in found.items()}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_current_overlays_can_be_deployed(environment, tmp_path):
    """The deploy step renders them, and the objects are valid and follow every rule."""
    objects = render(environment, "breast-cancer", IMAGE, ABOUT, copy_of_k8s(tmp_path))
    assert image_of(objects) == IMAGE
    assert [fault for item in objects for fault in schema_faults(item, OLDEST) + schema_faults(item, NEWEST)] == []
    assert faults(objects + canary_of(objects, 1)) == []


def test_combinations_are_complete_and_differ(every_combination):
    """Each combination gives another set of objects, so the checks below include every component and every pair."""
    assert {frozenset(pair) for pair in combinations(COMPONENTS, 2)} < {frozenset(chosen) for chosen in COMBINATIONS}
    seen = {
        repr([{**item, "metadata": item["metadata"]["name"]} for item in each]) for each in every_combination.values()
    }
    assert len(seen) == len(COMBINATIONS)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_combination_is_valid(every_combination, version):
    """No object has a field, value or type unknown to Kubernetes or its extension."""
    found = {
        fault for objects in every_combination.values() for item in objects for fault in schema_faults(item, version)
    }
    assert found == set()


def test_every_combination_follows_every_rule(every_combination):
    """No combination of components breaks a rule, not even with the canary."""
    found = {chosen: broken for chosen, objects in every_combination.items() if (broken := faults(objects))}
    assert found == {}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_route_with_other_weights_is_valid(every_combination, version):
    """The objects applied during a canary are valid, too."""
    routes = weighted(every_combination[COMPONENTS], 10)
    assert routes and [fault for item in routes for fault in schema_faults(item, version)] == []


def test_oldest_and_newest_version_are_checked():
    """The checked range of Kubernetes starts at 1.32 and ends with the newest schemas."""
    assert OLDEST == "1.32" and int(NEWEST.split(".")[1]) > 32
