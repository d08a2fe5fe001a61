"""The fast path: predictions without the framework, whose routing alone costs more than a whole prediction."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from serving import problems
from serving.access.callers import GUEST, Callers
from serving.access.keys import Caller
from serving.config import Config
from serving.experiment.experiment import sources
from serving.experiment.variants import Chosen, Split, Variant
from serving.explanation.explainer import Explainer
from serving.http.headers import Header, by_name, shown_key
from serving.http.origins import PREFLIGHT, Origins
from serving.log.identity import identity
from serving.log.prediction_log import PredictionLog
from serving.log.wire import CHALLENGER, CONTROL, PLAIN
from serving.model.bundle import Bundle
from serving.model.predictor import Answer, NoAnswer, Outputs, Predictor
from serving.model.rows import MANY, Row
from serving.model.unseen import Unseen
from serving.problems import GONE, Problem
from serving.requests.body import LARGEST_BODY, SMALL, Disconnected, ExplanationAsked, limits, receive_body
from serving.requests.decoder import Decoder
from serving.requests.feedback import read_feedback
from serving.requests.request_ids import new_request_id, request_id
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import IN_FLIGHT, Metrics

LARGEST_QUEUE = 50_000_000  # bytes of bodies that are not small and arrive, wait to be read or are being answered
ENCODED = 500  # rows that are written for the log in one go; no other thread runs meanwhile

JSON: Header = (b"content-type", b"application/json")
PROBLEM: Header = (b"content-type", problems.MEDIA_TYPE.encode())
NONE: list[Header] = []
ROLE, TEST = b"slipway-role", b"test"  # the header by which the delivery marks its own requests
ASKED = "asked"  # a key of a scope's state: the ExplanationAsked that the request has come to
REFUSALS = frozenset((400, 413, 415, 422, 429))  # statuses that say what was asked is wrong, or too much
NO_STORE = [(b"cache-control", b"no-store")]

Warnings = tuple[list[int], list[dict[str, Any]]]  # how often each column was unseen, and what the caller is told
Outcome = tuple[int, Header, bytes, list[Header]]  # status, content type, body, more headers
Response = tuple[bytes, int, Header, bytes, list[Header]]  # the same after the request's id


class Call:
    """One request on its way: its id, which its body may replace, who asks, and when it began (`perf_counter`)."""

    __slots__ = ("began", "caller", "headers", "held", "more", "request_id")

    def __init__(self, request_id: str, headers: dict[bytes, bytes]):
        self.began = time.perf_counter()
        self.caller: Caller = GUEST
        self.request_id = request_id
        self.headers = headers
        self.held = 0  # bytes of its body that count as waiting
        self.more = NONE  # headers of its answer beside the usual ones


class FastPath:
    """ASGI application that answers predictions itself and hands every other path on."""

    def __init__(
        self,
        bundle: Bundle,
        predictor: Predictor,
        callers: Callers,
        metrics: Metrics,
        requests: RequestLog,
        config: Config,
        split: Split | None,
        build_framework_app: Callable[["FastPath"], Callable[..., Awaitable[None]]],
    ):
        self.contract, self.release = bundle.contract, bundle.release
        self.explains = bool(bundle.background)
        self.sources = sources(bundle, metrics.carried)
        self.predictor, self.callers, self.metrics, self.requests = predictor, callers, metrics, requests
        self._build_framework_app = build_framework_app
        self.origins = Origins(config)
        self._guarded, self._granting = self.origins.guards, bool(self.origins.allowed)
        self._known_hosts = self.origins.known
        self._decoder = Decoder(bundle.contract)
        self._limits = limits(bundle.contract)
        # Where an experiment runs in the shadow, every answer is one of A.
        shadowed = metrics.carried is not None and split is None
        self._variant = Variant(bundle, predictor, CONTROL if shadowed else PLAIN)
        self._split = split
        self._encode = msgspec.json.Encoder().encode
        self._version = self._encode(bundle.release.version)
        self._thread = ThreadPoolExecutor(1, "batch")
        self._explainer = Explainer()
        self._framework: Callable[..., Awaitable[None]] | None = None
        self._loading = threading.Lock()
        self._waiting = 0  # bytes of bodies that are not small
        self.log: PredictionLog | None = None
        self._answers: dict[str, Callable[[Call, bytes], bytes]] = {
            "/predict": self._predict,
            "/predict/batch": lambda call, raw: self._answer_batch(call, self._run_batch(call, raw)),
            "/invocations": lambda call, raw: self._answer_invocation(call, self._run_invocation(call, raw)),
            "/feedback": self._feedback,
        }
        # What takes long of a body that is not small, and the rest, which counts and must stay on the loop's thread.
        self._aside: dict[str, tuple[Callable[[Call, bytes], Any], Callable[[Call, Any], bytes]]] = {
            "/predict": (self._read_one, self._answer_one),
            "/predict/batch": (self._run_batch, self._answer_batch),
            "/invocations": (self._run_invocation, self._answer_invocation),
        }
        self._checks = {"/healthz": self.alive, "/readyz": self.ready}

    def load_framework(self) -> Callable[..., Awaitable[None]]:
        """Load what answers all other paths, which takes longer than all the rest of a start; safe from any thread."""
        with self._loading:
            if self._framework is None:
                self._framework = self._build_framework_app(self)
            return self._framework

    def alive(self) -> bytes:
        """The body for a liveness check."""
        return b'{"status":"alive"}'

    def ready(self) -> bytes:
        """The body for a readiness check; raises Problem 503 unless the model answers the contract's example row."""
        try:
            self.predictor.example()
        except Exception as error:
            raise Problem(503, f"the model does not answer its example row: {error}") from error
        return b'{"status":"ready","model_version":%b}' % self._version

    def respond(self, path: str, headers: dict[bytes, bytes], raw: bytes, address: str) -> Response:
        """The response to a POST of one of POSTS, with its headers by name.

        Whatever was sent, it raises nothing but ExplanationAsked: then the answer is made by a call of this application whose scope has
        that in its state.
        """
        call = _call(headers)
        self.metrics.own[IN_FLIGHT] += 1
        try:
            self._admit(call, address, len(raw))
            status, kind, answer, more = 200, JSON, self._answers[path](call, raw), call.more
        except ExplanationAsked as asked:
            self.metrics.own[IN_FLIGHT] -= 1
            asked.call = call
            raise
        except Exception as error:
            status, kind, answer, more = self._refusal(call, error)
        self._done(path, "POST", call, status)
        if self._granting:
            more = [*more, *self.origins.grants(headers)]
        return call.request_id.encode(), status, kind, answer, more

    def abandoned(self, path: str, headers: dict[bytes, bytes]) -> None:
        """Count a POST of one of POSTS whose caller left before it was whole."""
        self.metrics.own[IN_FLIGHT] += 1
        self._done(path, "POST", _call(headers), GONE)

    def refuse(self, problem: Problem, method: str, target: str, headers: list[Header], counted: bool) -> Response:
        """The response to what cannot be read as a request, of which the server knows so much; counted here or elsewhere."""
        call = _read(headers)
        if counted:
            self.metrics.own[IN_FLIGHT] += 1
            self._done(target.partition("?")[0], method, call, problem.status)
        return call.request_id.encode(), *self._refusal(call, problem)

    async def __call__(self, scope, receive, send) -> None:
        """The same as an ASGI application, for every path."""
        path = scope["path"] if scope["type"] == "http" else ""
        if len(path) > 2 and path.endswith("/") and path[:-1] in self.metrics.paths:
            path = path[:-1]  # no redirect: not every client sends its body again
            scope = {**scope, "path": path}
        if self._granting and scope["type"] == "http":
            headers = by_name(scope["headers"])
            send = _granting(send, self.origins.grants(headers))
            if self.origins.is_preflight(headers, scope["method"]):
                await self._permit(path, scope, send)
                return
        if path not in self._answers:
            await self._other(scope, receive, send)
            return
        asked: ExplanationAsked | None = scope.setdefault("state", {}).get(ASKED)  # where it was let in before
        call = asked.call if asked else _read(scope["headers"])
        self.metrics.own[IN_FLIGHT] += 1
        try:
            if asked is None:
                answer = await self._answer(path, call, scope, receive)
            else:
                answer = await self._explain(call, asked, receive)
            response = 200, JSON, answer, call.more
        except Disconnected:
            self._done(path, scope["method"], call, scope["state"].get("refused", GONE))
            return
        except Exception as error:
            response = self._refusal(call, error)
        finally:
            self._waiting -= call.held
        self._done(path, scope["method"], call, response[0])
        await _send(send, call.request_id.encode(), *response)

    async def _answer(self, path: str, call: Call, scope, receive) -> bytes:
        if scope["method"] != "POST":
            raise problems.wrong_method(path, scope["method"], "POST")
        address = scope["client"][0] if scope["client"] else ""
        declared = int(call.headers.get(b"content-length", 0))  # the server has refused what is no number
        self._admit(call, address, min(declared, LARGEST_BODY))
        raw = await receive_body(declared, receive, self._limits[path], lambda size: self._hold(call, size))
        if not declared:
            self.callers.limit_bytes(call.caller, address, len(raw))
        try:
            if len(raw) > SMALL and path in self._aside:
                return await self._answer_aside(path, call, raw)
            return self._answers[path](call, raw)
        except ExplanationAsked as asked:
            scope["state"][ASKED] = asked
            return await self._explain(call, asked, receive)

    async def _answer_aside(self, path: str, call: Call, raw: bytes) -> bytes:
        """The answer to a body that is not small, made in the one thread beside the loop, one body after the other."""
        run, finish = self._aside[path]
        return finish(call, await asyncio.get_running_loop().run_in_executor(self._thread, run, call, raw))

    def _hold(self, call: Call, size: int) -> None:
        """Count so many bytes of a body that is not small as waiting; raises Problem 429 when there is no room for them."""
        if self._waiting + size > LARGEST_QUEUE:
            raise Problem(429, "too many large batches at once; send fewer", headers={"retry-after": "1"})
        self._waiting += size
        call.held += size

    async def _other(self, scope, receive, send) -> None:
        check = self._checks.get(scope["path"]) if scope["type"] == "http" else None
        if check is None or scope["method"] not in ("GET", "HEAD"):
            framework = self._framework
            if framework is None:
                framework = await asyncio.get_running_loop().run_in_executor(self._thread, self.load_framework)
            await framework(scope, receive, send)
            return
        call = _read(scope["headers"])
        self.metrics.own[IN_FLIGHT] += 1
        try:
            if self.origins.guards:
                self.origins.check(call.headers, scope["method"])
            response = 200, JSON, check(), NO_STORE
        except Problem as problem:
            response = self._refusal(call, problem)
        self._done(scope["path"], scope["method"], call, response[0])
        await _send(send, call.request_id.encode(), *response)

    async def _permit(self, path: str, scope, send) -> None:
        """Tell a browser what a page that is allowed may ask."""
        call = _read(scope["headers"])
        self.metrics.own[IN_FLIGHT] += 1
        self._done(path, "OPTIONS", call, 200)
        await _send(send, call.request_id.encode(), 200, JSON, b"{}", PREFLIGHT)

    def _admit(self, call: Call, address: str, size: int) -> None:
        headers = call.headers
        if self._guarded and not (
            headers.get(b"host") in self._known_hosts and b"origin" not in headers and b"sec-fetch-site" not in headers
        ):
            self.origins.check(headers, "POST")  # which would find nothing at once for most callers
        callers = self.callers
        if callers.keys is not None:
            call.caller = callers.admit(shown_key(headers), "predict")
        callers.limit(call.caller, address, size)
        if b"content-encoding" in headers:
            problems.check_encoding(headers[b"content-encoding"])

    def _refusal(self, call: Call, error: Exception) -> Outcome:
        if isinstance(error, NoAnswer) and error.rule:
            self.metrics.rule_failed(error.rule)
        problem = problems.of(error, call.request_id)
        more = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
        return problem.status, PROBLEM, problem.body(call.request_id), more

    def _done(self, path: str, method: str, call: Call, status: int) -> None:
        seconds = time.perf_counter() - call.began
        self.metrics.own[IN_FLIGHT] -= 1
        self.metrics.answered(path, status, seconds)
        if self.requests.on:
            self.requests.write(method, path, status, seconds, call.request_id, call.caller.name)
        if status in REFUSALS and path in self._aside and self.log is not None and call.headers.get(ROLE) != TEST:
            self.log.refused(status)

    def _predict(self, call: Call, raw: bytes) -> bytes:
        return self._answer_one(call, self._read_one(call, raw))

    def _read_one(self, call: Call, raw: bytes) -> tuple[Any, bytes, Row]:
        body = self._decoder.one(raw)
        if body.request_id:
            call.request_id = body.request_id
        return body, raw, self._decoder.row(body)

    def _answer_one(
        self, call: Call, read: tuple[Any, bytes, Row], given: tuple[Variant, Answer] | None = None
    ) -> bytes:
        body, raw, row = read
        if given is not None:
            variant, answer = given
        elif self._split is None:
            variant, answer = self._variant, self.predictor.predict_one(row)
        else:
            chosen, answer = self._split.answer(body.subject, lambda predictor: predictor.predict_one(row))
            variant = self._counted(call, chosen, 1)
        self.metrics.predicted(answer, variant.place == CHALLENGER)
        warnings = self._warnings(variant.unseen, row) if variant.unseen.columns else None
        encoded = self._encode(answer)
        latency = (time.perf_counter() - call.began) * 1000
        if self.log is not None:
            features = self._decoder.written(body, raw) or self._encode((row,))
            self._keep(call, variant, body.subject, 1, features, b"[%b]" % encoded, latency)
        return b"%b%b" % (encoded[:-1], self._tail(call, variant, latency, warnings))

    async def _explain(self, call: Call, asked: ExplanationAsked, receive) -> bytes:
        """The answer to one row and what each feature added to it; the times of predictions are counted without it."""
        body = asked.body
        call.request_id = body.request_id or call.request_id
        row = self._decoder.row(body)
        chosen, answer = self._ask_one(body.subject, row)
        variant, began = chosen.variant, time.perf_counter()

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        explanation = await self._explainer.explain(variant, row, answer, gone)
        seconds = time.perf_counter() - began
        call.began += seconds
        self.metrics.explained(seconds)
        if self._split is not None:
            variant = self._counted(call, chosen, 1)
        answered = self._answer_one(call, (body, asked.raw, row), (variant, answer))
        return b'%b,"explanation":%b}' % (answered[:-1], self._encode(explanation))

    def _ask_one(self, subject: str | None, row: Row) -> tuple[Chosen, Answer]:
        if self._split is None:
            return Chosen(self._variant), self.predictor.predict_one(row)
        return self._split.answer(subject, lambda predictor: predictor.predict_one(row))

    def _counted(self, call: Call, chosen: Chosen, rows: int) -> Variant:
        """Tell the caller which variant answered, and count it; a challenger's failure is one of its refusals in the log.

        A request that is marked as a test is answered as any other, and judges nobody.
        """
        call.more = chosen.variant.headers
        if call.headers.get(ROLE) == TEST:
            return chosen.variant
        stop = self._split.count(chosen, rows)  # type: ignore[union-attr]  # callers have looked
        if self.log is not None:
            if chosen.failed:
                self.log.refused(500, CHALLENGER)
            if stop:
                self.log.stopped(stop)
        return chosen.variant

    def _warnings(self, unseen: Unseen, row: Row) -> list[dict[str, Any]]:
        found = unseen.one(row)
        for number in found:
            self.metrics.unseen(unseen.columns[number][1])
        return [unseen.warning(number, row) for number in found[:MANY]]

    def _count_unseen(self, variant: Variant, counts: list[int]) -> None:
        for rows, (_, feature, _) in zip(counts, variant.unseen.columns, strict=True):
            if rows:
                self.metrics.unseen(feature, rows)

    def _run_batch(self, call: Call, raw: bytes) -> tuple[Any, Chosen, int, Outputs, bytes, bytes, Warnings]:
        body = self._decoder.many(raw)
        if body.request_id:
            call.request_id = body.request_id
        rows = self._decoder.rows(body)
        if self._split is None:
            chosen, outputs = Chosen(self._variant), self.predictor.predict(rows)
        else:
            chosen, outputs = self._split.answer(body.subject, lambda predictor: predictor.predict(rows))
        features = body.written or self._features(rows)
        return (
            body,
            chosen,
            len(rows),
            outputs,
            chosen.variant.write(outputs),
            features,
            chosen.variant.unseen.many(rows),
        )

    def _answer_batch(self, call: Call, result: tuple[Any, Chosen, int, Outputs, bytes, bytes, Warnings]) -> bytes:
        body, chosen, rows, outputs, written, features, (counts, warnings) = result
        variant = chosen.variant if self._split is None else self._counted(call, chosen, rows)
        self.metrics.predicted_many(outputs, variant.place == CHALLENGER)
        self._count_unseen(variant, counts)
        latency = (time.perf_counter() - call.began) * 1000
        if self.log is not None:
            self._keep(call, variant, body.subject, rows, features, written, latency)
        return b'{"predictions":%b%b' % (written, self._tail(call, variant, latency, warnings))

    def _run_invocation(self, call: Call, raw: bytes) -> tuple[int, Outputs, bytes, bytes, Warnings]:
        rows, written = self._decoder.invocation(raw, call.headers.get(b"content-type", b"").decode("latin-1"))
        outputs = self.predictor.predict(rows)
        # The model was trained on the numbers of the classes, and MLflow's server answers them.
        encoded = self._encode({"predictions": outputs[0].reshape(-1).tolist()})
        return len(rows), outputs, encoded, written or self._features(rows), self._variant.unseen.many(rows)

    def _answer_invocation(self, call: Call, result: tuple[int, Outputs, bytes, bytes, Warnings]) -> bytes:
        rows, outputs, encoded, features, (counts, _) = result  # MLflow's answer has no place for warnings
        self.metrics.predicted_many(outputs)
        self._count_unseen(self._variant, counts)
        if self.log is not None:
            latency = (time.perf_counter() - call.began) * 1000
            self._keep(call, self._variant, None, rows, features, self._variant.write(outputs), latency)
        return encoded

    def _feedback(self, call: Call, raw: bytes) -> bytes:
        if self.log is None:
            raise Problem(404, "this service keeps no prediction log; SLIPWAY_DATABASE_URL switches it on")
        told = read_feedback(self.contract, raw)
        outcome = self._encode(told.outcome).decode()
        self.log.told((told.request_id, told.row, outcome, self.log.now(), call.caller.id, told.value))
        return self._encode(told.kept())

    def _features(self, rows: Sequence[Row]) -> bytes:
        if self.log is None:
            return b""
        pieces = (self._encode(rows[start : start + ENCODED])[1:-1] for start in range(0, len(rows), ENCODED))
        return b"[%b]" % b",".join(pieces)

    def _keep(
        self, call: Call, variant: Variant, subject: str | None, rows: int, features: bytes, answers: bytes, latency: float
    ) -> None:  # fmt: skip
        log: PredictionLog = self.log  # type: ignore[assignment]  # callers have looked
        about = identity(subject) if subject else None
        role = "test" if call.headers.get(ROLE) == TEST else "served"
        log.predicted(
            (call.request_id, log.now(), call.caller.id, about, role, rows, latency, features, answers),
            len(features) + len(answers),
            variant.place,
        )

    def _tail(self, call: Call, variant: Variant, latency: float, warnings: list[dict[str, Any]] | None) -> bytes:
        """The end of an answer; an id may hold what JSON must escape."""
        end = b'%b%b,"latency_ms":%.3f}' % (variant.after, self._encode(call.request_id), latency)
        return b'%b,"warnings":%b}' % (end[:-1], self._encode(warnings)) if warnings else end


def _read(headers: list[Header]) -> Call:
    """The request: its headers, and its id, which is the caller's when it can be given back."""
    return _call(by_name(headers))


def _call(headers: dict[bytes, bytes]) -> Call:
    given = request_id(headers[b"x-request-id"]) if b"x-request-id" in headers else ""
    return Call(given or new_request_id(), headers)


def _granting(send, grants: list[Header]):
    """The same, with these headers in every answer."""

    async def granting(message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *grants]}
        await send(message)

    return granting


async def _send(send, name: bytes, status: int, kind: Header, body: bytes, more: list[Header]) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body)), (b"x-request-id", name), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
