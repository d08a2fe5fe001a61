"""Each rule for manifests finds its breach: one breach at a time, in otherwise valid objects."""

import copy
from typing import Any

import manifest_pod_rules as pod_rules
import manifest_policy as policy
import pytest
from manifest_schemas import NEWEST, OLDEST, schema_faults
from manifest_trees import COMPONENTS, needs_kubectl, rendered

from delivery.targets.kubernetes.manifests import canary_of, find

pytestmark = needs_kubectl
POD = "spec.template.spec"
JOB = "spec.jobTemplate.spec.template.spec"
CONTAINER = f"{POD}.containers.0"
GONE = object()  # instead of a value: the field is removed


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> list[dict]:
    """Production with every component, and its canary."""
    objects = rendered(tmp_path_factory.mktemp("sound"), *COMPONENTS)
    return objects + canary_of(objects, 1)


def changed(objects: list[dict], where: str, value: Any) -> list[dict]:
    """The objects with one field changed or removed; `where` is KIND/NAME:path, or KIND/NAME for the whole object."""
    objects = copy.deepcopy(objects)
    kind, name = where.split(":")[0].split("/")
    item = find(objects, kind, name)
    assert item is not None, where
    if ":" not in where:
        return [each for each in objects if each is not item]
    *path, last = [int(key) if key.isdigit() else key.replace("~", ".") for key in where.split(":")[1].split(".")]
    for key in path:
        item = item[key]
    if value is GONE:
        del item[last]
    else:
        item[last] = value
    return objects


BREACHES = [
    (pod_rules.image_is_named_by_digest, f"Deployment/model:{CONTAINER}.image", "registry.example.com/team/model:v1"),
    (pod_rules.image_is_named_by_digest, f"Deployment/model:{CONTAINER}.image", "slipway/model"),
    (pod_rules.nobody_runs_as_root, f"Deployment/model:{POD}.securityContext.runAsUser", 0),
    (pod_rules.nobody_runs_as_root, f"Deployment/model:{POD}.securityContext.runAsNonRoot", GONE),
    (pod_rules.nobody_runs_as_root, f"Deployment/model:{POD}.securityContext.seccompProfile", GONE),
    (pod_rules.nobody_runs_as_root, f"Deployment/model:{CONTAINER}.securityContext.runAsUser", 0),
    (pod_rules.containers_have_no_privileges, f"Deployment/model:{CONTAINER}.securityContext", {}),
    (
        pod_rules.containers_have_no_privileges,
        f"Deployment/model:{CONTAINER}.securityContext.allowPrivilegeEscalation",
        True,
    ),
    (pod_rules.containers_have_no_privileges, f"Deployment/model:{CONTAINER}.securityContext.privileged", True),
    (
        pod_rules.containers_have_no_privileges,
        f"Deployment/model:{CONTAINER}.securityContext.readOnlyRootFilesystem",
        False,
    ),
    (pod_rules.containers_have_no_privileges, f"Deployment/model:{CONTAINER}.securityContext.capabilities.drop", []),
    (pod_rules.containers_have_no_privileges, f"Deployment/model:{POD}.hostNetwork", True),
    (pod_rules.containers_have_no_privileges, f"Deployment/model:{POD}.volumes.0.hostPath", {"path": "/"}),
    (pod_rules.pods_get_no_token, f"Deployment/model:{POD}.automountServiceAccountToken", GONE),
    (pod_rules.pods_get_no_token, f"Deployment/model:{POD}.enableServiceLinks", True),
    (pod_rules.pods_get_no_token, f"Deployment/model:{POD}.serviceAccountName", "default"),
    (pod_rules.pods_get_no_token, "ServiceAccount/model:automountServiceAccountToken", True),
    (pod_rules.probes_ask_the_right_endpoint, f"Deployment/model:{CONTAINER}.startupProbe", GONE),
    (pod_rules.probes_ask_the_right_endpoint, f"Deployment/model:{CONTAINER}.readinessProbe.httpGet.path", "/healthz"),
    (pod_rules.probes_ask_the_right_endpoint, f"Deployment/model:{CONTAINER}.livenessProbe.httpGet.path", "/readyz"),
    (pod_rules.requests_and_limits_are_set, f"Deployment/model:{CONTAINER}.resources.requests.cpu", GONE),
    (pod_rules.requests_and_limits_are_set, f"Deployment/model:{CONTAINER}.resources.limits", GONE),
    (
        pod_rules.pods_spread_out,
        f"Deployment/model:{POD}.topologySpreadConstraints.0.labelSelector.matchLabels",
        {"a": "b"},
    ),
    (
        pod_rules.pods_spread_out,
        f"Deployment/model:{POD}.topologySpreadConstraints.1.whenUnsatisfiable",
        "DoNotSchedule",
    ),
    (pod_rules.pods_spread_out, f"Deployment/model:{POD}.topologySpreadConstraints.1", GONE),
    (
        pod_rules.stopping_leaves_time_for_open_requests,
        f"Deployment/model:{POD}.terminationGracePeriodSeconds",
        20,
    ),
    (pod_rules.stopping_leaves_time_for_open_requests, f"Deployment/model:{CONTAINER}.lifecycle", GONE),
    (
        pod_rules.stopping_leaves_time_for_open_requests,
        f"Deployment/model:{CONTAINER}.lifecycle.preStop.sleep.seconds",
        25,
    ),
    (pod_rules.image_is_named_by_digest, f"CronJob/model-monitor:{JOB}.containers.0.image", "team/monitor:v1"),
    (pod_rules.nobody_runs_as_root, f"CronJob/model-monitor:{JOB}.securityContext.runAsUser", 0),
    (pod_rules.pods_get_no_token, f"CronJob/model-monitor:{JOB}.serviceAccountName", "default"),
    (pod_rules.jobs_end, "CronJob/model-monitor:spec.concurrencyPolicy", GONE),
    (pod_rules.jobs_end, "CronJob/model-monitor:spec.startingDeadlineSeconds", GONE),
    (pod_rules.jobs_end, "CronJob/model-monitor:spec.jobTemplate.spec.activeDeadlineSeconds", GONE),
    (pod_rules.jobs_end, "CronJob/model-monitor:spec.jobTemplate.spec.backoffLimit", 6),
    (pod_rules.jobs_end, "CronJob/model-monitor:spec.failedJobsHistoryLimit", 30),
    (
        pod_rules.no_secret_stands_in_a_manifest,
        f"Deployment/model:{CONTAINER}.env.0",
        {"name": "API_KEY", "value": "abc"},
    ),
    (
        pod_rules.no_secret_stands_in_a_manifest,
        f"Deployment/model:{CONTAINER}.env.0",
        {"name": "WHERE", "value": "postgresql://me:secret@db/x"},
    ),
    (pod_rules.no_secret_stands_in_a_manifest, "ServiceAccount/model:kind", "Secret"),
    (policy.budget_lets_a_node_be_drained, "PodDisruptionBudget/model:spec.maxUnavailable", 0),
    (policy.budget_lets_a_node_be_drained, "PodDisruptionBudget/model:spec.minAvailable", 3),
    (policy.budget_lets_a_node_be_drained, "PodDisruptionBudget/model:spec.minAvailable", "50%"),
    (policy.budget_lets_a_node_be_drained, "PodDisruptionBudget/model:spec.selector.matchLabels", {"a": "b"}),
    (policy.budget_lets_a_node_be_drained, "PodDisruptionBudget/model", GONE),
    (policy.autoscaler_owns_the_number, "HorizontalPodAutoscaler/model:spec.scaleTargetRef.name", "other"),
    (policy.autoscaler_owns_the_number, "HorizontalPodAutoscaler/model:spec.minReplicas", 11),
    (policy.autoscaler_owns_the_number, "HorizontalPodAutoscaler/model:spec.behavior", GONE),
    (policy.autoscaler_owns_the_number, "HorizontalPodAutoscaler/model", GONE),
    (policy.autoscaler_owns_the_number, "Rollout/model:spec.replicas", 3),
    (
        policy.autoscaler_owns_the_number,
        "HorizontalPodAutoscaler/model:spec.scaleTargetRef",
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"},
    ),
    (policy.services_reach_their_pods, "Service/model:spec.selector.slipway/track", "stable"),
    (policy.services_reach_their_pods, "Service/model:spec.selector.app~kubernetes~io/name", "other"),
    (policy.services_reach_their_pods, "Service/model-canary:spec.selector.slipway/track", GONE),
    (policy.services_reach_their_pods, "Service/model:spec.ports.0.targetPort", 8080),
    (policy.services_reach_their_pods, "Service/model:spec.ports.0.targetPort", "web"),
    (policy.services_reach_their_pods, "Service/model:metadata.name", "other"),
    (
        policy.services_reach_their_pods,
        "CronJob/model-monitor:spec.jobTemplate.spec.template.metadata.labels.app~kubernetes~io/name",
        "model",
    ),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model", GONE),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model-monitor", GONE),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model-monitor:spec.policyTypes", ["Egress"]),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model:spec.policyTypes", ["Egress"]),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model:spec.podSelector.matchLabels", {"a": "b"}),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model:spec.ingress.0.from", GONE),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model:spec.ingress.0.ports.0.port", 80),
    (policy.traffic_is_refused_by_default, "NetworkPolicy/model:spec.egress.0.ports", GONE),
    (
        policy.tracks_are_disjoint,
        "Deployment/model:spec.selector.matchLabels.slipway/track",
        GONE,
    ),
    (policy.tracks_are_disjoint, "Deployment/model-canary:spec.template.metadata.labels.slipway/track", "stable"),
    (policy.a_release_never_lacks_pods, "Deployment/model:spec.strategy.rollingUpdate.maxUnavailable", 1),
    (policy.a_release_never_lacks_pods, "Deployment/model:spec.progressDeadlineSeconds", GONE),
    (policy.a_release_never_lacks_pods, "Deployment/model:spec.minReadySeconds", GONE),
    (policy.a_release_never_lacks_pods, "Rollout/model:spec.strategy.canary.maxUnavailable", "25%"),
    (policy.everything_is_ours_and_in_one_place, "Service/model:metadata.namespace", "other"),
    (policy.everything_is_ours_and_in_one_place, "ExternalSecret/model-api-keys:metadata.namespace", GONE),
    (policy.everything_is_ours_and_in_one_place, "Ingress/model:metadata.labels", {}),
    (policy.everything_is_ours_and_in_one_place, "Service/model-canary:metadata.name", "model"),
    (policy.what_is_named_exists, "Ingress/model:spec.rules.0.http.paths.0.backend.service.name", "other"),
    (policy.what_is_named_exists, "Ingress/model:spec.rules.0.http.paths.0.backend.service.port.name", "web"),
    (policy.what_is_named_exists, "HTTPRoute/model:spec.rules.0.backendRefs.1.name", "other"),
    (policy.what_is_named_exists, "HTTPRoute/model:spec.rules.0.backendRefs.0.port", 8000),
    (policy.what_is_named_exists, "AnalysisTemplate/model", GONE),
    (policy.what_is_named_exists, "Rollout/model:spec.workloadRef.name", "other"),
    (policy.what_is_named_exists, "Rollout/model:spec.selector.matchLabels", {"a": "b"}),
    (policy.what_is_named_exists, f"Deployment/model:{CONTAINER}.volumeMounts.0.name", "other"),
    (policy.each_pod_is_measured_once, "ServiceMonitor/model:spec.selector.matchExpressions", []),
    (policy.each_pod_is_measured_once, "ServiceMonitor/model:spec.selector.matchLabels", {"a": "b"}),
    (policy.each_pod_is_measured_once, "ServiceMonitor/model:spec.endpoints.0.port", "metrics"),
    (policy.the_public_name_has_a_certificate, "Ingress/model:spec.tls", GONE),
    (policy.the_public_name_has_a_certificate, "Ingress/model:spec.rules.0.host", "other.example.com"),
]


def test_valid_manifests_break_no_rule(sound):
    """The starting point of the breaches below."""
    assert policy.faults(sound) == []


@pytest.mark.parametrize(("rule", "where", "value"), BREACHES, ids=lambda part: getattr(part, "__name__", None))
def test_breach_is_found_by_its_rule(sound, rule, where, value):
    """Each breach is reported by its own rule."""
    assert list(rule(changed(sound, where, value)))


def test_every_rule_has_a_breach():
    """Each rule is known to find something."""
    assert {rule for rule, _, _ in BREACHES} == set(policy.RULES)


INVALID = [
    (f"Deployment/model:{CONTAINER}.readinessProb", {"httpGet": {"path": "/", "port": 1}}, "readinessProb"),
    ("Deployment/model:spec.minReadySeconds", "five", "five"),
    ("HorizontalPodAutoscaler/model:spec.maxReplicas", GONE, "maxReplicas"),
    ("PodDisruptionBudget/model:spec.maxUnavalable", 1, "maxUnavalable"),
    ("HTTPRoute/model:spec.rules.0.backendRefs.0.weight", "10", "weight"),
    ("HTTPRoute/model:spec.hostname", "x", "hostname"),
    ("HTTPRoute/model-by-header:spec.rules.0.matches.0.headers.0.value", GONE, "value"),
    ("ReferenceGrant/model-by-header:spec.to.0.kind", GONE, "kind"),
    ("Rollout/model:spec.strategy.canary.steps.0", {"setWeigth": 10}, "steps"),
    ("Rollout/model:spec.workloadRef.scaleDown", "yes", "scaleDown"),
    ("AnalysisTemplate/model:spec.metrics.0.interval", "a minute", "interval"),
    ("AnalysisTemplate/model:spec.metrics.0.provider.prometheus.address", "prometheus", "address"),
    ("ServiceMonitor/model:spec.endpoints.0.port", 8000, "port"),
    ("ServiceMonitor/model:spec.selector", GONE, "selector"),
    ("ServiceMonitor/model:spec.endpoints.0.authorization.credentials.key", GONE, "key"),
    ("ExternalSecret/model-api-keys:spec.data.0.remoteRef.key", GONE, "key"),
]


@pytest.mark.parametrize(("where", "value", "named"), INVALID, ids=[where for where, _, _ in INVALID])
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_unknown_or_wrongly_typed_field_is_found(sound, where, value, named, version):
    """The schemas, also ours for the extensions, name misspelt, missing and wrongly typed fields."""
    found = [fault for item in changed(sound, where, value) for fault in schema_faults(item, version)]
    assert found and all(named in fault for fault in found)


def test_all_faults_of_an_object_are_named(sound):
    """Two mistakes in one manifest give two lines."""
    spoilt = changed(changed(sound, "Service/model:spec.prots", []), "Service/model:spec.ports.0.port", "eighty")
    assert len([fault for item in spoilt for fault in schema_faults(item, OLDEST)]) == 2
