"""k8s/mlflow with each combination of its components: valid for Kubernetes, and following the rules for its pods."""

import base64
import json
import re
import shutil
import subprocess
from itertools import chain, combinations
from pathlib import Path

import manifest_pod_rules as pod_rules
import pytest
import yaml
from cryptography.fernet import Fernet
from manifest_objects import containers, of, pods, selects
from manifest_schemas import NEWEST, OLDEST, schema_faults
from manifest_trees import ROOT, needs_kubectl
from mlflow import environment_variables

COMPONENTS = ("postgres", "s3")
COMBINATIONS = [chosen for size in range(len(COMPONENTS) + 1) for chosen in combinations(COMPONENTS, size)]
USERS = {"mlflow": 10001, "mlflow-backup": 10001, "mlflow-restore": 10001, "postgres": 999}  # as in their images

pytestmark = needs_kubectl


def rendered(folder: Path, *components: str) -> list[dict]:
    """What `kubectl apply -k` would apply with these components, with an image filled in."""
    shutil.copytree(ROOT / "k8s" / "mlflow", folder / "mlflow")
    path = folder / "mlflow" / "kustomization.yaml"
    listed = yaml.safe_load(path.read_text(encoding="utf-8")) | {"components": list(components)}
    path.write_text(yaml.safe_dump(listed).replace("set-me", "registry.example.com/team/mlflow"), encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", str(path.parent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda chosen: "+".join(chosen) or "none")
def objects(request, tmp_path_factory) -> list[dict]:
    """The objects of one combination."""
    return rendered(tmp_path_factory.mktemp("k8s"), *request.param)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> list[dict]:
    """The objects with the default components."""
    listed = yaml.safe_load((ROOT / "k8s/mlflow/kustomization.yaml").read_text(encoding="utf-8"))["components"]
    return rendered(tmp_path_factory.mktemp("k8s"), *listed)


def container(objects: list[dict], name: str) -> dict:
    return next(each for owner, each in containers(objects) if owner == name)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_mlflow_manifests_are_valid(objects, version):
    """No object has a field, value or type unknown to Kubernetes, in the oldest and in the newest version."""
    assert [fault for item in objects for fault in schema_faults(item, version)] == []


RULES = (
    pod_rules.image_is_named_by_digest,
    pod_rules.containers_have_no_privileges,
    pod_rules.pods_get_no_token,
    pod_rules.requests_and_limits_are_set,
)


def test_mlflow_follows_the_rules_for_pods(objects):
    """Images by digest, no privileges, no token, requests and limits: the rules of the service's own pods."""
    assert len(list(pods(objects))) >= 3
    assert [fault for rule in RULES for fault in rule(objects)] == []


def test_mlflow_runs_as_its_image_s_user(objects):
    """Each pod runs as the user of its image, and the namespace refuses root."""
    for name, _, spec in pods(objects):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] == USERS[name], name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert not [name for name, each in containers(objects) if "runAsUser" in each["securityContext"]]
    assert of(objects, "Namespace")[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_mlflow_manifests_contain_no_secret(objects):
    """Secrets come from the cluster by name, and each name is one that the documentation creates."""
    assert not of(objects, "Secret")
    named = set(
        re.findall(
            r"(?:secretKeyRef|secretRef): \{[^}]*'?name'?: '?([\w-]+)",
            yaml.safe_dump(objects, default_flow_style=True, width=10**6),
        )
    )
    page = (ROOT / "docs/mlflow-server.md").read_text(encoding="utf-8")
    assert named and named <= set(re.findall(r"create secret generic ([\w-]+)", page))
    for name, each in containers(objects):
        for variable in each.get("env", []):
            secret = re.search(r"(PASSWORD|SECRET_KEY|ENCRYPTION_KEY)$", variable["name"])
            assert not (secret and "value" in variable), f"{name}: {variable['name']}"


def test_documented_secrets_have_the_needed_keys(objects):
    """The commands of docs/mlflow-server.md, run without a cluster, create Secrets with each key that a pod uses."""
    page = (ROOT / "docs/mlflow-server.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python3 -c .*\n.*create secret generic.*$", page, re.M)
    made = {}
    for line in lines:
        command = f"{line} --dry-run=client --output json"
        said = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=True).stdout
        item = json.loads(said)
        made[item["metadata"]["name"]] = item["data"]
    assert set(made) == {"mlflow", "mlflow-database"}
    for name, each in containers(objects):
        for variable in each.get("env", []):
            taken = variable.get("valueFrom", {}).get("secretKeyRef")
            if taken and taken["name"] != "mlflow-s3":  # whose lines are up to the reader
                assert taken["key"] in made[taken["name"]], f"{name}: {variable['name']}"
    assert {"PGHOST", "PGUSER", "PGDATABASE", "PGPASSWORD"} == set(made["mlflow-database"])
    assert Fernet(base64.b64decode(made["mlflow"]["webhook-key"]))


def test_mlflow_traffic_is_refused_by_default(objects):
    """Each pod has a policy for both directions, no policy opens every port, and only MLflow and backups reach PostgreSQL."""
    policies = [item["spec"] for item in of(objects, "NetworkPolicy")]
    for name, labels, _ in pods(objects):
        own = [spec for spec in policies if selects(spec["podSelector"], labels)]
        assert {"Ingress", "Egress"} == set(chain.from_iterable(spec["policyTypes"] for spec in own)), name
    for rule in chain.from_iterable(spec.get("ingress", []) + spec.get("egress", []) for spec in policies):
        assert rule["ports"]
    for name, labels, _ in pods(objects):
        inward = [rule for spec in policies if selects(spec["podSelector"], labels) for rule in spec.get("ingress", [])]
        assert all(rule.get("from") for rule in inward)
        if name == "postgres":
            callers = {
                n
                for n, other, _ in pods(objects)
                if any(selects(f["podSelector"], other) for r in inward for f in r["from"])
            }
            assert callers == {"mlflow", "mlflow-backup", "mlflow-restore"}


def test_mlflow_references_exist(objects):
    """Volumes are mounted, claims and accounts exist, and Services reach the pod of their name."""
    claims = {item["metadata"]["name"] for item in of(objects, "PersistentVolumeClaim")}
    accounts = {item["metadata"]["name"] for item in of(objects, "ServiceAccount")}
    configured = {item["metadata"]["name"] for item in of(objects, "ConfigMap")}
    for name, _, spec in pods(objects):
        volumes = {volume["name"]: volume for volume in spec["volumes"]} | ({"data": {}} if name == "postgres" else {})
        assert set(volumes) == {mount["name"] for each in spec["containers"] for mount in each["volumeMounts"]}, name
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "mlflow-artifacts") in claims
            assert "configMap" not in volume or volume["configMap"]["name"] in configured
        assert spec["serviceAccountName"] in accounts
    for service in of(objects, "Service"):
        reached = [
            name for name, labels, _ in pods(objects) if selects({"matchLabels": service["spec"]["selector"]}, labels)
        ]
        assert reached == [service["metadata"]["name"]]
    assert {item["metadata"].get("namespace", "mlflow") for item in objects} == {"mlflow"}


def test_mlflow_in_a_cluster_requires_a_login(objects):
    """It starts with accounts, with the same rules as on one host, and accepts only its own host names."""
    mlflow = container(objects, "mlflow")
    assert "--app-name basic-auth" in mlflow["command"][-1]
    one_host = (ROOT / "monitoring/mlflow/basic_auth.ini").read_text(encoding="utf-8")
    rules = [item["data"]["basic_auth.ini"] for item in of(objects, "ConfigMap") if "basic_auth.ini" in item["data"]]
    assert rules == [one_host] and "\ndefault_permission = READ\n" in one_host
    hosts = next(each["value"] for each in mlflow["env"] if each["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS").split(",")
    assert "mlflow.mlflow:*" in hosts and "*" not in hosts


def test_mlflow_in_a_cluster_has_the_settings_of_one_host(objects):
    """Each MLflow variable in monitoring/compose.yaml is set here, too, and known to MLflow."""
    compose = yaml.safe_load((ROOT / "monitoring/compose.yaml").read_text(encoding="utf-8"))["services"]["mlflow"]
    wanted = {name for name in compose["environment"] if name.startswith("MLFLOW_")} - {"MLFLOW_S3_ENDPOINT_URL"}
    given = {each["name"] for each in container(objects, "mlflow")["env"]}
    assert wanted <= given
    known = {one.name for one in vars(environment_variables).values() if hasattr(one, "name")}
    assert given <= known | {"MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_BACKEND_STORE_URI"}


def test_s3_component_replaces_the_volume_by_a_bucket(tmp_path):
    """With it MLflow writes into the bucket of its Secret; the database's Secret is unchanged."""
    mlflow = container(rendered(tmp_path, "postgres", "s3"), "mlflow")
    place = [each for each in mlflow["env"] if each.pop("name") == "MLFLOW_ARTIFACTS_DESTINATION"]
    assert place == [{"valueFrom": {"secretKeyRef": {"name": "mlflow-s3", "key": "SLIPWAY_ARTIFACTS"}}}]
    assert [each["secretRef"]["name"] for each in mlflow["envFrom"]] == ["mlflow-database", "mlflow-s3"]


def test_restore_never_starts_by_itself(shipped):
    """Backups run each night on MLflow's node; a restore is suspended, and not retried."""
    jobs = {item["metadata"]["name"]: item["spec"] for item in of(shipped, "CronJob")}
    assert (
        jobs["mlflow-restore"]["suspend"] is True and jobs["mlflow-restore"]["jobTemplate"]["spec"]["backoffLimit"] == 0
    )
    assert not jobs["mlflow-backup"].get("suspend") and jobs["mlflow-backup"]["concurrencyPolicy"] == "Forbid"
    near = jobs["mlflow-backup"]["jobTemplate"]["spec"]["template"]["spec"]["affinity"]["podAffinity"]
    labels = {name: labels for name, labels, _ in pods(shipped)}["mlflow"]
    assert selects(near["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"], labels)


def test_mlflow_files_start_with_their_purpose():
    """Each manifest is one object in its own file, which starts with its purpose."""
    for path in (ROOT / "k8s" / "mlflow").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# ") and text.count("\nkind: ") == 1, path
