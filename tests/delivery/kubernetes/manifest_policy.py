"""Rules for manifests beyond being valid: each takes all objects of an environment and returns the breaches."""

from collections.abc import Iterator
from itertools import chain

import manifest_pod_rules as pod_rules
from manifest_objects import of, pods, selects, servers

from delivery.targets.kubernetes.manifests import APP, TRACK

PORT = 8000


def budget_lets_a_node_be_drained(objects: list[dict]) -> Iterator[str]:
    """At least one pod may always be evicted, even at the minimum; and some budget covers every pod."""
    budgets = of(objects, "PodDisruptionBudget")
    fewest = min((item["spec"]["minReplicas"] for item in of(objects, "HorizontalPodAutoscaler")), default=1)
    for budget in budgets:
        spec, name = budget["spec"], budget["metadata"]["name"]
        stay = spec.get("minAvailable", 0)
        if spec.get("maxUnavailable", 1) in (0, "0%") or not isinstance(stay, int) or stay >= fewest:
            yield f"{name}: no pod may go when there are {fewest}"
    for name, labels, _ in servers(objects):
        if sum(selects(budget["spec"]["selector"], labels) for budget in budgets) != 1:
            yield f"{name}: not covered by one budget"


def autoscaler_owns_the_number(objects: list[dict]) -> Iterator[str]:
    """Its target exists, and no manifest resets the number at each apply."""
    scalers = of(objects, "HorizontalPodAutoscaler")
    if len(scalers) != 1:
        yield f"{len(scalers)} autoscalers"
    for scaler in scalers:
        wanted, spec = scaler["spec"]["scaleTargetRef"], scaler["spec"]
        target = [item for item in objects if _reference(item) == wanted]
        if not target:
            yield f"{scaler['metadata']['name']}: its target {wanted['kind']} {wanted['name']} is not there"
        if any("replicas" in item["spec"] for item in target):
            yield f"{wanted['kind']} {wanted['name']}: sets replicas"
        if not 1 <= spec["minReplicas"] <= spec["maxReplicas"]:
            yield f"{scaler['metadata']['name']}: its range is empty"
        if not spec.get("behavior", {}).get("scaleDown", {}).get("stabilizationWindowSeconds"):
            yield f"{scaler['metadata']['name']}: scales down at once"
    rollouts = of(objects, "Rollout")
    if rollouts and any(scaler["spec"]["scaleTargetRef"]["kind"] != "Rollout" for scaler in scalers):
        yield "the Rollout owns the pods, but something else is scaled"


def _reference(item: dict) -> dict:
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "name": item["metadata"]["name"]}


def services_reach_their_pods(objects: list[dict]) -> Iterator[str]:
    """A Service with a track label reaches only pods of that track, one without reaches all; the port is one they open."""
    for service in of(objects, "Service"):
        name, selector = service["metadata"]["name"], service["spec"]["selector"]
        reached = [owner for owner, labels, _ in pods(objects) if selects({"matchLabels": selector}, labels)]
        track = service["metadata"]["labels"].get(TRACK)
        wanted = [owner for owner, labels, _ in servers(objects) if track in (None, labels.get(TRACK))]
        if reached != wanted or not reached:
            yield f"Service {name}: reaches {reached}, not {wanted}"
        for port in service["spec"]["ports"]:
            if any(port["targetPort"] not in opened for opened in _ports(objects)):
                yield f"Service {name}: {port['targetPort']} is no port of the pods"
    if not any(service["metadata"]["name"] == "model" for service in of(objects, "Service")):
        yield "no Service model"


def _ports(objects: list[dict]) -> list[set]:
    """Names and numbers of the ports of each container."""
    return [
        {value for port in container.get("ports", []) for value in (port["name"], port["containerPort"])}
        for _, _, spec in servers(objects)
        for container in spec["containers"]
    ]


def traffic_is_refused_by_default(objects: list[dict]) -> Iterator[str]:
    """Each pod has a policy for both directions; its port is open to some clients, not to all, and nothing else is open."""
    policies, served = of(objects, "NetworkPolicy"), {name for name, _, _ in servers(objects)}
    for name, labels, _ in pods(objects):
        own = [policy["spec"] for policy in policies if selects(policy["spec"]["podSelector"], labels)]
        if {"Ingress", "Egress"} - set(chain.from_iterable(spec["policyTypes"] for spec in own)):
            yield f"{name}: no policy refuses traffic in both directions"
        if name in served and not any(_lets_in(rule) for spec in own for rule in spec.get("ingress", [])):
            yield f"{name}: no policy lets callers in on {PORT}"
    for policy in policies:
        rules = chain(policy["spec"].get("ingress", []), policy["spec"].get("egress", []))
        if any(not rule.get("ports") for rule in rules):
            yield f"{policy['metadata']['name']}: opens every port"
        if any(not rule.get("from") for rule in policy["spec"].get("ingress", [])):
            yield f"{policy['metadata']['name']}: lets the whole world in"


def _lets_in(rule: dict) -> bool:
    return any(port.get("port") == PORT for port in rule.get("ports", [])) and bool(rule.get("from"))


def tracks_are_disjoint(objects: list[dict]) -> Iterator[str]:
    """Each Deployment selects only its own pods, and their label names their track."""
    deployments = of(objects, "Deployment")
    for owner in deployments:
        for name, labels, _ in pods(objects):
            if selects(owner["spec"]["selector"], labels) != (name == owner["metadata"]["name"]):
                yield f"{owner['metadata']['name']}: selector and labels of {name}"
    tracks = sorted(str(labels.get(TRACK)) for _, labels, _ in servers(objects))
    if tracks != ["canary", "stable"][-len(tracks) :]:
        yield f"the tracks are {tracks}"


def a_release_never_lacks_pods(objects: list[dict]) -> Iterator[str]:
    """No pod is removed before another is there, and a release that does not start is reported after a while."""
    strategies = [(item, item["spec"]["strategy"].get("rollingUpdate", {})) for item in of(objects, "Deployment")]
    strategies += [(item, item["spec"]["strategy"]["canary"]) for item in of(objects, "Rollout")]
    for item, strategy in strategies:
        if strategy.get("maxUnavailable") != 0 or strategy.get("maxSurge") in (0, None):
            yield f"{item['kind']} {item['metadata']['name']}: takes pods away first"
        if not item["spec"].get("progressDeadlineSeconds") or not item["spec"].get("minReadySeconds"):
            yield f"{item['kind']} {item['metadata']['name']}: waits for ever, or not at all"


def everything_is_ours_and_in_one_place(objects: list[dict]) -> Iterator[str]:
    """One namespace, and one label that finds everything."""
    places = {item["metadata"].get("namespace") for item in objects}
    if len(places) != 1 or None in places:
        yield f"namespaces: {sorted(map(str, places))}"
    for item in objects:
        if not selects({"matchLabels": APP}, item["metadata"].get("labels", {})):
            yield f"{item['kind']} {item['metadata']['name']}: lacks the label"
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    yield from (f"{kind} {name}: is there twice" for kind, name in {pair for pair in names if names.count(pair) > 1})


def what_is_named_exists(objects: list[dict]) -> Iterator[str]:
    """Backends, templates, workloads and mounted volumes refer to existing objects."""
    services = {
        item["metadata"]["name"]: {port["port"] for port in item["spec"]["ports"]} for item in of(objects, "Service")
    }
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    for name, port in _backends(objects):
        if port not in services.get(name, {}) and port not in _port_names(objects, name):
            yield f"backend {name}:{port} is not there"
    for rollout in of(objects, "Rollout"):
        workload = rollout["spec"]["workloadRef"]
        named = [(workload["kind"], workload["name"])]
        analyses = [step["analysis"] for step in rollout["spec"]["strategy"]["canary"]["steps"] if "analysis" in step]
        named += [("AnalysisTemplate", each["templateName"]) for analysis in analyses for each in analysis["templates"]]
        yield from (f"{kind} {name} is not there" for kind, name in named if (kind, name) not in names)
        if not any(selects(rollout["spec"]["selector"], labels) for _, labels, _ in pods(objects)):
            yield "the Rollout selects no pods of its template"
    for name, _, spec in pods(objects):
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        mounts = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", [])}
        if volumes != mounts:
            yield f"{name}: volumes and mounts differ: {sorted(volumes ^ mounts)}"


def _backends(objects: list[dict]) -> Iterator[tuple[str, str | int]]:
    for item in of(objects, "Ingress"):
        for path in (path for rule in item["spec"]["rules"] for path in rule["http"]["paths"]):
            service = path["backend"]["service"]
            yield service["name"], service["port"].get("name") or service["port"].get("number")
    for item in of(objects, "HTTPRoute"):
        here = (each for rule in item["spec"]["rules"] for each in rule["backendRefs"] if "namespace" not in each)
        yield from ((each["name"], each["port"]) for each in here)


def _port_names(objects: list[dict], service: str) -> set[str]:
    named = [item for item in of(objects, "Service") if item["metadata"]["name"] == service]
    return {port["name"] for item in named for port in item["spec"]["ports"]}


def each_pod_is_measured_once(objects: list[dict]) -> Iterator[str]:
    """Two monitors for the same pods would count each request twice."""
    for monitor in of(objects, "ServiceMonitor"):
        found = [
            item for item in of(objects, "Service") if selects(monitor["spec"]["selector"], item["metadata"]["labels"])
        ]
        if [item["metadata"]["name"] for item in found] != ["model"]:
            yield f"ServiceMonitor {monitor['metadata']['name']}: picks {len(found)} Services"
        ports = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
        if any(not ports <= _port_names(objects, item["metadata"]["name"]) for item in found):
            yield f"ServiceMonitor {monitor['metadata']['name']}: asks a port that no Service has"


def the_public_name_has_a_certificate(objects: list[dict]) -> Iterator[str]:
    """Each host of an Ingress is in its TLS section."""
    for item in of(objects, "Ingress"):
        covered = {host for entry in item["spec"].get("tls", []) for host in entry["hosts"]}
        yield from (f"{rule['host']}: without TLS" for rule in item["spec"]["rules"] if rule["host"] not in covered)


RULES = (
    pod_rules.image_is_named_by_digest,
    pod_rules.nobody_runs_as_root,
    pod_rules.containers_have_no_privileges,
    pod_rules.pods_get_no_token,
    pod_rules.probes_ask_the_right_endpoint,
    pod_rules.requests_and_limits_are_set,
    budget_lets_a_node_be_drained,
    autoscaler_owns_the_number,
    services_reach_their_pods,
    traffic_is_refused_by_default,
    pod_rules.pods_spread_out,
    tracks_are_disjoint,
    a_release_never_lacks_pods,
    pod_rules.stopping_leaves_time_for_open_requests,
    pod_rules.jobs_end,
    pod_rules.no_secret_stands_in_a_manifest,
    everything_is_ours_and_in_one_place,
    what_is_named_exists,
    each_pod_is_measured_once,
    the_public_name_has_a_certificate,
)


def faults(objects: list[dict]) -> list[str]:
    """The breaches of all rules."""
    return [f"{rule.__name__}: {fault}" for rule in RULES for fault in rule(objects)]
