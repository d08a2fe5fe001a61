"""The resources that the double supports, and the discovery API for kubectl."""

from dataclasses import dataclass
from typing import Any

from cluster_status import full_name

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


@dataclass(frozen=True)
class Resource:
    """One kind of object and its place in the API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS

    @property
    def api_version(self) -> str:
        """The apiVersion of an object."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """The resource's name in messages."""
        return full_name(self.plural, self.group)


REVIEW = ("create",)
PODS = Resource("", "v1", "pods", "Pod", short=("po",), subresources=("status", "log", "proxy"))
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False, ("ns",), ("status", "finalize"))
SERVICES = Resource("", "v1", "services", "Service", short=("svc",), subresources=("status", "proxy"))
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints", short=("ep",))
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", short=("cm",))
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", short=("sa",))
EVENTS = Resource("", "v1", "events", "Event", short=("ev",))
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", True, ("deploy",), ("status", "scale"))
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet", True, ("rs",), ("status", "scale"))
AUTOSCALERS = Resource(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True, ("hpa",), ("status",)
)
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", subresources=("status",))

RESOURCES = (
    NAMESPACES,
    PODS,
    SERVICES,
    ENDPOINTS,
    CONFIG_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
    EVENTS,
    DEPLOYMENTS,
    REPLICA_SETS,
    AUTOSCALERS,
    ROUTES,
    Resource("gateway.networking.k8s.io", "v1beta1", "referencegrants", "ReferenceGrant"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, ("pdb",), ("status",)),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, ("netpol",)),
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress", True, ("ing",), ("status",)),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("batch", "v1", "cronjobs", "CronJob", True, ("cj",), ("status",)),
    Resource("argoproj.io", "v1alpha1", "rollouts", "Rollout", True, ("ro",), ("status",)),
    Resource("argoproj.io", "v1alpha1", "analysistemplates", "AnalysisTemplate", True, ("at",)),
    Resource("external-secrets.io", "v1", "externalsecrets", "ExternalSecret", True, ("es",), ("status",)),
    Resource("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor", True, ("smon",)),
    Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False, verbs=REVIEW),
    Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False, verbs=REVIEW),
    Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False, verbs=REVIEW),
)
IN_ALL = (PODS, SERVICES, DEPLOYMENTS, REPLICA_SETS, AUTOSCALERS)  # what `kubectl get all` shows
GROUPS = sorted({(resource.group, resource.version) for resource in RESOURCES})
VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64", "goVersion": "go1.23"}


def find(group: str, version: str, plural: str) -> Resource | None:
    """The resource at this place in the API, or None."""
    wanted = (group, version, plural)
    return next((r for r in RESOURCES if (r.group, r.version, r.plural) == wanted), None)


def discovery(path: str) -> dict[str, Any] | None:
    """The response to a discovery path, or None for other paths."""
    match path.strip("/").split("/"):
        case ["version"]:
            return VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(group, version) for group, version in GROUPS if group]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["api", version]:
            return _resource_list("", version)
        case ["apis", group]:
            return next((_group(name, version) for name, version in GROUPS if name == group), None)
        case ["apis", group, version]:
            return _resource_list(group, version)
        case ["openapi", "v3"]:
            return {
                "paths": {_place(*one): {"serverRelativeURL": f"/openapi/v3/{_place(*one)}?hash=1"} for one in GROUPS}
            }
        case ["openapi", "v3", *place]:
            return next((_openapi(*one) for one in GROUPS if _place(*one) == "/".join(place)), None)
    return None


def _place(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _group(group: str, version: str) -> dict[str, Any]:
    known = {"groupVersion": f"{group}/{version}", "version": version}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": [known], "preferredVersion": known}


def _resource_list(group: str, version: str) -> dict[str, Any] | None:
    if (group, version) not in GROUPS:
        return None
    listed = []
    for resource in RESOURCES:
        if (resource.group, resource.version) == (group, version):
            listed += [_listed(resource), *(_sublisted(resource, sub) for sub in resource.subresources)]
    place = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": place, "resources": listed}


def _listed(resource: Resource) -> dict[str, Any]:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short),
        "categories": ["all"] if resource in IN_ALL else [],
    }


def _sublisted(resource: Resource, sub: str) -> dict[str, Any]:
    listed = {"name": f"{resource.plural}/{sub}", "singularName": "", "namespaced": resource.namespaced}
    scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    kind = scale if sub == "scale" else {"kind": resource.kind}
    return listed | kind | {"verbs": ["get"] if sub == "log" else ["get", "patch", "update"]}


def _openapi(group: str, version: str) -> dict[str, Any]:
    """The part of the schema that kubectl needs: that this server validates fields itself."""
    paths = {}
    for resource in RESOURCES:
        if (resource.group, resource.version) == (group, version) and resource.verbs == VERBS:
            scope = "/namespaces/{namespace}" if resource.namespaced else ""
            paths[f"/{_place(group, version)}{scope}/{resource.plural}/{{name}}"] = {"patch": _patch(resource)}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.32.0"}, "paths": paths}


def _patch(resource: Resource) -> dict[str, Any]:
    names = ("dryRun", "fieldManager", "fieldValidation", "force")
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    return {
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
        "requestBody": {"content": {patch: {} for patch in PATCHES}},
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": kind,
    }
