"""The double of a cluster answers the real kubectl as a cluster does, as far as objects go; the same tests run against a real one."""

import json

import yaml

from tests.delivery.kubernetes.cluster_objects import config, deployment


def test_it_says_its_version_and_its_resources(cluster):
    """kubectl's discovery finds the server's version and the kinds that we deploy."""
    assert "serverVersion" in cluster.json("version")
    names = cluster.kubectl("api-resources", "--output=name").split()
    assert {"pods", "deployments.apps", "horizontalpodautoscalers.autoscaling", "leases.coordination.k8s.io"} <= {
        *names
    }


def test_an_object_is_created_once(kubectl, refused):
    """Creating an object that is there is refused."""
    kubectl("create", "--filename=-", stdin=yaml.safe_dump(config(a="1")))
    assert "(AlreadyExists)" in (said := refused("create", "--filename=-", stdin=yaml.safe_dump(config(a="2"))))
    assert 'configmaps "settings" already exists' in said


def test_a_write_from_an_older_state_is_refused(kubectl, get, refused):
    """A replace that carries the resourceVersion of an older state is a conflict, and changes nothing."""
    kubectl("create", "configmap", "settings", "--from-literal=a=1")
    old = get("configmap", "settings")
    kubectl("patch", "configmap", "settings", "--patch", '{"data": {"a": "2"}}')
    old["data"]["a"] = "3"
    said = refused("replace", "--filename=-", stdin=json.dumps(old))
    assert "(Conflict)" in said and "the object has been modified" in said
    assert get("configmap", "settings")["data"] == {"a": "2"}


def test_apply_removes_what_its_manager_names_no_more(apply, get):
    """A field that a manager applied and then leaves out is gone."""
    apply(config(a="1", b="2"))
    apply(config(b="3"))
    assert get("configmap", "settings")["data"] == {"b": "3"}


def test_apply_leaves_the_fields_of_others(apply, kubectl, get):
    """What another manager wrote stays when a manager applies what it wants itself."""
    apply(config(a="1"))
    kubectl("label", "configmap", "settings", "colour=red")
    apply(config(b="1"), manager="other")
    apply(config(c="1"))
    found = get("configmap", "settings")
    assert (found["data"], found["metadata"]["labels"]) == ({"b": "1", "c": "1"}, {"colour": "red"})


def test_a_field_of_two_managers_stays_until_both_leave_it(apply, get):
    """What two managers apply with one value goes when the second of them names it no more."""
    apply(config(a="1"), manager="first")
    apply(config(a="1"), manager="second", force=False)
    apply(config(), manager="first")
    assert get("configmap", "settings").get("data") == {"a": "1"}
    apply(config(), manager="second")
    assert not get("configmap", "settings").get("data")


def test_apply_refuses_to_take_a_field_without_force(apply, refused, get):
    """A field of another manager is taken by force only; the refusal names manager and field."""
    apply(config(a="1"), manager="first")
    options = ["--server-side", "--field-manager=second", "--filename=-"]
    said = refused("apply", *options, stdin=yaml.safe_dump(config(a="2")))
    assert 'conflict with "first" using v1: .data.a' in said
    apply(config(a="2"), manager="second")
    apply(config(), manager="first")
    assert get("configmap", "settings")["data"] == {"a": "2"}


def test_apply_merges_lists_by_their_keys(apply, get):
    """Containers, environment and ports are merged by name, so that one manager's items survive another's apply."""
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


def test_replicas_that_the_manifest_names_no_more_fall_to_their_default(apply, get):
    """Whoever stops naming the replicas that it applied gets the default, 1; what another set stays."""
    wanted = deployment("r/a@sha256:" + "0" * 64, 0)
    apply(wanted)
    del wanted["spec"]["replicas"]
    apply(wanted)
    assert get("deployment", "model")["spec"]["replicas"] == 1


def test_unknown_fields_are_refused(apply, refused, cluster, namespace):
    """A field that Kubernetes does not know is refused by name, however it is written."""
    wrong = deployment("r/a@sha256:" + "0" * 64, 0)
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    said = refused("create", "--filename=-", stdin=yaml.safe_dump(wrong))
    assert 'unknown field "spec.template.spec.containers[0].readinessProb"' in said
    assert "readinessProb" in refused("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(wrong))
    assert cluster.json("-n", namespace, "get", "deployments")["items"] == []


def test_a_kind_that_nobody_brought_is_not_known(refused):
    """An object of a kind without its operator is refused, and the kind is named."""
    thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": {}}
    said = refused("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(thing))
    assert 'no matches for kind "Thing" in version "example.com/v1"' in said


def test_values_against_the_rules_are_refused(refused, kubectl):
    """A Deployment whose selector does not fit its template is invalid, and so is a name with capitals."""
    wrong = deployment("r/a@sha256:" + "0" * 64, 0)
    wrong["spec"]["selector"] = {"matchLabels": {"other": "label"}}
    assert (
        "(Invalid)" in (said := refused("create", "--filename=-", stdin=yaml.safe_dump(wrong))) or "is invalid" in said
    )
    assert "selector" in said
    assert "RFC 1123" in refused("create", "--filename=-", stdin=yaml.safe_dump(config("Settings")))


def test_nothing_is_made_in_a_namespace_that_is_not_there(cluster):
    """An object of a missing namespace is refused, and the namespace is named."""
    said = cluster.refused(
        "-n", "nowhere-at-all", "apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(config())
    )
    assert 'namespaces "nowhere-at-all" not found' in said


def test_a_dry_run_writes_nothing(apply, kubectl, get):
    """--dry-run=server answers what would be, and leaves all as it is: what is there, and what is not."""
    apply(config(a="1"))
    options = ["--server-side", "--field-manager=slipway", "--dry-run=server", "--filename=-"]
    said = kubectl("apply", *options, stdin=yaml.safe_dump_all([config(a="2"), config("another")]))
    assert said.count("serverside-applied (server dry run)") == 2
    found = {one["metadata"]["name"]: one.get("data") for one in get("configmaps")["items"]}
    assert found["settings"] == {"a": "1"} and "another" not in found


def test_three_kinds_of_patch(kubectl, get):
    """Merge patches merge maps, JSON patches go by path, strategic ones merge lists by their keys."""
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


def test_apply_from_the_clients_side_works_too(kubectl, get):
    """kubectl's older apply finds its way: what a manifest leaves out is removed."""
    kubectl("apply", "--filename=-", stdin=yaml.safe_dump(config(a="1", b="1")))
    kubectl("apply", "--filename=-", stdin=yaml.safe_dump(config(b="2")))
    assert get("configmap", "settings")["data"] == {"b": "2"}


def test_labels_select(kubectl, get):
    """A selector finds what its labels fit, and nothing else."""
    for name, colour in (("one", "red"), ("two", "blue")):
        kubectl("create", "configmap", name)
        kubectl("label", "configmap", name, f"colour={colour}")
    found = {
        query: [one["metadata"]["name"] for one in get("configmaps", f"--selector={query}")["items"]]
        for query in ("colour=red", "colour!=red,colour", "colour in (red,blue)", "!colour,colour=red")
    }
    assert list(found.values()) == [["one"], ["two"], ["one", "two"], []]


def test_a_watch_tells_what_happens(cluster, namespace, kubectl):
    """A watch begins with what is there and goes on with each change."""
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
