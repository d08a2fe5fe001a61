"""The API over HTTP: authentication, routing, responses."""

import json
import time
from pathlib import Path

from cluster_access import User, check, user_of
from cluster_ask import Ask, place
from cluster_proxy import proxied
from cluster_resources import discovery
from cluster_reviews import review
from cluster_scale import scale_of, write_scale
from cluster_status import ApiError, no_such_resource
from cluster_store import Object, Store
from cluster_tables import as_table
from cluster_watch import watch
from cluster_writes import chosen, create, delete, delete_all, patch, replace
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

# An empty document: kubectl looks into it only for kinds that version 3 does not have.
OPENAPI_2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class Api:
    """The ASGI application."""

    def __init__(self, store: Store, node, requests: Path):
        self._store = store
        self._node = node
        self._requests = requests

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        user = None
        try:
            user = user_of(request.headers.get("authorization", ""))
            answer = await self._answer(request, user)
        except ApiError as error:
            answer = JSONResponse(error.body(), error.code)
        self._note(request, user, answer.status_code)
        await answer(scope, receive, send)

    def _note(self, request: Request, user: User | None, status: int) -> None:
        """Append a line to the log of requests."""
        line: Object = {"time": time.time(), "user": user.name if user else None, "method": request.method}
        line |= {"path": request.url.path, "query": dict(request.query_params), "status": status}
        with self._requests.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    async def _answer(self, request: Request, user: User) -> Response:
        if request.method == "GET" and (told := discovery(request.url.path)):
            return JSONResponse(told)
        if request.url.path == "/openapi/v2":
            return Response(b"", media_type=OPENAPI_2)
        if request.url.path in ("/healthz", "/readyz", "/livez"):
            return Response("ok")
        resource, namespace, name, subresource, rest = place(request.url.path)
        ask = Ask(
            method=request.method,
            resource=resource,
            namespace=namespace,
            name=name,
            subresource=subresource,
            rest=rest,
            query=dict(request.query_params),
            content_type=request.headers.get("content-type", ""),
            body=await request.body(),
            user=user,
            agent=request.headers.get("user-agent", ""),
            table="as=Table" in request.headers.get("accept", ""),
        )
        check(user, ask.action)
        if subresource == "proxy":
            return await proxied(self._store, self._node, ask, request)
        if subresource == "log":
            return self._node.logs(ask)
        return _table(ask, self._object(ask))

    def _object(self, ask: Ask) -> Response:
        if ask.resource.verbs == ("create",):
            return JSONResponse(review(ask), 201)
        if ask.subresource == "scale":
            return JSONResponse(self._scale(ask))
        if ask.method in ("GET", "HEAD"):
            return self._read(ask)
        return self._write(ask)

    def _scale(self, ask: Ask) -> Object:
        if ask.method == "GET":
            return scale_of(self._store.get(ask.resource, ask.namespace, ask.name))
        return write_scale(self._store, ask)

    def _read(self, ask: Ask) -> Response:
        if ask.name:
            return JSONResponse(self._store.get(ask.resource, ask.namespace, ask.name))
        if ask.verb == "watch":
            return StreamingResponse(watch(self._store, ask), media_type="application/json")
        meta = {"resourceVersion": str(self._store.version)}
        listed = {"kind": f"{ask.resource.kind}List", "apiVersion": ask.resource.api_version, "metadata": meta}
        return JSONResponse(listed | {"items": chosen(self._store, ask)})

    def _write(self, ask: Ask) -> Response:
        match ask.method:
            case "POST" if not ask.name:
                return JSONResponse(create(self._store, ask), 201)
            case "PUT":
                return JSONResponse(replace(self._store, ask))
            case "PATCH":
                value, new = patch(self._store, ask)
                return JSONResponse(value, 201 if new else 200)
            case "DELETE" if ask.name:
                return JSONResponse(delete(self._store, ask))
            case "DELETE":
                delete_all(self._store, ask)
                return JSONResponse({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        raise no_such_resource()


def _table(ask: Ask, answer: Response) -> Response:
    """The response as the table that kubectl prints, if it asks for one."""
    if not ask.table or ask.method != "GET" or not isinstance(answer, JSONResponse):
        return answer
    table = as_table(json.loads(bytes(answer.body)))
    return JSONResponse(table) if table else answer
