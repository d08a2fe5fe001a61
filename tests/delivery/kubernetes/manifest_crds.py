"""Schemas of the extensions that the components use, limited to the fields used here.

An unknown field is either misspelt or new; look a new one up in its project's documentation before you add it.
"""

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
DURATION = {"type": "string", "pattern": r"^([0-9]+(h|m|s))+$"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
PORT_NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
SHARE = {"anyOf": [COUNT, {"type": "string", "pattern": "^[0-9]+%$"}]}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def table(required: str = "", **fields: dict) -> dict:
    """A map with exactly these fields; those in `required` must be present."""
    properties = {key.rstrip("_"): value for key, value in fields.items()}
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


def several(item: dict, most: int = 64) -> dict:
    """A list with at least one item."""
    return {"type": "array", "items": item, "minItems": 1, "maxItems": most}


def crd(api: str, kind: str, spec: dict) -> dict:
    """A whole object with this spec."""
    metadata = table("name", name=NAME, namespace=NAME, labels=TEXTS, annotations=TEXTS)
    return table(
        "apiVersion kind metadata spec", apiVersion={"const": api}, kind={"const": kind}, metadata=metadata, spec=spec
    )


EXPRESSION = table("key operator", key=TEXT, operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]})
SELECTOR = table(matchLabels=TEXTS, matchExpressions=several(EXPRESSION))

BACKEND = table(
    "name port",
    name=PORT_NAME,
    namespace=PORT_NAME,
    port=PORT,
    weight={"type": "integer", "minimum": 0, "maximum": 1_000_000},
)
HEADER = table("name value", name=TEXT, value=TEXT)
MATCH = table("headers", headers=several(HEADER, 16))
HTTP_ROUTE = table(
    "parentRefs rules",
    hostnames=several(NAME, 16),
    parentRefs=several(table("name", name=NAME, namespace=PORT_NAME), 32),
    rules=several(table("backendRefs", matches=several(MATCH), backendRefs=several(BACKEND, 16)), 16),
)

FROM = table("group kind namespace", group={"type": "string"}, kind=TEXT, namespace=PORT_NAME)
TO = table("group kind", group={"type": "string"}, kind=TEXT, name=PORT_NAME)
REFERENCE_GRANT = table("from to", from_=several(FROM, 16), to=several(TO, 16))

VALUE_FROM = {
    "oneOf": [
        table("podTemplateHashValue", podTemplateHashValue={"enum": ["Stable", "Latest"]}),
        table("fieldRef", fieldRef=table("fieldPath", fieldPath={"type": "string", "pattern": r"^metadata\."})),
    ]
}
ARGUMENT = table("name", name=TEXT, value=TEXT, valueFrom=VALUE_FROM)
STEP_ANALYSIS = table("templates", templates=several(table("templateName", templateName=NAME)), args=several(ARGUMENT))
STEP = {
    "oneOf": [
        table("setWeight", setWeight={"type": "integer", "minimum": 0, "maximum": 100}),
        table("analysis", analysis=STEP_ANALYSIS),
    ]
}
WORKLOAD = table(
    "apiVersion kind name",
    apiVersion={"const": "apps/v1"},
    kind={"const": "Deployment"},
    name=NAME,
    scaleDown={"enum": ["never", "onsuccess", "progressively"]},
)
ROLLOUT = table(
    "workloadRef selector strategy",
    workloadRef=WORKLOAD,
    selector=SELECTOR,
    minReadySeconds=COUNT,
    progressDeadlineSeconds=COUNT,
    progressDeadlineAbort={"type": "boolean"},
    revisionHistoryLimit=COUNT,
    strategy=table("canary", canary=table("steps", maxSurge=SHARE, maxUnavailable=SHARE, steps=several(STEP))),
)

PROMETHEUS = table("address query", address={"type": "string", "pattern": "^https?://"}, query=TEXT)
METRIC = table(
    "name provider",
    name=TEXT,
    interval=DURATION,
    count=COUNT,
    failureLimit=COUNT,
    inconclusiveLimit=COUNT,
    successCondition=TEXT,
    failureCondition=TEXT,
    provider=table("prometheus", prometheus=PROMETHEUS),
)
ANALYSIS = table("metrics", args=several(ARGUMENT), metrics=several(METRIC))

AUTHORIZATION = table("credentials", credentials=table("name key", name=NAME, key=TEXT))
ENDPOINT = table(
    "port",
    port=PORT_NAME,
    path={"type": "string", "pattern": "^/"},
    interval=DURATION,
    authorization=AUTHORIZATION,
)
SERVICE_MONITOR = table(
    "selector endpoints", selector=SELECTOR, endpoints=several(ENDPOINT), podTargetLabels=several(TEXT)
)

STORE = table("name", kind={"enum": ["SecretStore", "ClusterSecretStore"]}, name=NAME)
EXTERNAL_SECRET = table(
    "secretStoreRef target data",
    refreshInterval=DURATION,
    secretStoreRef=STORE,
    target=table("name", name=NAME, creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]}),
    data=several(table("secretKey remoteRef", secretKey=TEXT, remoteRef=table("key", key=TEXT))),
)

CRDS = {
    "HTTPRoute": crd("gateway.networking.k8s.io/v1", "HTTPRoute", HTTP_ROUTE),
    "ReferenceGrant": crd("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", REFERENCE_GRANT),
    "Rollout": crd("argoproj.io/v1alpha1", "Rollout", ROLLOUT),
    "AnalysisTemplate": crd("argoproj.io/v1alpha1", "AnalysisTemplate", ANALYSIS),
    "ServiceMonitor": crd("monitoring.coreos.com/v1", "ServiceMonitor", SERVICE_MONITOR),
    "ExternalSecret": crd("external-secrets.io/v1", "ExternalSecret", EXTERNAL_SECRET),
}
