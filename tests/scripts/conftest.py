"""A fork with two versions; and a scratch project, a team's files in an empty folder, for commands called in this process."""

import fcntl
import importlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import artifacts
from tests.conftest import copied, forked

TOML = """
name = "scratch"
[data]
task = "binary"
id = "id"
target = "bought"
positive = "yes"
[split]
holdout = 0.25
salt = "s"
[train]
seed = 1
trusted_types = ["numpy.dtype", "sklearn.tree._tree.Tree"]
[train.parameters]
C = 1.0
[gate]
metric = "log_loss"
margin = 0.01
"""

DATA = '''"""Our data."""
import pandas as pd
def load():
    return pd.read_csv("data.csv")
'''

CHECKS = '''"""Our checks."""
def expectations():
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect
    return ExpectationSuite("scratch", [
        expect.ExpectTableColumnsToMatchSet(column_set=["id", "age", "income", "colour", "bought"], severity="critical"),
        expect.ExpectTableRowCountToBeBetween(min_value=50, severity="critical"),
        expect.ExpectColumnValuesToBeUnique(column="id", severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="bought", value_set=["no", "yes"], severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="colour", value_set=["blue", "green", "red"], severity="critical"),
        expect.ExpectColumnValuesToBeInTypeList(column="age", type_list=["int64", "float64"], severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="age", min_value=18, max_value=99, severity="critical"),
        expect.ExpectColumnValuesToNotBeNull(column="income", mostly=0.9, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="income", max_value=400000, mostly=0.99, severity="warning"),
    ])
'''

MODEL = '''"""Our model."""
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
def build(parameters, seed):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((numbers, ["age", "income"]), (OneHotEncoder(), ["colour"]))
    return make_pipeline(columns, LogisticRegression(**parameters))
'''


def customers(rows: int = 240) -> pd.DataFrame:
    """Synthetic customers; older and richer ones buy more often."""
    rng = np.random.default_rng(0)
    age = rng.integers(18, 90, rows)
    income = np.where(rng.random(rows) < 0.05, np.nan, rng.lognormal(10, 0.5, rows).round(2))
    chance = 1 / (1 + np.exp(-(age - 54) / 8 - (np.nan_to_num(income, nan=22000) - 22000) / 20000))
    return pd.DataFrame(
        {
            "id": [f"c{row}" for row in range(1, rows + 1)],
            "age": age,
            "income": income,
            "colour": rng.choice(["blue", "green", "red"], rows),
            "bought": np.where(rng.random(rows) < chance, "yes", "no"),
        }
    )


@dataclass
class Scratch:
    """The folder of a scratch project, and the results of commands in it."""

    root: Path
    capsys: pytest.CaptureFixture

    def data(self, frame: pd.DataFrame) -> None:
        """Write the frame as the project's data."""
        frame.to_csv(self.root / "data.csv", index=False)

    def write(self, file: str, text: str) -> None:
        """Write one of its files; a module will be imported again."""
        (self.root / file).write_text(text, encoding="utf-8")
        forget()

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text, which must be there."""
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text
        self.write(file, text.replace(old, new))

    def run(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a command's main."""
        main = importlib.import_module(f"scripts.{command}").main
        self.capsys.readouterr()
        status = main(list(arguments))
        said = self.capsys.readouterr()
        return status, said.out, said.err

    def built(self) -> list[str]:
        """Names of the files in its build folder."""
        return sorted(path.name for path in (self.root / "build").glob("*")) if (self.root / "build").exists() else []


def forget() -> dict:
    """Drop the project's modules, so that the next import reads the files; return them."""
    names = [name for name in sys.modules if name == "project" or name.startswith("project.")]
    importlib.invalidate_caches()
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def scratch(tmp_path, monkeypatch, capsys):
    """A scratch project whose data and model pass every check."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project/__init__.py").touch()
    before = forget()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(artifacts, "BUILD", tmp_path / "build")
    made = Scratch(tmp_path, capsys)
    for file, text in (
        ("pipeline.toml", TOML),
        ("project/data.py", DATA),
        ("project/checks.py", CHECKS),
        ("project/model.py", MODEL),
    ):
        made.write(file, text)
    made.data(customers())
    yield made
    forget()
    sys.modules.update(before)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory):
    """The database of an MLflow that holds nothing yet; its tables take seconds to make."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def mlflow_client(empty_mlflow, tmp_path, monkeypatch):
    """A client of an MLflow of its own, which the verbs of this process use too."""
    from mlflow import MlflowClient

    from pipeline.registry import versions

    uri = f"sqlite:///{shutil.copy(empty_mlflow, tmp_path / 'mlflow.db')}"
    client = MlflowClient(uri, uri)
    monkeypatch.setattr(versions, "connect", lambda settings: client)
    return client


# Puts version 2 back to work as a restart of the machine does, with no record in MLflow.
SERVE_AGAIN = """
import json
from pathlib import Path
from delivery.release import Release
from delivery.targets import process
from pipeline.settings import load_settings
for environment in ("staging", "production"):
    (bundle,) = Path(".slipway", environment).resolve().glob("version-2-*")
    says = json.loads((bundle / "release.json").read_text(encoding="utf-8"))
    process.release(environment, Release(says["name"], says["version"], says["digest"], bundle), load_settings())
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A fork in which version 2 has replaced version 1; shipped once for all modules and processes, then copied."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "two.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "two").exists():
            _ship_two(tmp_path_factory.mktemp("ship"), shared / "two")
    with copied(shared / "two", tmp_path_factory.mktemp("fork")) as fork:
        fork.ok("-c", SERVE_AGAIN)
        yield fork


def _ship_two(folder: Path, stopped: Path) -> None:
    """Ship two versions in a fork, stop what it runs, and keep it."""
    with forked(folder) as fork:
        fork.edit("pipeline.toml", 'policy = "better" ', 'policy = "not_worse" ')
        fork.edit("pipeline.toml", "\nmargin = 0.01 ", "\nmargin = 0.5 ")
        fork.ok("-m", "scripts.ship")
        fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.6 ")
        fork.ok("-m", "scripts.ship")
        fork.ok("-m", "scripts.stop")
    fork.root.rename(stopped)
