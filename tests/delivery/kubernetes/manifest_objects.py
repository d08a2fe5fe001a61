"""Queries on rendered manifests: objects by kind, their pods, and what a selector matches."""

from collections.abc import Iterator
from itertools import chain


def of(objects: list[dict], *kinds: str) -> list[dict]:
    """The objects of these kinds."""
    return [item for item in objects if item["kind"] in kinds]


def pods(objects: list[dict]) -> Iterator[tuple[str, dict, dict]]:
    """Name, labels and specification of each kind of pod."""
    for item in of(objects, "Deployment", "StatefulSet", "CronJob"):
        spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
        template = spec["template"]
        yield item["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def servers(objects: list[dict]) -> Iterator[tuple[str, dict, dict]]:
    """The same of the pods that go on, unlike those of a CronJob."""
    jobs = {item["metadata"]["name"] for item in of(objects, "CronJob")}
    yield from (pod for pod in pods(objects) if pod[0] not in jobs)


def containers(objects: list[dict]) -> Iterator[tuple[str, dict]]:
    """Every container, including init containers, with the name of its workload."""
    for name, _, spec in pods(objects):
        for container in chain(spec["containers"], spec.get("initContainers", [])):
            yield name, container


def selects(selector: dict, labels: dict) -> bool:
    """Whether a Kubernetes selector matches these labels."""
    if not all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_expression(rule, labels) for rule in selector.get("matchExpressions", []))


def _expression(rule: dict, labels: dict) -> bool:
    there, listed = rule["key"] in labels, labels.get(rule["key"]) in rule.get("values", [])
    return {"Exists": there, "DoesNotExist": not there, "In": listed, "NotIn": not listed}[rule["operator"]]
