"""The model as scikit-learn's own, for what ONNX would not answer alike: stored by skops, with the code of project/ that it needs."""

import ast
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.artifacts import ROOT
from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError, ProjectError
from pipeline.formats import trusted_types
from pipeline.formats.family import Candidate, Forms
from pipeline.formats.onnx import converters

OWN = "project"  # the package whose modules a bundle may carry
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold


def forms(model: Any, dataset: Dataset) -> Forms:
    """A fitted estimator as it is, fed with a matrix and with a frame; or the types in it that nobody trusts."""
    import sklearn

    raw = dumps(model)
    types = types_beyond(raw)
    known = dataset.settings.train.trusted_types
    if foreign := trusted_types.beyond(types, known):
        yield PortabilityError(
            f"as scikit-learn's own it holds types that are not trusted: {', '.join(foreign)}",
            trusted_types.advice(foreign, known),
        )
        return
    files = {"model.skops": raw, **code_for(types)}
    # A matrix is answered in half the time, where the model needs no names.
    layouts = ["frame"] if "text" in dataset.kinds.values() else ["matrix", "frame"]
    for layout in layouts:
        part = {"layout": layout, "trusted": types, "scikit_learn": sklearn.__version__}
        yield Candidate("the stored model", files, {"format": "skops", "skops": part})


def dumps(model: Any) -> bytes:
    """A fitted model in the format of skops: the same model gives the same bytes.

    skops writes the time of day and the objects' places in memory; both are replaced. Raises ProjectError for what it cannot store.
    """
    import skops.io

    if name := torch_in(model):
        raise ProjectError(
            f"the model holds {name}: a PyTorch module inside another model cannot be stored without pickle",
            "return the module itself in build() of project/model.py, or a pipeline that ends in a skorch net; docs/networks.md has both",
        )
    try:
        given = skops.io.dumps(model)
    except Exception as error:  # a lambda, an open file: each has an exception of its own
        line = (str(error).strip().splitlines() or [""])[0][:300]
        raise ProjectError(
            f"the model cannot be stored without pickle: {type(error).__name__}: {line}",
            "give it no lambdas, open files or the like in project/model.py",
        ) from error
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(given)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        numbers: dict[int, int] = {}
        schema = _numbered(json.loads(old.read("schema.json")), numbers)
        contents = {_renamed(name, numbers): old.read(name) for name in old.namelist()}
        contents["schema.json"] = json.dumps(schema).encode()
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, contents[name])
    return made.getvalue()


def torch_in(model: Any) -> str:
    """The class of a PyTorch module that a model or one of its parts holds, or ""."""
    for part in converters.parts(model):
        for value in vars(part).values():
            if any(kind.__module__.partition(".")[0] == "torch" for kind in type(value).__mro__):
                return f"{type(value).__module__}.{type(value).__qualname__}"
    return ""


def _numbered(node: Any, numbers: dict[int, int]) -> Any:
    """The schema with its objects numbered from 0 in the order in which they are named."""
    if isinstance(node, list):
        return [_numbered(part, numbers) for part in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("__id__"), int):
        node = node | {"__id__": numbers.setdefault(node["__id__"], len(numbers))}
    if isinstance(node.get("file"), str):
        node = node | {"file": _renamed(node["file"], numbers)}
    return {key: _numbered(part, numbers) for key, part in node.items()}


def _renamed(file: str, numbers: dict[int, int]) -> str:
    """A file of the archive is called after its object."""
    stem, dot, ending = file.rpartition(".")
    return f"{numbers[int(stem)]}{dot}{ending}" if stem.isdecimal() and int(stem) in numbers else file


def types_beyond(stored: bytes) -> list[str]:
    """The types in a stored model that skops itself does not trust."""
    import skops.io

    return sorted(skops.io.get_untrusted_types(data=stored))


def code_for(types: list[str]) -> dict[str, bytes]:
    """The modules of project/ that hold these types, and those of project/ that they import, as files of the bundle."""
    files: dict[str, bytes] = {}
    waiting = [module for name in types if name.startswith(f"{OWN}.") for module in _parents(name)]
    while waiting:
        module = waiting.pop()
        path = next((path for path in _places(module) if path.is_file()), None)
        name = f"code/{path.relative_to(ROOT).as_posix()}" if path else ""
        if path is None or name in files:
            continue
        files[name] = path.read_bytes()
        waiting += _imports(files[name], module, path.name == "__init__.py")
    return files


def _places(module: str) -> Iterator[Path]:
    path = ROOT.joinpath(*module.split("."))
    yield path / "__init__.py"
    yield path.with_name(f"{path.name}.py")


def _parents(name: str) -> list[str]:
    """a.b.c -> a, a.b, a.b.c: a type is in one of them, and each is imported before the next."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _imports(text: bytes, module: str, is_package: bool) -> Iterator[str]:
    """The modules of project/ that a module of it imports, anywhere in its text; names that are no modules among them."""
    for node in ast.walk(ast.parse(text, module)):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            above = parts[: len(parts) - node.level + is_package] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            found = [f"{start}.{name.name}" for name in node.names]
        for name in found:
            if name.split(".")[0] == OWN:
                yield from _parents(name)
