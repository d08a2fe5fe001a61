"""The folder of `make edge`: a bundle, and three ways to ask it that need no service and no network.

Python finds onnxruntime and numpy where it runs; Node's and the page's runtimes are put into the folder. A page that is opened from a folder
may fetch nothing, so all that it needs is in scripts, packed as Base64 of gzip.
"""

import base64
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from delivery.edge import packages
from pipeline.artifacts import read_json, write_json, write_text
from pipeline.errors import PortabilityError, StageError
from pipeline.formats import choose

TEMPLATES = Path(__file__).parent / "templates"
FILES = ("contract.json", "golden.json", "release.json", "model.onnx")  # not reference.json: it describes the data
PAGE = ("model.js", "page.js", "page.css")
LABELS = ("most_probable", "threshold")  # the ways to a label that the three scripts know
PATIENCE = 600  # seconds for a check of the golden rows


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a script said of itself: its runtime, the golden rows, and the median milliseconds of a single prediction."""

    runtime: str
    golden_rows: int
    largest_difference: float
    tolerance: float
    failed: str = ""
    median_ms: float
    model_bytes: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One way to ask: its bytes on disk, what was measured (None: only where it is opened), or why it is not there."""

    way: str
    size: int = 0  # bytes
    measured: Measured | None = None
    absent: str = ""


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the folder."""

    name: str
    version: str
    golden_rows: int
    notes: list[str]
    parts: list[Part]


def refuse(contract: Mapping[str, Any]) -> None:
    """Raise PortabilityError where the model cannot leave the service, with the reason from its contract."""
    if contract["format"] != "onnx":
        why = contract.get("format_reason") or "it was trained so"
        raise PortabilityError(
            f"only a model that is ONNX runs at the edge, and this one is {contract['format']}: {why}",
            "the bundle's service runs it (`make deploy`); docs/models.md says which models become ONNX",
        )
    if contract.get("labels", LABELS[0]) not in LABELS:
        raise PortabilityError(
            f"the folder's scripts do not know how this model comes to its label: {contract['labels']}",
            "take the version of this template that trained it",
        )


def notes_on(contract: Mapping[str, Any]) -> list[str]:
    """What the folder leaves out, in sentences."""
    rules = contract.get("rules") or {}
    names = [name for side in ("before", "after") for name in rules.get(side) or []]
    if not names:
        return []
    return [
        f"The rules {', '.join(names)} are not applied here: they are Python code of the service, so its answers may be others than these."
    ]


def write(source: Path, folder: Path, runtimes: packages.Runtimes) -> Edge:
    """Fill an empty folder from a verified bundle, try what can be tried here, and say what is in it.

    Raises PortabilityError for a model that is not ONNX, StageError where a script does not give the golden answers.
    """
    contract, golden, release = (read_json(source / f"{name}.json") for name in ("contract", "golden", "release"))
    refuse(contract)
    notes = notes_on(contract)
    (folder / "bundle").mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(source / name, folder / "bundle" / name)
    if notes:
        plain = {key: value for key, value in contract.items() if key != "rules"}
        write_json(folder / "bundle" / "contract.json", plain)
        write_json(folder / "bundle" / "golden.json", of_model_alone(source, plain, golden))
    shutil.copyfile(TEMPLATES / "predict.py", folder / "predict.py")
    parts = [Part(way="Python", size=size(folder), measured=check([sys.executable, "-I", "predict.py"], folder))]
    parts += [node(folder, runtimes), page(folder, runtimes, notes)]
    made = Edge(
        name=contract["name"],
        version=str(release.get("version", "")),
        golden_rows=len(golden["inputs"]),
        notes=notes,
        parts=parts,
    )
    write_text(folder / "README.txt", readme(made))
    return made


def of_model_alone(source: Path, contract: dict[str, Any], golden: dict[str, Any]) -> dict[str, Any]:
    """Golden rows with the answers of the model without its rules, as the service's own code gives them."""
    names = [column["name"] for column in contract["inputs"]]
    rows = pd.DataFrame(golden["inputs"], columns=names)
    for column in contract["inputs"]:
        values = rows[column["name"]]
        rows[column["name"]] = values.fillna("") if column["type"] == "text" else values.astype("float64")
    model = {"model.onnx": (source / "model.onnx").read_bytes()}
    given, _ = choose.predict(model, contract, rows)
    if not contract["classes"]:
        return {**golden, "expected": [{"value": float(value)} for value in given]}
    classes, least = contract["classes"], contract.get("threshold")
    places = given.argmax(axis=1)
    if least is not None:
        positive = classes.index(contract["positive"])
        places = np.where(given[:, positive] >= least, positive, 1 - positive)
    labels = [classes[place] for place in places]
    expected = [{"label": label, "probabilities": one.tolist()} for label, one in zip(labels, given, strict=True)]
    return {**golden, "expected": expected}


def node(folder: Path, runtimes: packages.Runtimes) -> Part:
    """Add what Node needs."""
    if runtimes.absent:
        return Part(way="Node", absent=runtimes.absent)
    for name in ("predict.mjs", "model.js"):
        shutil.copyfile(TEMPLATES / name, folder / name)
    shutil.copytree(runtimes.modules, folder / "node_modules")
    own = sum(map(size, (folder / "predict.mjs", folder / "model.js", folder / "node_modules")))
    return Part(way="Node", size=own, measured=check([runtimes.node, "predict.mjs"], folder))


def page(folder: Path, runtimes: packages.Runtimes, notes: Sequence[str]) -> Part:
    """Add the page and what it needs."""
    if runtimes.absent:
        return Part(way="Browser", absent=runtimes.absent)
    (folder / "page").mkdir()
    shutil.copyfile(TEMPLATES / "index.html", folder / "index.html")
    for name in PAGE:
        shutil.copyfile(TEMPLATES / name, folder / "page" / name)
    code, module, wasm = (runtimes.web / name for name in packages.WEB)
    shutil.copyfile(code, folder / "page" / packages.WEB[0])
    packed = {name: pack((folder / "bundle" / name).read_bytes()) for name in FILES}
    told = {"notes": list(notes), "bytes": (folder / "bundle" / "model.onnx").stat().st_size}
    write_text(folder / "page" / "bundle.js", constant("EDGE_BUNDLE", {**packed, **told}))
    runtime = {"mjs": pack(module.read_bytes()), "wasm": pack(wasm.read_bytes())}
    write_text(folder / "page" / "runtime.js", constant("EDGE_RUNTIME", runtime))
    return Part(way="Browser", size=size(folder / "page") + size(folder / "index.html"))


def pack(data: bytes) -> str:
    """Bytes as Base64 of gzip; the same bytes give the same text."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def constant(name: str, value: Mapping[str, Any]) -> str:
    """A script that defines a constant."""
    return f"const {name} = {json.dumps(value)};\n"


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


def in_words(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def check(command: Sequence[str], folder: Path) -> Measured:
    """What a script of the folder says of itself; raises StageError where it does not give the golden answers."""
    done = subprocess.run([*command, "--json"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    try:
        found = msgspec.json.decode(done.stdout, type=Measured)
    except msgspec.MsgspecError:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise StageError(
            f"{command[-1]} does not run here: {said}", "`make doctor` says what is missing on this machine"
        ) from None
    if found.failed:
        raise StageError(
            f"{command[-1]} ({found.runtime}) answers otherwise than the model was tested: {found.failed}",
            "the model is not for this runtime; serve it with `make deploy`",
        )
    return found


def readme(made: Edge) -> str:
    """README.txt of the folder."""
    absent = next((one.absent for one in made.parts if one.absent), "")
    return Template((TEMPLATES / "README.txt").read_text(encoding="utf-8")).substitute(
        name=made.name,
        version=f", version {made.version}" if made.version else "",
        onnxruntime=version("onnxruntime"),
        numpy=version("numpy"),
        node=f"not here: {absent}" if absent else "node_modules/ has the runtime for the system that made this folder",
        notes="\n".join(f"{note}\n" for note in made.notes),
        sizes="\n".join(f"  {line}" for line in sizes(made)),
        measured="\n".join(f"  {line}" for line in measured(made)),
        golden_rows=made.golden_rows,
    )


def sizes(made: Edge) -> list[str]:
    """A line for each way with its size on disk."""
    lines = []
    for one in made.parts:
        about = {"Python": "bundle and script; the two packages take some 90 MB more", "Browser": "downloaded once"}
        more = f" ({about[one.way]})" if one.way in about else ""
        lines.append(f"{one.way:<8} {f'not here: {one.absent}' if one.absent else f'{in_words(one.size)}{more}'}")
    return lines


def measured(made: Edge) -> list[str]:
    """A line for each way that was tried."""
    lines = []
    for one in made.parts:
        if found := one.measured:
            lines.append(
                f"{one.way:<8} {found.golden_rows} golden rows as expected, largest difference {found.largest_difference:.2g}, "
                f"median of a prediction {found.median_ms * 1000:.0f} µs ({found.runtime})"
            )
        elif not one.absent:
            lines.append(f"{one.way:<8} the page says at its foot what it finds where it is opened")
    return lines
