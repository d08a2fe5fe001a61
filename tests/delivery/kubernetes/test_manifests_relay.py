"""The manifests of the webhook relay: valid, restricted, and consistent with the relay itself."""

import copy
import subprocess

import manifest_pod_rules as pod_rules
import pytest
import yaml
from manifest_objects import containers, of, pods, selects
from manifest_schemas import NEWEST, OLDEST, schema_faults
from manifest_trees import copy_of_k8s, needs_kubectl

from delivery.relay import server
from pipeline.errors import SettingsError

pytestmark = needs_kubectl
RULES = (
    pod_rules.image_is_named_by_digest,
    pod_rules.nobody_runs_as_root,
    pod_rules.containers_have_no_privileges,
    pod_rules.pods_get_no_token,
    pod_rules.probes_ask_the_right_endpoint,
    pod_rules.requests_and_limits_are_set,
    pod_rules.no_secret_stands_in_a_manifest,
)


def rendered(root, filled: bool = True) -> list[dict]:
    """What `kubectl apply -k` would apply, with the image filled in."""
    path = copy_of_k8s(root) / "k8s/webhook-relay/kustomization.yaml"
    text = path.read_text(encoding="utf-8")
    if filled:
        text = text.replace("newName: set-me", "newName: team/relay").replace(
            "digest: set-me", f"digest: sha256:{'ab' * 32}"
        )
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", str(path.parent)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> list[dict]:
    """The objects of the relay."""
    return rendered(tmp_path_factory.mktemp("relay"))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_relay_manifests_are_valid(objects, version):
    """No object has a field, value or type unknown to Kubernetes."""
    assert [fault for item in objects for fault in schema_faults(item, version)] == []


def test_relay_follows_the_rules_for_pods(objects):
    """Restricted, by digest, with probes and limits, and with secrets by reference."""
    assert [fault for rule in RULES for fault in rule(objects)] == []


def test_rules_find_a_breach_in_the_relay(objects):
    """A root user and a plain-text secret are named."""
    spoilt = copy.deepcopy(objects)
    (pod,) = [spec for _, _, spec in pods(spoilt)]
    pod["securityContext"]["runAsUser"] = 0
    pod["containers"][0]["env"][0] = {"name": "SLIPWAY_RELAY_SECRET", "value": "abc"}
    assert len([fault for rule in RULES for fault in rule(spoilt)]) == 2


def test_relay_is_one_pod_in_one_namespace(objects):
    """Service and policy select it, at the port where the relay listens."""
    assert {item["metadata"]["namespace"] for item in objects} == {"slipway-relay"}
    ((_, labels, spec),) = pods(objects)
    (service,), (policy,), (deployment,) = (of(objects, kind) for kind in ("Service", "NetworkPolicy", "Deployment"))
    assert selects({"matchLabels": service["spec"]["selector"]}, labels) and selects(
        policy["spec"]["podSelector"], labels
    )
    (port,) = spec["containers"][0]["ports"]
    assert port == {"name": service["spec"]["ports"][0]["targetPort"], "containerPort": server.PORT}
    assert deployment["spec"]["replicas"] == 1


def test_relay_traffic_is_refused_by_default(objects):
    """Incoming traffic reaches only the relay's port from named sources; outgoing is limited by port, and beyond the cluster to 443."""
    (policy,) = (item["spec"] for item in of(objects, "NetworkPolicy"))
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]] == [[server.PORT]]
    assert all(rule["from"] for rule in policy["ingress"]) and all(rule["ports"] for rule in policy["egress"])
    assert [[port["port"] for port in rule["ports"]] for rule in policy["egress"] if "to" not in rule] == [[443]]


def test_relay_manifests_have_the_relay_s_settings(objects):
    """With settings and Secret filled in the relay starts; a value that is still "set-me" is named."""
    (settings,) = (item["data"] for item in of(objects, "ConfigMap"))
    ((_, container),) = containers(objects)
    given = {
        one["name"]: "9f2c5b7de01a4e6c8d3b"
        for one in container["env"]
        if not one["valueFrom"]["secretKeyRef"].get("optional")
    }
    right = (
        settings
        | given
        | {"SLIPWAY_RELAY_REPOSITORY": "octo/cars", "MLFLOW_TRACKING_URI": "https://mlflow.example.com"}
    )
    right["SLIPWAY_RELAY_MODEL"] = "cars"
    assert server.read(right, reconciles=False).ref == "main"
    for name in (name for name, value in settings.items() if value == "set-me"):
        with pytest.raises(SettingsError, match=name):
            server.read(right | {name: "set-me"}, reconciles=False)


def test_mlflow_in_the_same_cluster_reaches_the_relay(tmp_path):
    """The policy of k8s/mlflow allows traffic to the relay's port, and the relay's policy accepts it."""
    policies = [
        yaml.safe_load((copy_of_k8s(tmp_path / name) / f"k8s/{name}/network-policy.yaml").read_text(encoding="utf-8"))
        for name in ("mlflow", "webhook-relay")
    ]
    out = {port["port"] for rule in policies[0]["spec"]["egress"] for port in rule["ports"]}
    into = {port["port"] for rule in policies[1]["spec"]["ingress"] for port in rule["ports"]}
    assert into == {server.PORT} and server.PORT in out
