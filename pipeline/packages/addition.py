"""A package that a project's model needs: put into the right groups of pyproject.toml, locked, and what an image gains by it.

The file keeps its formatting and comments, and no other version moves. When anything fails, all files are as they were.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pipeline.artifacts import ROOT, write_text
from pipeline.errors import SlipwayError
from pipeline.packages import groups

PYPROJECT = "pyproject.toml"
TRAINING, SCIKIT_LEARN, ONNX, NETWORKS = "pipeline", "serving-sklearn", "serving", "torch"
CONVERTERS = "onnxmltools>=1.16,<2"
# Libraries whose models an image may run: their group, and what a conversion to ONNX needs besides.
LIBRARIES = {
    "xgboost": ("serving-xgboost", [CONVERTERS]),
    "xgboost-cpu": ("serving-xgboost", [CONVERTERS]),
    "lightgbm": ("serving-lightgbm", [CONVERTERS]),
    "catboost": ("serving-catboost", []),
}
WORD = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)(\[[\w,. -]+\])?\s*((?:[<>=!~][^;,\s]*\s*,?\s*)*)")


@dataclass(frozen=True)
class Addition:
    """A package, as asked for: its name, its extras ("[skops]" or "") and the versions that it may have ("" or ">=3,<4")."""

    name: str
    extras: str
    versions: str


def parsed(word: str) -> Addition:
    """What was asked for; raises SlipwayError for what is no package."""
    found = WORD.fullmatch(word.strip())
    if not found:
        raise SlipwayError(f"{word!r} is no package", 'name it as in PACKAGE=xgboost or PACKAGE="xgboost>=3,<4"')
    return Addition(found[1], found[2] or "", re.sub(r"\s", "", found[3]).strip(","))


def add(word: str, serving: bool) -> list[str]:
    """Put a package into its groups and lock them; return what was done, in sentences. Raises SlipwayError, and nothing is changed."""
    wanted = parsed(word)
    name = groups.normal(wanted.name)
    if _of_networks(name):
        return [
            f"{wanted.name} is in the group torch of pyproject.toml, which is installed where project/ imports it: nothing to add"
        ]
    with _undone_if_it_fails():
        before = groups.versions(TRAINING)
        changed = _library(wanted, name) if name in LIBRARIES else _plain(wanted, serving)
        if not changed:
            return [f"{wanted.name} is in pyproject.toml already"]
        groups.lock_all([])
        if name not in LIBRARIES and not wanted.versions:
            changed = _bounded(wanted, changed)
    new = [f"{name} {version}" for name, version in groups.versions(TRAINING).items() if name not in before]
    return [*changed, f"locked: {', '.join(new) if new else 'what it needs was locked already'}"]


def _of_networks(name: str) -> bool:
    """Whether a package is one of the group of PyTorch, which no image has: networks are served as ONNX."""
    lines = groups.declared().get(NETWORKS, [])
    return name in {_package(f'"{line}"')[1] for line in lines if isinstance(line, str)}


def _library(wanted: Addition, name: str) -> list[str]:
    """A library of boosted trees: its own group says which versions, the training includes that group."""
    group, besides = LIBRARIES[name]
    text = _text()
    if group not in groups.declared():
        raise SlipwayError(f"pyproject.toml has no group {group}", "take it from the template: an image needs it")
    if wanted.versions:
        inside = re.compile(rf"(?ms)^{group} = \[.*?^\]")
        block = inside.search(text)
        assert block  # it is declared
        plain = name.removesuffix("-cpu")
        said = re.sub(rf'"({plain}(?:-cpu)?)(?:[<>=!~][^;"]*)?(?=[;"])', rf'"\g<1>{wanted.versions}', block[0])
        text = text.replace(block[0], said)
    changed = []
    include = f'{{ include-group = "{group}" }}'
    for line in (include, *(f'"{one}"' for one in besides)):
        text, done = with_line(text, TRAINING, line)
        changed += [f"pyproject.toml, group {TRAINING}: {line}"] if done else []
    if wanted.versions and text != _text() and not changed:
        changed = [f"pyproject.toml, group {group}: {name.removesuffix('-cpu')}{wanted.versions}"]
    write_text(ROOT / PYPROJECT, text)
    return changed


def _plain(wanted: Addition, serving: bool) -> list[str]:
    """Any other package: for the training, and with `serving` for images of scikit-learn's own models."""
    text, changed = _text(), []
    line = f'"{wanted.name}{wanted.extras}{wanted.versions}"'
    group = SCIKIT_LEARN if serving else TRAINING  # the training includes the other
    text, done = with_line(text, group, line)
    changed += [f"pyproject.toml, group {group}: {line}"] if done else []
    write_text(ROOT / PYPROJECT, text)
    return changed


def _bounded(wanted: Addition, changed: list[str]) -> list[str]:
    """Have pyproject.toml name the version that was locked, up to the next that may be incompatible."""
    version = groups.versions(TRAINING).get(groups.normal(wanted.name), "")
    numbers = re.match(r"(\d+)(?:\.(\d+))?", version)
    if not numbers:
        return changed
    major, minor = int(numbers[1]), int(numbers[2] or 0)
    limit = f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"
    old, new = (f'"{wanted.name}{wanted.extras}{limits}"' for limits in ("", limit))
    write_text(ROOT / PYPROJECT, _text().replace(f"{old},", f"{new},"))
    return [line.replace(old, new) for line in changed]


def with_line(text: str, group: str, line: str) -> tuple[str, bool]:
    """pyproject.toml with a line in one of its groups, in the order of the alphabet, and whether it was not there; comments stay."""
    block = re.search(rf"(?ms)^{re.escape(group)} = \[[^\n]*\n(.*?)^\]", text)
    if not block:
        raise SlipwayError(
            f"pyproject.toml has no group {group} with a line for each package", "write it so, as the template does"
        )
    lines = block[1].splitlines(keepends=True)
    mine = _package(line)
    if any(_package(one) == mine for one in lines):
        return text, False
    place = next((place for place, one in enumerate(lines) if _package(one) > mine), len(lines))
    lines.insert(place, f"    {line},\n")
    return text[: block.start(1)] + "".join(lines) + text[block.end(1) :], True


def _package(line: str) -> tuple[bool, str]:
    """What a line of a group asks for, as it is sorted: groups first, then packages by name."""
    found = re.search(r'include-group = "([^"]+)"', line)
    if found:
        return False, found[1]
    found = re.match(r'\s*"([\w.-]+)', line)
    return True, groups.normal(found[1]) if found else ""


def _text() -> str:
    return (ROOT / PYPROJECT).read_text(encoding="utf-8")


@contextmanager
def _undone_if_it_fails() -> Iterator[None]:
    paths = [ROOT / PYPROJECT, *(ROOT / "requirements").glob("*.txt")]
    before = {path: path.read_bytes() for path in paths}
    try:
        yield
    except BaseException as error:
        for path, content in before.items():
            path.write_bytes(content)
        if isinstance(error, SlipwayError):
            raise SlipwayError(
                f"nothing was added: {error.what}",
                "the lines above say why: no such package, no version that fits, or no package index in reach",
            ) from error
        raise


def size_of_image(word: str, serving: bool) -> str:
    """What an image gains by a package, from what is installed here; in a sentence."""
    name = groups.normal(parsed(word).name)
    base = set(groups.versions(ONNX))
    if name in LIBRARIES:
        group = LIBRARIES[name][0]
        own, mine = groups.versions(group).keys() - base, base - groups.versions(group).keys()
        more, less = megabytes(own), megabytes(mine)
        return (
            f"image: 0 MB more where the model is served as ONNX; where the library serves it, {more:.0f} MB of packages instead of the "
            f"{less:.0f} MB of ONNX Runtime (`make train` says which, and why)"
        )
    if _of_networks(name):
        return "image: 0 MB more, a network is served as ONNX"
    if not serving:
        return "image: 0 MB more, it is for the training alone; SERVING=yes adds it to images of scikit-learn's own models too"
    return f"image: {megabytes({name}):.0f} MB more, besides what the package itself needs, where scikit-learn serves the model"


def megabytes(packages: set[str]) -> float:
    """The size of what is installed of these packages, megabytes (10^6 bytes); those that are not installed count nothing."""
    total = 0
    for name in packages:
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            continue
        places = [Path(str(file.locate())) for file in files if "__pycache__" not in file.parts]
        total += sum(place.stat().st_size for place in places if place.is_file())
    return total / 1e6
