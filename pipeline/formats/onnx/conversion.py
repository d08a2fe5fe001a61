"""A fitted model turned into ONNX, in a process of its own: converters are foreign code, and some never end.

The process is limited in time and memory, and is killed with all that it started when it exceeds a limit or is no longer
needed. It is a fork of one that has made the imports, so it costs milliseconds where a new Python would cost seconds.
"""

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from pipeline.errors import PortabilityError
from pipeline.formats.onnx import converters

INPUT = "features"
# A forest of 40 MB takes 25 s in all its forms and 0.4 GB: ten times that is no conversion that will end well.
SECONDS, SECONDS_PER_MB = 60.0, 5.0
BYTES, BYTES_PER_BYTE = 4_000_000_000, 50
QUIET_SECONDS = 10  # that a conversion may take before it is said that it is awaited
STARTING_SECONDS = 120  # imports, on a busy machine
HEAVY = ["pipeline.formats.onnx.forms", "skl2onnx", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline"]
FORKS = sys.platform != "darwin"  # the libraries behind numpy do not survive a fork there

Convert = Callable[[str, str], tuple[bytes, dict[str, Any]]]
Child = tuple[BaseProcess, Connection]
_waiting: list[Child] = []


class ConversionError(PortabilityError):
    """The model does not become ONNX in this form."""


class UnendedError(ConversionError):
    """The conversion exceeded its limits: no other form will be tried."""


def prepare() -> None:
    """Begin the imports that a conversion needs, in another process, and return at once.

    A stage of `make ship` is a fork with all imports made, so there the process is ready now: it is forked before the stage
    has threads, which a fork does not survive.
    """
    if FORKS and multiprocessing.parent_process() is not None:
        _waiting.append(_start("fork"))
    elif FORKS:
        from multiprocessing import forkserver

        multiprocessing.get_context("forkserver").set_forkserver_preload(HEAVY)
        with _deaf():
            forkserver.ensure_running()


@contextmanager
def converting(model: Any, kinds: Mapping[str, str], classifier: bool) -> Iterator[Convert]:
    """A function that converts a fitted estimator: layout and dtype -> ONNX bytes and how the graph is fed.

    It raises ConversionError with the reason in a sentence, or UnendedError when all conversions together exceed the limits.
    """
    try:
        given = bytes(ForkingPickler.dumps((model, dict(kinds), classifier)))
    except Exception as error:  # a lambda, an open file: each has an exception of its own
        raise ConversionError(f"it cannot become ONNX: {_sentence(error)}") from error
    if not _waiting:
        prepare()
    child, connection = _waiting.pop() if _waiting else _start("forkserver" if FORKS else "spawn")
    limit = SECONDS + SECONDS_PER_MB * len(given) / 1e6
    left = limit

    def convert(layout: str, dtype: str) -> tuple[bytes, dict[str, Any]]:
        nonlocal left
        began = time.monotonic()
        try:
            connection.send((layout, dtype))
            if not connection.poll(min(left, QUIET_SECONDS)) and left > QUIET_SECONDS:
                print(f"converting to ONNX takes long; it is ended after {limit:.0f} s", file=sys.stderr, flush=True)
            if not connection.poll(max(0.0, left - (time.monotonic() - began))):
                raise UnendedError(f"its conversion to ONNX did not end within {limit:.0f} s")
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise UnendedError(f"its conversion to ONNX was killed{_by(child)}") from error
        left -= time.monotonic() - began
        if isinstance(answer, str):
            raise ConversionError(answer)
        return answer

    try:
        try:
            if not connection.poll(STARTING_SECONDS):
                raise UnendedError(f"its conversion to ONNX did not start within {STARTING_SECONDS} s")
            connection.recv()
            connection.send_bytes(given)
            connection.send((limit, BYTES + BYTES_PER_BYTE * len(given)))
        except (EOFError, OSError) as error:
            raise UnendedError(f"its conversion to ONNX did not start{_by(child)}") from error
        yield convert
    finally:
        _end(child, connection)


@contextmanager
def _deaf() -> Iterator[None]:
    """What starts now does not hear Ctrl-C, which would end it amid its imports with a traceback: we end it ourselves."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(method: str) -> Child:
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(ours, theirs), daemon=True)
    with _deaf():
        child.start()
    theirs.close()
    return child, ours


def _end(child: BaseProcess, connection: Connection) -> None:
    """Kill a child and whatever it started."""
    connection.close()
    if child.pid and child.is_alive():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)  # no group of that number yet: it has only begun
        child.kill()
    child.join()


def _by(child: BaseProcess) -> str:
    """The signal that ended a child, in words."""
    child.join(5)
    number = -(child.exitcode or 0)
    return f" by {signal.Signals(number).name}" if number > 0 else ""


# --- in the child ------------------------------------------------------------------------------------------------------


def _serve(ours: Connection, theirs: Connection) -> None:
    """Answer each form that is asked for with its graph, or with a sentence, until nobody asks any more."""
    ours.close()
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has what it wanted, or has gone
        theirs.send(True)
        given = theirs.recv_bytes()
        _limit(*theirs.recv())
        model, problem = None, ""
        try:
            model, kinds, classifier = ForkingPickler.loads(given)
        except Exception as error:
            problem = _why(error)
        while True:
            layout, dtype = theirs.recv()
            answer: Any = problem
            if not problem:
                try:
                    answer = _convert(model, kinds, classifier, layout, dtype)
                except Exception as error:  # converters raise whatever they meet
                    answer = _why(error)
            theirs.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def _limit(seconds: float, more_bytes: int) -> None:
    """Limit this process: processor time, should its parent be gone and it not notice, and memory beyond what it has now."""
    import resource

    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + 4 * seconds) + 1,) * 2)
    with suppress(OSError, ValueError):  # only Linux says how much it has, and keeps to such a limit
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes,) * 2)


def _convert(
    model: Any, kinds: Mapping[str, str], classifier: bool, layout: str, dtype: str
) -> tuple[bytes, dict[str, Any]]:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    missing = converters.register()
    if problem := converters.without_counterpart(model):
        raise ConversionError(f"it cannot become ONNX: {problem}")
    number = FloatTensorType if dtype == "float32" else DoubleTensorType
    if layout == "matrix":
        inputs = [(INPUT, number([None, len(kinds)]))]
    else:
        types = [StringTensorType if kind == "text" else number for kind in kinds.values()]
        inputs = [(name, tensor([None, 1])) for name, tensor in zip(kinds, types, strict=True)]
    # Without a name the converter makes one up, and the same model would give other bytes each time.
    options = {"zipmap": False} if classifier else None
    try:
        converted = convert_sklearn(model, "model", inputs, options=options, target_opset=converters.opsets())
    except Exception as error:
        if missing:
            raise ConversionError(f"it cannot become ONNX: {missing}") from error
        raise
    if layout == "columns":
        _number_inputs(converted)
    _without_locale(converted)
    outputs = [output.name for output in converted.graph.output]
    form = {
        "layout": layout,
        "dtype": dtype,
        "label": outputs[0],
        "probabilities": outputs[1] if classifier else None,
    }
    return converted.SerializeToString(deterministic=True), form


def _number_inputs(model: Any) -> None:
    """Name the inputs f0, f1, … in contract order: the converter turns two names such as "a b" and "a-b" into one another."""
    names = {given.name: f"f{place}" for place, given in enumerate(model.graph.input)}
    for given in model.graph.input:
        given.name = names[given.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _without_locale(model: Any) -> None:
    """Have text put into lower case alike everywhere: the locale that ONNX Runtime takes by itself, en_US.UTF-8, is not everywhere."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            rest = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*rest, helper.make_attribute("locale", "C")])


def _why(error: Exception) -> str:
    """Why a model does not become ONNX, in one sentence; converters' own words run over many lines, and quote the graph."""
    if isinstance(error, ConversionError):
        return error.what
    if isinstance(error, MemoryError):
        return "its conversion to ONNX needs too much memory"
    unknown = re.search(r"Unable to find a (?:shape calculator|converter) for type '<class '([^']+)'>'", str(error))
    if unknown:
        return f"it cannot become ONNX: nothing converts {unknown[1]}"
    unwritten = re.match(r"Unable to create node '(\w+)'", str(error))
    if unwritten:
        return f"it cannot become ONNX: skl2onnx writes its {unwritten[1]} in a way that the installed onnx refuses"
    return f"it cannot become ONNX: {_sentence(error)}"


def _sentence(error: BaseException) -> str:
    """What an exception says, in at most 160 letters of its first sentence, without the values that it quotes."""
    first = (str(error).strip().splitlines() or [""])[0]
    first = re.split(r"(?<=[^.\s]{2})\. | and attributes=|: ?\[|: ?\{", first)[0].strip().rstrip(".,:")
    if not first:
        return type(error).__name__
    if isinstance(error, (AttributeError, KeyError, IndexError, NameError, TypeError, AssertionError)):
        first = f"its converter does not expect this model ({first})"
    return first if len(first) <= 160 else first[:159] + "…"
