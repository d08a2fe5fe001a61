"""The API server's proxy to a pod, or to a service's ready pods in turn."""

from collections import Counter

import urllib3
from cluster_ask import Ask
from cluster_resources import PODS, SERVICES
from cluster_selectors import matches
from cluster_status import no_such_resource, unavailable
from cluster_store import Object, Store
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

TURNS: Counter[str] = Counter()
DROPPED = {
    "host",
    "connection",
    "authorization",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "keep-alive",
}
SECONDS = 30  # for a pod to respond


async def proxied(store: Store, node, ask: Ask, request: Request) -> Response:
    """Forward a request; raises ApiError 503 when no pod is ready."""
    name, _, port = ask.name.removeprefix("http:").partition(":")
    if ask.resource == PODS:
        pod = store.get(PODS, ask.namespace, name)
        wanted = port or str(pod["spec"]["containers"][0].get("ports", [{}])[0].get("containerPort", 80))
    else:
        pod, wanted = _endpoint(store, store.get(SERVICES, ask.namespace, name), port)
    address = node.address(pod, wanted)
    if address is None:
        where = f"{pod['status'].get('podIP', pod['metadata']['name'])}:{wanted}"
        raise unavailable(f"error trying to reach service: dial tcp {where}: connect: connection refused")
    query = f"?{request.url.query}" if request.url.query else ""
    headers = {key: value for key, value in request.headers.items() if key not in DROPPED}
    return await run_in_threadpool(_pass, ask.method, f"http://{address}/{ask.rest}{query}", headers, ask.body)


def _pass(method: str, url: str, headers: dict[str, str], body: bytes) -> Response:
    pool = urllib3.PoolManager(retries=False, timeout=SECONDS)
    try:
        answer = pool.request(method, url, headers=headers | {"Connection": "close"}, body=body or None, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        raise unavailable(f"error trying to reach service: {error}") from error
    kept = {key: value for key, value in answer.headers.items() if key.lower() not in DROPPED}
    return Response(answer.data, answer.status, kept)


def _endpoint(store: Store, service: Object, port: str) -> tuple[Object, str]:
    """The next pod, and the port that the service leads to."""
    meta, ports = service["metadata"], service["spec"].get("ports", [])
    chosen = next((one for one in ports if port in ("", str(one["port"]), one.get("name"))), None)
    if chosen is None:
        raise (
            no_such_resource()
            if not ports
            else unavailable(f'no service port "{port}" found for service "{meta["name"]}"')
        )
    pods = ready_pods(store, service)
    if not pods:
        raise unavailable(f'no endpoints available for service "{meta["name"]}"')
    TURNS[meta["uid"]] += 1
    return pods[TURNS[meta["uid"]] % len(pods)], str(chosen["targetPort"])


def ready_pods(store: Store, service: Object) -> list[Object]:
    """The pods behind a service: ready, and not being deleted."""
    selector = service["spec"].get("selector")
    pods = store.all(PODS, service["metadata"]["namespace"]) if selector else []
    return [
        pod for pod in pods if is_ready(pod) and matches({"matchLabels": selector}, pod["metadata"].get("labels", {}))
    ]


def is_ready(pod: Object) -> bool:
    """Whether a pod accepts requests."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
