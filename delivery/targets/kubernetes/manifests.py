"""The objects applied to a cluster: an overlay of k8s/ with the release filled in, and the canary derived from it.

Nothing here connects to a cluster: `kubectl kustomize` reads files, and the rest are functions on the parsed objects.
"""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from pipeline.artifacts import ROOT, to_json, write_json
from pipeline.errors import DeployError

APP = {"app.kubernetes.io/name": "model"}  # on every object
TRACK = "slipway/track"  # tells stable pods from canary pods
PLACEHOLDER = "slipway/model"  # the image's name in k8s/base
UNSET = "set-me"  # the placeholder in addresses.yaml
# Kinds that are applied again when a release is undone, by API group: any other kind in the ConfigMap is refused.
KINDS = {
    "": {"ConfigMap", "Service", "ServiceAccount"},
    "apps": {"Deployment"},
    "batch": {"CronJob"},
    "autoscaling": {"HorizontalPodAutoscaler"},
    "policy": {"PodDisruptionBudget"},
    "networking.k8s.io": {"Ingress", "NetworkPolicy"},
    "gateway.networking.k8s.io": {"HTTPRoute", "ReferenceGrant"},
    "argoproj.io": {"AnalysisTemplate", "Rollout"},
    "external-secrets.io": {"ExternalSecret"},
    "monitoring.coreos.com": {"PodMonitor", "PrometheusRule", "ServiceMonitor"},
}
KEPT = ("Secret", "Namespace", "PersistentVolumeClaim")  # never deleted by us, nor copied into the ConfigMap
SECONDS = 120  # far more than files need; an overlay that fetches remote files must not hang
BY_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def render(environment: str, name: str, image: str, about: dict[str, Any], root: Path = ROOT) -> list[dict]:
    """The objects of an environment with this image; `about` becomes annotations slipway/KEY, and the version a label.

    Writes build/k8s/ENVIRONMENT/kustomization.yaml, the only place with the image's digest. Raises DeployError when the
    image has no digest, kubectl is missing, or the overlay cannot be used.
    """
    folder = prepare(environment, name, image, about, root)
    objects = list(yaml.load_all(_kustomize(folder, environment), Loader=_Loader))
    _refuse_unset(objects, environment)
    _refuse_other_image(objects, environment, image)
    _refuse_strangers(objects, environment, namespace(environment, name, root))
    return objects


class _Loader(yaml.SafeLoader):
    """Loads kustomize's output: it quotes every ambiguous text except = and <<."""

    yaml_implicit_resolvers: ClassVar = {
        first: found for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items() if first not in ("=", "<")
    }


def prepare(environment: str, name: str, image: str, about: dict[str, Any], root: Path = ROOT) -> Path:
    """Write the kustomization that adds a release to an overlay; return its folder."""
    if not BY_DIGEST.fullmatch(image):
        raise DeployError(
            f"{image} is not an image named by its digest in a registry",
            "set IMAGE_REPOSITORY and run `make image`, which pushes it and writes its digest down",
        )
    folder = root / "build" / "k8s" / environment
    layer = _layer(environment, namespace(environment, name, root), image, about)
    # JSON is YAML, too, and there a digest such as 12e34 is a text for every reader.
    write_json(folder / "kustomization.yaml", layer)
    return folder


def namespace(environment: str, name: str, root: Path = ROOT) -> str:
    """An environment's namespace: the overlay's `namespace:`, else NAME-ENVIRONMENT."""
    path = root / "k8s" / "overlays" / environment / "kustomization.yaml"
    overlay = _overlay(path, environment)
    chosen = overlay.get("namespace") or f"{name}-{environment}".replace("_", "-")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", str(chosen)):
        raise DeployError(
            f"{chosen} cannot be the name of a namespace: at most 63 of a-z, 0-9 and -",
            f"set `namespace:` in k8s/overlays/{environment}/kustomization.yaml",
        )
    return str(chosen)


def _overlay(path: Path, environment: str) -> dict[str, Any]:
    """An overlay's kustomization.yaml as a mapping."""
    shown = f"k8s/overlays/{environment}/kustomization.yaml"
    try:
        overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeployError(f"{shown} is missing", f"restore it with `git checkout -- {shown}`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeployError(f"{shown} is not valid YAML: {error}", "correct that line") from error
    if not isinstance(overlay, dict):
        raise DeployError(f"{shown} is empty", f"restore it with `git checkout -- {shown}`")
    return overlay


def _layer(environment: str, where: str, image: str, about: dict[str, Any]) -> dict[str, Any]:
    repository, digest = image.split("@")
    notes = {f"slipway/{key}": str(value) for key, value in about.items()}
    # Pods do not get the deployment's time: deploying the same release again must not restart them.
    since = {key: notes.pop(key) for key in ["slipway/since"] if key in notes}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../../../k8s/overlays/{environment}"],
        "namespace": where,
        "images": [{"name": PLACEHOLDER, "newName": repository, "digest": digest}],
        "labels": [{"pairs": {"slipway/version": str(about["version"])}, "includeTemplates": True}],
        "commonAnnotations": notes,
        "transformers": [to_json(_annotations_of_objects(since))] if since else [],
    }


def _annotations_of_objects(annotations: dict[str, str]) -> dict[str, Any]:
    """A kustomize transformer that annotates the objects, but not their pods."""
    return {
        "apiVersion": "builtin",
        "kind": "AnnotationsTransformer",
        "metadata": {"name": "about"},
        "annotations": annotations,
        "fieldSpecs": [{"path": "metadata/annotations", "create": True}],
    }


def _kustomize(folder: Path, environment: str) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise DeployError(
            "kubectl is not installed, and the manifests in k8s/ are rendered with it",
            "install kubectl 1.32 or newer: https://kubernetes.io/docs/tasks/tools",
        )
    overlay = f"k8s/overlays/{environment}"
    try:
        done = subprocess.run(
            [kubectl, "kustomize", str(folder)], capture_output=True, encoding="utf-8", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise DeployError(
            f"{overlay} was not rendered within {SECONDS} seconds", "look there for a resource from elsewhere"
        ) from None
    if done.returncode:
        raise DeployError(
            f"{overlay} cannot be rendered: {done.stderr.strip()}",
            f"correct it; `kubectl kustomize {overlay}` shows it",
        )
    return done.stdout


def _refuse_unset(objects: list[dict], environment: str) -> None:
    unset = sorted({f"{item['kind']} {item['metadata']['name']}" for item in objects if UNSET in _texts(item)})
    if unset:
        raise DeployError(
            f'{", ".join(unset)}: a value is still "{UNSET}"',
            f"fill in k8s/overlays/{environment}/addresses.yaml, or switch the component off",
        )


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested dicts and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _refuse_other_image(objects: list[dict], environment: str, image: str) -> None:
    """Raise DeployError for an `images:` entry in the overlay, which would override the release's image."""
    found = image_of(objects)
    if found != image:
        raise DeployError(
            f"k8s/overlays/{environment} runs {found}, not the release's image {image}",
            "leave the image of the container `model` to the deploy step: remove what sets it there",
        )


def _refuse_strangers(objects: list[dict], environment: str, where: str) -> None:
    """Raise DeployError for objects that could not be restored when the release is undone."""
    if found := strangers([item for item in objects if item["kind"] not in KEPT], where):
        raise DeployError(
            f"k8s/overlays/{environment} holds {', '.join(found)}, which a release may not bring",
            "apply it by itself; a release consists of " + ", ".join(sorted(set().union(*KINDS.values()))),
        )


def strangers(objects: list[dict], where: str) -> list[str]:
    """Objects that are not of KINDS, or not in this namespace, by kind and name."""
    return [
        f"{item.get('kind')} {item.get('metadata', {}).get('name')}"
        for item in objects
        if item.get("kind") not in KINDS.get(str(item.get("apiVersion")).rpartition("/")[0], ())
        or item.get("metadata", {}).get("namespace", where) != where
    ]


def find(objects: list[dict], kind: str, name: str = "model") -> dict | None:
    """The object of this kind and name, or None."""
    named = (item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)
    return next(named, None)


def deployment_of(objects: list[dict]) -> dict:
    """The Deployment `model`; raises DeployError when the overlay has none."""
    found = find(objects, "Deployment")
    if found is None:
        raise DeployError(
            "the manifests hold no Deployment `model`",
            "list ../../base in the overlay's resources, and leave its names as they are",
        )
    return found


def image_of(objects: list[dict]) -> str | None:
    """The image of the container `model`."""
    containers = deployment_of(objects)["spec"]["template"]["spec"]["containers"]
    return next((container.get("image") for container in containers if container["name"] == "model"), None)


def rolled_out_by_argo(objects: list[dict]) -> bool:
    """Whether the component argo-rollouts is enabled: then its Rollout owns the pods and does the canary."""
    return find(objects, "Rollout") is not None


def canary_of(objects: list[dict], replicas: int) -> list[dict]:
    """The Deployment `model-canary`: the Deployment `model` with pods of the other track, and a fixed number of them."""
    canary = copy.deepcopy(deployment_of(objects))
    canary["metadata"]["name"] += "-canary"
    canary["spec"]["replicas"] = replicas
    canary["spec"]["selector"]["matchLabels"][TRACK] = "canary"
    canary["spec"]["template"]["metadata"]["labels"][TRACK] = "canary"
    return [canary]


def weighted(objects: list[dict], percent: int) -> list[dict]:
    """The HTTPRoute with this share of requests for the canary; [] when the component gateway is disabled."""
    route = copy.deepcopy(find(objects, "HTTPRoute"))
    if route is None:
        return []
    weights = {"model-canary": percent, "model-stable": 100 - percent}
    for backend in (backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]):
        backend["weight"] = weights.get(backend["name"], backend.get("weight", 1))
    return [route]
