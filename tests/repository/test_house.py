"""Rules of the house that no linter knows."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from pipeline.packages import groups as lock

ROOT = Path(__file__).resolve().parents[2]
FILES = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PYTHON = [file for file in FILES if file.endswith(".py")]
STAGES = ("train", "evaluate", "register_model")
PACKAGES = ("delivery.targets", "pipeline.notebook")  # whose __init__.py has more than a docstring
ENTRIES = {
    "serving.batch",
    "serving.model.contract",
    "serving.model.decision",
    "serving.model.rules",
    "serving.requests.decoder",
    "serving.access.keys",
}
ENTRIES |= {
    "serving.counts.records",
    "serving.counts.columns",
    "serving.counts.day",
    "serving.counts.exposed",
    "serving.log.clock",
    "serving.log.marks",
    "serving.experiment.experiment",
    "serving.experiment.count.records",
    "serving.model.bundle",
}
# From the bottom to the top. A module is in the layer of the longest name that fits it.
LAYERS = (
    ("serving", "serving.config"),
    ("serving.model",),
    ("serving.log.blocks", "serving.log.identity", "serving.experiment.experiment"),
    ("serving.problems",),
    ("serving.requests",),
    ("serving.telemetry",),
    ("serving.log", "serving.experiment.tee"),
    ("serving.counts",),
    ("serving.access",),
    ("serving.experiment", "serving.explanation", "serving.http"),
    ("serving.runtime",),
    ("serving.app", "serving.batch", "serving.__main__"),
    ("pipeline",),
    ("pipeline.packages",),
    ("pipeline.data",),
    ("pipeline.formats",),
    ("pipeline.decisions",),
    ("pipeline.evaluation",),
    ("pipeline.decisions.judged", "pipeline.formats.comparison"),
    ("pipeline.validation",),
    ("pipeline.ci",),
    ("pipeline.registry",),
    ("pipeline.registry.embedded",),
    ("pipeline.search", "pipeline.training"),
    ("pipeline.experiments",),
    ("pipeline.comparison",),
    ("pipeline.monitor",),
    ("pipeline.notebook", "pipeline.monitor.actions"),
    ("pipeline.monitor.pages",),
    ("pipeline.pull_request",),
    (
        "delivery",
        "delivery.experiment.composition",
        "delivery.keys",
        "delivery.log_command",
        "delivery.networks",
        "delivery.release",
        "delivery.signals",
        "delivery.smoke",
    ),
    ("delivery.canary", "delivery.images"),
    ("delivery.targets",),
    ("delivery.drill", "delivery.edge", "delivery.host", "delivery.load", "delivery.relay"),
    ("delivery.deployment", "delivery.proof", "delivery.watch"),
    ("delivery.chain", "delivery.checkup", "delivery.mlflow_ui", "delivery.reconciliation", "delivery.rehearsal"),
    ("delivery.experiment.admission", "delivery.experiment.lifecycle"),
    ("train", "evaluate", "register_model", "scripts"),
    ("dev",),
)


def tree(file: str) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def imports(file: str) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def modules() -> dict[str, str]:
    """Our modules by name, and the file of each, but for tests and peers, which are programs of their own."""
    ours = (
        file
        for file in PYTHON
        if not file.startswith(("tests/", "examples/", "project/", "dev/benchmarks/peers/", "dev/skeleton/"))
    )
    return {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in ours}


def imported(file: str, known: dict[str, str]) -> set[str]:
    """Our modules that a file imports; an imported name that is no module belongs to the module that has it."""
    found = imports(file) & set(known)
    return found - {name for name in found if f"{ROOT}/{known[name]}".endswith("__init__.py") and name not in PACKAGES}


def place(module: str) -> int:
    """The layer of a module in LAYERS: the longest name that fits counts."""
    names = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    fits = [name for name in names if module == name or module.startswith(f"{name}.")]
    assert fits, f"{module} is in no layer: tests/repository/test_house.py says where new rooms go"
    return names[max(fits, key=len)]


def test_no_module_imports_up():
    """A module imports modules of its own layer or of lower ones (docs/architecture.md), and the service nothing of the rest."""
    known = modules()
    for module, file in known.items():
        for other in imported(file, known):
            assert place(other) <= place(module), f"{module} imports {other}"
            if module.startswith("serving"):
                assert other.startswith("serving"), f"{module} imports {other}"


def test_the_pipeline_asks_the_service_through_its_entries_alone():
    """Of serving/ the other rooms import what answers a batch, what reads a contract or a bundle and what makes keys, and nothing else."""
    known = modules()
    for module, file in known.items():
        if not module.startswith(("serving", "dev")):
            other = {name for name in imported(file, known) if name.startswith("serving")}
            assert other <= ENTRIES, f"{module} imports {other - ENTRIES}"


def test_no_verb_imports_a_verb():
    """Verbs and stages are entry points: nothing imports them."""
    known = modules()
    for module, file in known.items():
        verbs = {name for name in imported(file, known) if name in STAGES or name.startswith("scripts")}
        assert not verbs, f"{module} imports {verbs}"


def test_there_is_no_circle_of_imports():
    """No file imports, over however many others, itself."""
    known = modules()
    graph = {module: imported(file, known) - {module} for module, file in known.items()}
    while leaves := [module for module, others in graph.items() if not others & set(graph)]:
        for module in leaves:
            del graph[module]
    assert not graph, f"these import one another: {sorted(graph)}"


def test_no_file_names_a_package_index():
    """Requirements come from whatever index the user has: no file names one."""
    names = ["py" + "pi.org", "python" + "hosted", "--index" + "-url", "npm" + "js.org"]
    for file in FILES:
        text = (ROOT / file).read_bytes().decode("utf-8", errors="ignore")
        assert not [name for name in names if name in text and not file.endswith("packages/groups.py")], file


def locked(group: str) -> str:
    """A group's locked file, with the files that it names."""
    text = (ROOT / f"requirements/{group}.txt").read_text(encoding="utf-8")
    return re.sub(r"^-r (.+)\.txt\n", lambda named: locked(named[1]), text, flags=re.M)


@pytest.mark.parametrize("group", [*lock.groups(), *lock.apart()])
def test_every_requirement_is_locked_with_hashes(group):
    """Each requirement is one version with at least one hash."""
    blocks = re.split(r"\n(?=[\w.-]+==)", re.sub(r"^\s*#.*\n", "", locked(group), flags=re.M))
    assert blocks and all(re.match(r"[\w.-]+==\S+", block) and "--hash=sha256:" in block for block in blocks)


def test_the_smaller_locks_agree_with_the_largest():
    """What serving, the pipeline or the MLflow server installs is, to the version, what was tested.

    Groups apart are excepted, because they are installed beside none of the others.
    """
    pins = {group: set(re.findall(r"^([\w.-]+==[^\\\s;]+)", locked(group), re.M)) for group in lock.groups()}
    assert pins["serving"] | pins["serving-sklearn"] <= pins["pipeline"] <= pins["test"] <= pins["dev"]
    for library in ("xgboost", "lightgbm", "catboost"):
        # Only dev has the libraries; for other systems than Linux it lacks XGBoost.
        own = {pin for pin in pins[f"serving-{library}"] if pin.startswith(library)}
        assert pins[f"serving-{library}"] - own <= pins["dev"], library
    assert pins["audit"] <= pins["dev"]
    assert pins["relay"] <= pins["serving"] and "mlflow" not in str(pins["relay"])
    assert "onnxruntime" not in {pin.split("==")[0] for pin in pins["serving-sklearn"]}
    own = {pin for pin in pins["server"] if pin.startswith("psycopg")}  # its driver is needed nowhere else
    assert own and pins["server"] - own <= pins["dev"]


def test_the_lock_holds_what_the_project_declares():
    """Each package of a dependency group, or of one that it includes, stands in that group's locked file."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]

    def packages(group: str) -> list[str]:
        parts = ([part] if isinstance(part, str) else packages(part["include-group"]) for part in groups[group])
        return [package for part in parts for package in part]

    for group in [*lock.groups(), *lock.apart()]:
        for package in packages(group):
            name = re.match(r"[\w.-]+", package).group()
            assert re.search(rf"^{name}==", locked(group), re.M), f"{name} in {group}"
    assert set(groups) == {*lock.groups(), *lock.apart(), "service"}, (
        "a group of its own is locked; service only stands in others"
    )


def test_importing_a_module_does_nothing_but_define():
    """No module of ours makes folders, reads files or sets servers when it is imported: no statement calls anything bare."""
    for file in PYTHON:
        if file.startswith(("tests/", "examples/", "project/")) or file.endswith("__main__.py"):
            continue
        bare = [node for node in tree(file).body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
        assert not bare, f"{file}, line {bare[0].lineno}"


def test_every_test_states_its_rule():
    """Each test has a docstring, and each test file's name is its own over all folders."""
    names = [Path(file).name for file in PYTHON if file.startswith("tests/") and "/test_" in file]
    assert len(names) == len(set(names))
    for file in PYTHON:
        if file.startswith("tests/") and not file.startswith("tests/project/"):
            silent = [
                n.name
                for n in ast.walk(tree(file))
                if isinstance(n, ast.FunctionDef) and n.name.startswith("test_") and not ast.get_docstring(n)
            ]
            assert not silent, f"{file}: {silent}"


def test_every_script_has_a_verb_or_a_caller():
    """A script that no verb of the Makefile starts, and no other module imports, would rot; a peer is started by its name."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    imported = set().union(*(imports(file) for file in PYTHON if not file.startswith("tests/")))
    servers = (ROOT / "dev" / "benchmarks" / "servers.py").read_text(encoding="utf-8")
    for file in PYTHON:
        if file.startswith(("scripts/", "dev/")) and not file.endswith("__init__.py") and "skeleton" not in file:
            module = file[:-3].replace("/", ".")
            if Path(file).parent.name == "peers":
                assert re.search(rf'"{Path(file).stem}[".:]', servers), file
                continue
            assert module in imported or re.search(rf"{re.escape(module)}\b", makefile), file


def test_every_public_function_says_what_it_does():
    """Functions and classes without a leading underscore have a docstring, outside of tests."""
    for file in PYTHON:
        if file.startswith(("tests/", "examples/", "project/")):
            continue
        nodes = [node for node in tree(file).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        silent = [node.name for node in nodes if not node.name.startswith("_") and not ast.get_docstring(node)]
        assert not silent, f"{file}: {silent}"


def test_the_tags_of_a_version_are_known_in_one_file():
    """Versions are read and written as records: no file but theirs calls what sets or takes a tag, or reads one."""
    for file in PYTHON:
        if file.startswith(("tests/", "examples/", "project/")) or file == "pipeline/registry/model_version.py":
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        found = re.findall(r"\w*_model_version_tag\b|\bversion\.tags\b", text)
        assert not found, f"{file}: {found[0]}; pipeline/registry/model_version.py has the tags as attributes"
