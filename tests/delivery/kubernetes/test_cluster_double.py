"""The cluster double responds to the real kubectl like a cluster, as far as objects go; a real cluster passes the same tests."""

import json

import yaml

from tests.delivery.kubernetes.cluster_objects import config, deployment


def test_version_and_resources_are_discovered(cluster):
    """kubectl finds the server's version and the kinds that we deploy."""
    assert "serverVersion" in cluster.json("version")
    names = cluster.kubectl("api-resources", "--output=name").split()
    assert {"pods", "deployments.apps", "horizontalpodautoscalers.autoscaling", "leases.coordination.k8s.io"} <= {
        *names
    }


def test_object_is_created_once(kubectl, refused):
    """Creating an existing object is refused."""
    kubectl("create", "--filename=-", stdin=yaml.safe_dump(config(a="1")))
    assert "(AlreadyExists)" in (said := refused("create", "--filename=-", stdin=yaml.safe_dump(config(a="2"))))
    assert 'configmaps "settings" already exists' in said


def test_stale_write_is_refused(kubectl, get, refused):
    """A replace with the resourceVersion of an older state is a conflict and changes nothing."""
    kubectl("create", "configmap", "settings", "--from-literal=a=1")
    old = get("configmap", "settings")
    kubectl("patch", "configmap", "settings", "--patch", '{"data": {"a": "2"}}')
    old["data"]["a"] = "3"
    said = refused("replace", "--filename=-", stdin=json.dumps(old))
    assert "(Conflict)" in said and "the object has been modified" in said
    assert get("configmap", "settings")["data"] == {"a": "2"}


def test_apply_removes_omitted_fields(apply, get):
    """A field that a manager applied and then omits is removed."""
    apply(config(a="1", b="2"))
    apply(config(b="3"))
    assert get("configmap", "settings")["data"] == {"b": "3"}


def test_apply_keeps_fields_of_others(apply, kubectl, get):
    """A field written by another manager stays."""
    apply(config(a="1"))
    kubectl("label", "configmap", "settings", "colour=red")
    apply(config(b="1"), manager="other")
    apply(config(c="1"))
    found = get("configmap", "settings")
    assert (found["data"], found["metadata"]["labels"]) == ({"b": "1", "c": "1"}, {"colour": "red"})


def test_shared_field_stays_until_both_omit_it(apply, get):
    """A field that two managers applied with one value is removed when the second omits it."""
    apply(config(a="1"), manager="first")
    apply(config(a="1"), manager="second", force=False)
    apply(config(), manager="first")
    assert get("configmap", "settings").get("data") == {"a": "1"}
    apply(config(), manager="second")
    assert not get("configmap", "settings").get("data")


def test_apply_needs_force_to_take_a_field(apply, refused, get):
    """Another manager's field is taken with --force-conflicts only; the refusal names manager and field."""
    apply(config(a="1"), manager="first")
    options = ["--server-side", "--field-manager=second", "--filename=-"]
    said = refused("apply", *options, stdin=yaml.safe_dump(config(a="2")))
    assert 'conflict with "first" using v1: .data.a' in said
    apply(config(a="2"), manager="second")
    apply(config(), manager="first")
    assert get("configmap", "settings")["data"] == {"a": "2"}


def test_apply_merges_lists_by_key(apply, get):
    """Containers, environment and ports merge by name, so one manager's items survive another's apply."""
    mine, other = deployment("r/a@sha256:" + "0" * 64, 0), deployment("r/a@sha256:" + "0" * 64, 0)
    mine["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "1"},
    ]
    other["spec"]["template"]["spec"] = {"containers": [{"name": "model", "env": [{"name": "C", "value": "2"}]}]}
    apply(mine)
    apply(other, manager="other")
    mine["spec"]["template"]["spec"]["containers"][0]["env"].pop(0)
    apply(mine)
    (container,) = get("deployment", "model")["spec"]["template"]["spec"]["containers"]
    assert {one["name"]: one["value"] for one in container["env"]} == {"B": "1", "C": "2"}
    assert [port["containerPort"] for port in container["ports"]] == [8000]


def test_omitted_replicas_get_their_default(apply, get):
    """A manager that applied the replicas and omits them gets the default, 1; a number set by another stays."""
    wanted = deployment("r/a@sha256:" + "0" * 64, 0)
    apply(wanted)
    del wanted["spec"]["replicas"]
    apply(wanted)
    assert get("deployment", "model")["spec"]["replicas"] == 1


def test_unknown_fields_are_refused(apply, refused, cluster, namespace):
    """An unknown field is refused by name, with every kind of write."""
    wrong = deployment("r/a@sha256:" + "0" * 64, 0)
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    said = refused("create", "--filename=-", stdin=yaml.safe_dump(wrong))
    assert 'unknown field "spec.template.spec.containers[0].readinessProb"' in said
    assert "readinessProb" in refused("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(wrong))
    assert cluster.json("-n", namespace, "get", "deployments")["items"] == []


def test_unknown_kind_is_refused(refused):
    """An object of a kind without its operator is refused, and the kind is named."""
    thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": {}}
    said = refused("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(thing))
    assert 'no matches for kind "Thing" in version "example.com/v1"' in said


def test_invalid_values_are_refused(refused, kubectl):
    """A Deployment whose selector does not match its template is invalid, and so is a name with capitals."""
    wrong = deployment("r/a@sha256:" + "0" * 64, 0)
    wrong["spec"]["selector"] = {"matchLabels": {"other": "label"}}
    assert (
        "(Invalid)" in (said := refused("create", "--filename=-", stdin=yaml.safe_dump(wrong))) or "is invalid" in said
    )
    assert "selector" in said
    assert "RFC 1123" in refused("create", "--filename=-", stdin=yaml.safe_dump(config("Settings")))


def test_missing_namespace_is_refused(cluster):
    """The message names the namespace."""
    said = cluster.refused(
        "-n", "nowhere-at-all", "apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(config())
    )
    assert 'namespaces "nowhere-at-all" not found' in said


def test_dry_run_writes_nothing(apply, kubectl, get):
    """--dry-run=server returns the result and changes nothing, for existing and new objects."""
    apply(config(a="1"))
    options = ["--server-side", "--field-manager=slipway", "--dry-run=server", "--filename=-"]
    said = kubectl("apply", *options, stdin=yaml.safe_dump_all([config(a="2"), config("another")]))
    assert said.count("serverside-applied (server dry run)") == 2
    found = {one["metadata"]["name"]: one.get("data") for one in get("configmaps")["items"]}
    assert found["settings"] == {"a": "1"} and "another" not in found


def test_three_kinds_of_patch(kubectl, get):
    """Merge patches merge maps, JSON patches use paths, strategic ones merge lists by key."""
    kubectl("create", "--filename=-", stdin=yaml.safe_dump(deployment("r/a@sha256:" + "0" * 64, 0)))
    kubectl("patch", "deployment", "model", "--type=merge", "--patch", '{"metadata": {"labels": {"a": "1"}}}')
    path = "/spec/template/spec/containers/0/env"
    change = [{"op": "add", "path": path, "value": [{"name": "A", "value": "1"}]}]
    kubectl("patch", "deployment", "model", "--type=json", "--patch", json.dumps(change))
    container = {"name": "model", "env": [{"name": "B", "value": "2"}]}
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    kubectl("patch", "deployment", "model", "--patch", json.dumps(change))
    found = get("deployment", "model")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert found["metadata"]["labels"] == {"a": "1"}
    assert {one["name"] for one in container["env"]} == {"A", "B"} and container["image"].startswith("r/a@")


def test_client_side_apply_works(kubectl, get):
    """With kubectl's older apply, fields that a manifest omits are removed, too."""
    kubectl("apply", "--filename=-", stdin=yaml.safe_dump(config(a="1", b="1")))
    kubectl("apply", "--filename=-", stdin=yaml.safe_dump(config(b="2")))
    assert get("configmap", "settings")["data"] == {"b": "2"}


def test_label_selectors(kubectl, get):
    """A selector finds exactly the objects whose labels match."""
    for name, colour in (("one", "red"), ("two", "blue")):
        kubectl("create", "configmap", name)
        kubectl("label", "configmap", name, f"colour={colour}")
    found = {
        query: [one["metadata"]["name"] for one in get("configmaps", f"--selector={query}")["items"]]
        for query in ("colour=red", "colour!=red,colour", "colour in (red,blue)", "!colour,colour=red")
    }
    assert list(found.values()) == [["one"], ["two"], ["one", "two"], []]


def test_watch_streams_changes(cluster, namespace, kubectl):
    """A watch starts with the existing objects and continues with each change."""
    kubectl("create", "configmap", "one")
    watch = cluster.start(
        "-n", namespace, "get", "configmap", "one", "--watch", "--output-watch-events", "--output=json"
    )
    with watch:
        first = watch.stdout.readline()
        kubectl("label", "configmap", "one", "a=1")
        kubectl("delete", "configmap", "one")
        seen, text = [], first
        while "DELETED" not in seen:
            text += watch.stdout.readline()
            seen = [
                line.split('"')[3] for line in text.splitlines() if line.startswith('    "type"') or '"type":' in line
            ]
        watch.kill()
    assert [seen[0], seen[-1]] == ["ADDED", "DELETED"] and "MODIFIED" in seen
