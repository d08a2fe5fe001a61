"""Rendering a release into an overlay, and the messages when that fails."""

import os
from pathlib import Path

import pytest
import yaml
from manifest_trees import ABOUT, COMPONENTS, IMAGE, copy_of_k8s, needs_kubectl, rendered

from delivery.targets.kubernetes import manifests
from pipeline.errors import SlipwayError


@pytest.fixture
def root(tmp_path) -> Path:
    """A repository with only k8s/, in a folder whose name has a space and umlauts."""
    return copy_of_k8s(tmp_path / "größere Gabel")


def render(root: Path, environment: str = "production", image: str = IMAGE, **about: str) -> list[dict]:
    return manifests.render(environment, "breast_cancer", image, ABOUT | about, root)


def refusal(root: Path, **changed: str) -> SlipwayError:
    """The error of a failing rendering."""
    with pytest.raises(SlipwayError) as caught:
        render(root, **changed)
    assert caught.value.then
    return caught.value


def edit(root: Path, old: str, new: str, file: str = "kustomization.yaml", environment: str = "production") -> None:
    path = root / "k8s" / "overlays" / environment / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@needs_kubectl
def test_digest_is_in_one_place(root):
    """Of all files that kustomize reads, one line names the release's image."""
    render(root)
    lines = [line for path in root.rglob("*.yaml") for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line.strip() for line in lines if IMAGE.split("@")[1] in line] == [f'"digest": "{IMAGE.split("@")[1]}"']


@needs_kubectl
def test_second_release_replaces_the_first(root):
    """Rendering again leaves nothing of the previous release, and no further file."""
    render(root)
    objects = render(root, image=f"other/model@sha256:{'ef' * 32}", version="13")
    assert manifests.image_of(objects) == f"other/model@sha256:{'ef' * 32}"
    assert [path.name for path in (root / "build" / "k8s" / "production").iterdir()] == ["kustomization.yaml"]
    assert "ab" * 32 not in yaml.safe_dump_all(objects)


@needs_kubectl
def test_objects_and_pods_name_their_release(root):
    """Every object is annotated with the release, and pods can be listed by its version."""
    objects = render(root)
    for item in objects:
        assert {key: item["metadata"]["annotations"][f"slipway/{key}"] for key in ABOUT} == ABOUT
    pod = manifests.deployment_of(objects)["spec"]["template"]["metadata"]
    assert pod["labels"]["slipway/version"] == pod["annotations"]["slipway/version"] == "12"
    assert "slipway/version" not in manifests.deployment_of(objects)["spec"]["selector"]["matchLabels"]


@needs_kubectl
def test_same_release_later_does_not_change_the_pods(root):
    """The time of a deployment is on the objects but not in the pod template, where a change would restart the pods."""
    first, second = render(root, since="2026-11-21T10:00:00Z"), render(root, since="2026-11-22T10:00:00Z")
    first, second = manifests.deployment_of(first), manifests.deployment_of(second)
    assert first["metadata"]["annotations"] != second["metadata"]["annotations"]
    assert first["spec"] == second["spec"]


@needs_kubectl
def test_annotations_keep_any_text(root):
    """Values stay text, also where one YAML version takes them for something else."""
    texts = 'yes|on|null|~|12|1e5|1E400|0x1F|0o7|1_000|1:30|12:30:45|2026-11-21|.inf|=|<<|größer: {a}|two\nlines|"|#|{{x}}| |'
    notes = {f"note-{number}": text for number, text in enumerate(texts.split("|"))} | {
        "since": "1e5",
        "version": "1e5",
    }
    item = manifests.deployment_of(render(root, **notes))
    assert {key: item["metadata"]["annotations"][f"slipway/{key}"] for key in notes} == notes
    assert item["spec"]["template"]["metadata"]["labels"]["slipway/version"] == "1e5"


@needs_kubectl
def test_addresses_are_filled_in_and_not_applied(tmp_path):
    """The values of addresses.yaml are in the components; the file itself is not applied."""
    objects = rendered(tmp_path, *COMPONENTS)
    assert not [item for item in objects if item["kind"] == "ConfigMap"]
    assert "addresses.yaml" not in yaml.safe_dump_all(objects)
    assert manifests.find(objects, "Ingress")["spec"]["tls"][0]["hosts"] == ["filled-in"]
    assert manifests.find(objects, "HTTPRoute")["spec"]["hostnames"] == ["filled-in"]


@needs_kubectl
@pytest.mark.parametrize("component", ["ingress", "gateway", "api-keys"])
def test_unset_address_is_refused(root, component):
    """A value that is still the placeholder is named with the file to edit, before anything is applied."""
    edit(root, f"# - ../../components/{component}\n", f"- ../../components/{component}\n")
    error = refusal(root)
    assert "set-me" in error.what and "k8s/overlays/production/addresses.yaml" in error.then


@needs_kubectl
def test_overlay_with_another_image_is_refused(root):
    """It would be deployed instead of the release, and its smoke test could even pass."""
    edit(root, "patches:", f"images: [{{name: slipway/model, newName: other, digest: 'sha256:{'0' * 64}'}}]\npatches:")
    assert "not the release's image" in refusal(root).what


@needs_kubectl
def test_overlay_without_the_base_is_refused(root):
    """Without the Deployment there is nothing to release."""
    edit(root, "[../../base, addresses.yaml]", "[addresses.yaml]")
    edit(root, "patches:\n  - path: size.yaml\n", "")
    assert "no Deployment" in refusal(root).what


@needs_kubectl
def test_invalid_overlay_is_refused_with_kustomize_s_message(root):
    """A missing component is named, with the command that shows it."""
    edit(root, "components:", "components:\n  - ../../components/ingres")
    error = refusal(root)
    assert "components/ingres" in error.what and "kubectl kustomize k8s/overlays/production" in error.then


@pytest.mark.parametrize(
    "image",
    [
        "",
        "slipway/model",
        "a/b:v1",
        f"sha256:{'a' * 64}",
        f"a b@sha256:{'a' * 64}",
        "a@sha256:1",
        f"{IMAGE}0",
        f"{IMAGE}\n",
    ],
)
def test_image_without_a_registry_digest_is_refused(root, image):
    """Tags, images that were never pushed and damaged digests are refused, and nothing is written."""
    assert "digest" in refusal(root, image=image).what
    assert not (root / "build").exists()


def test_missing_kubectl_says_what_to_install(root, monkeypatch):
    """A sentence with its download page instead of a traceback."""
    monkeypatch.setenv("PATH", str(root))
    error = refusal(root)
    assert "kubectl is not installed" in error.what and "https://" in error.then


def test_hanging_rendering_times_out(root, monkeypatch):
    """An overlay that waits for a remote file does not hold the deployment forever."""
    fake = root / "kubectl"
    fake.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{root}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(manifests, "SECONDS", 0.2)
    assert "not rendered within" in refusal(root).what


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "missing"), ("a: [", "not valid YAML"), ("", "empty"), ("- a\n", "empty"), ("\xff", "YAML")],
)
def test_damaged_overlay_is_named(root, text, said):
    """A kustomization.yaml that is missing, empty or not YAML is named by its path."""
    path = root / "k8s" / "overlays" / "production" / "kustomization.yaml"
    path.unlink() if text is None else path.write_text(text, encoding="latin-1")
    error = refusal(root)
    assert said in error.what and "k8s/overlays/production/kustomization.yaml" in error.what


def test_default_namespace_is_name_and_environment(root):
    """An environment has its own namespace without any setting."""
    assert manifests.namespace("staging", "breast_cancer", root) == "breast-cancer-staging"
    assert manifests.namespace("production", "breast_cancer", root) == "breast-cancer-production"


@needs_kubectl
def test_overlay_s_namespace_wins(root):
    """A team that was given a namespace writes it into its overlay, and everything goes there."""
    edit(root, "resources:", "namespace: team-a\nresources:")
    assert {item["metadata"]["namespace"] for item in render(root)} == {"team-a"}
    assert manifests.namespace("staging", "breast_cancer", root) == "breast-cancer-staging"


@pytest.mark.parametrize("chosen", ["Team", "a_b", "-a", "a.b", "12/3", "[a]", "a" * 64])
def test_invalid_namespace_is_refused(root, chosen):
    """What Kubernetes would refuse later is refused now, with the file to correct."""
    edit(root, "resources:", f"namespace: {chosen}\nresources:")
    assert "k8s/overlays/production/kustomization.yaml" in refusal(root).then


def test_too_long_namespace_is_reported(root):
    """A model's name may be longer than a namespace's."""
    with pytest.raises(SlipwayError, match="63"):
        manifests.namespace("production", "m" * 60, root)
