"""pipeline.toml as typed, frozen settings; unknown, misspelt and out-of-range keys are refused by name."""

import difflib
import hashlib
import json
import math
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline import mlflow_names
from pipeline.errors import SettingsError

TRAINING = ("name", "data", "split", "train", "search", "decision")  # the tables that determine a trained model
Port = Annotated[int, Field(ge=1024, le=65535)]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class Section(BaseModel):
    """A table of pipeline.toml: no unknown keys, no type coercion, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(Section):
    """Information for people about the model, in the team's own words; it has no effect."""

    purpose: str = Field(default="", max_length=600)
    not_for: str = Field(default="", max_length=600)


class Data(Section):
    """The meaning of the rows."""

    task: Literal["binary", "multiclass", "regression"]
    id: Text
    target: Text
    positive: str | None = None
    weight: str = Field(default="", max_length=500)
    group: str = Field(default="", max_length=500)
    time: str = Field(default="", max_length=500)
    snapshot: bool = False

    @model_validator(mode="after")
    def _positive_belongs_to_binary(self):
        if (self.task == "binary") != (self.positive is not None):
            raise ValueError('positive is needed for task "binary", and only there')
        if self.id == self.target:
            raise ValueError("id and target must be two columns")
        return self

    @model_validator(mode="after")
    def _each_column_has_one_role(self):
        taken: dict[str, str] = {}
        for role, name in self.roles.items():
            if name in taken:
                raise ValueError(
                    f"{taken[name]} and {role} are the same column {name!r}: "
                    "give the second a column of its own in load(), a copy if need be"
                )
            taken[name] = role
        return self

    @property
    def roles(self) -> dict[str, str]:
        """The columns that are no features, by what they are for; those that are not set are left out."""
        named = {role: getattr(self, role) for role in ("id", "target", "weight", "group", "time")}
        return {role: name for role, name in named.items() if name}


class Split(Section):
    """How the hold-out is chosen."""

    by: Literal["id", "group", "time"] = "id"
    holdout: float = Field(ge=0.05, le=0.5)
    salt: Text


class Network(Section):
    """How a network is trained: read where build() returns a PyTorch module."""

    epochs: int = Field(default=200, ge=1, le=100_000)
    batch_size: int = Field(default=64, ge=2, le=1_000_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    patience: int = Field(default=20, ge=1, le=100_000)
    class_weights: Literal["none", "balanced"] = "none"


class Train(Section):
    """How the model is fitted."""

    seed: int = Field(ge=0, lt=2**32)
    trusted_types: list[str] = []
    quantise: Literal["no", "dynamic", "static"] = "no"
    parameters: dict[str, Any] = {}
    network: Network = Network()

    @model_validator(mode="after")
    def _parameters_fit_mlflow(self):
        for name, value in self.parameters.items():
            if wrong := mlflow_names.fault(name):
                raise ValueError(f"the parameter {name!r} cannot be logged in MLflow: {wrong}")
            if len(str(value)) > mlflow_names.LONGEST_VALUE:
                raise ValueError(
                    f"the value of parameter {name!r} has {len(str(value))} characters; MLflow keeps "
                    f"{mlflow_names.LONGEST_VALUE}: put a long list into project/model.py"
                )
        return self


class Range(Section):
    """The values between two numbers that a search tries: whole numbers where both are whole."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def count(self) -> int:
        """How many values there are; only with a step."""
        assert self.step is not None
        return int((self.high - self.low) / self.step + 1e-9) + 1

    def value(self, place: int) -> int | float:
        """One of them by its place from 0, without the dust of adding steps up."""
        assert self.step is not None
        value = self.low + place * self.step
        return value if isinstance(value, int) else float(f"{value:.12g}")


class Search(Section):
    """Which parameters of build() are searched for, and how."""

    method: Literal["off", "grid", "random", "optimise"] = "off"
    trials: int = Field(default=30, ge=1, le=10_000)
    folds: int = Field(default=5, ge=2, le=20)
    minutes: float = Field(default=30, gt=0, le=10_080)
    parallel: int = Field(default=1, ge=0, le=256)
    space: dict[str, list[Any] | Range] = {}

    @field_validator("space", mode="before")
    @classmethod
    def _space_in_words(cls, given: Any) -> Any:
        for name, values in given.items() if isinstance(given, dict) else ():
            if wrong := mlflow_names.fault(name):
                raise ValueError(f"the parameter {name!r} cannot be logged in MLflow: {wrong}")
            if wrong := _not_searchable(values):
                raise ValueError(f"{name}: {wrong}")
        return given

    @model_validator(mode="after")
    def _can_be_searched(self):
        if self.method == "off":
            return self
        if not self.space:
            raise ValueError(f'method = "{self.method}" needs parameters to search for: name them in [search.space]')
        if self.method == "grid":
            points = self.grid_points()
            if points > self.trials:
                raise ValueError(
                    f"the grid has {points:,} points, but trials = {self.trials}: raise it or leave values out"
                )
        return self

    def grid_points(self) -> int:
        """How many combinations the space has; raises ValueError where a range has no step."""
        for name, values in self.space.items():
            if isinstance(values, Range) and values.step is None:
                raise ValueError(f"a grid needs a list of values for {name}, or a step beside low and high")
        return math.prod(values.count if isinstance(values, Range) else len(values) for values in self.space.values())


def _not_searchable(values: Any) -> str:
    """Why a parameter cannot be searched among these values of pipeline.toml, in words; "" where it can."""
    if isinstance(values, list):
        if not values:
            return "the list of values is empty"
        texts = [json.dumps(value, default=str) for value in values]
        if len(set(texts)) < len(texts):
            return "a value stands in the list twice"
        return "" if max(map(len, texts)) <= mlflow_names.LONGEST_VALUE else "a value is too long for MLflow"
    if not isinstance(values, dict):
        return f"{values!r} is no list of values and no range such as {{low = 0.01, high = 10.0}}"
    for key, value in values.items():
        if key not in Range.model_fields:
            return f"{key} is unknown in a range; it has low, high, log and step"
        if key == "log" and not isinstance(value, bool):
            return f"log = {value!r} must be true or false"
        if key != "log" and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            return f"{key} = {value!r} is no number"
    if absent := [key for key in ("low", "high") if key not in values]:
        return f"{absent[0]} is missing"
    low, high, log, step = values["low"], values["high"], values.get("log"), values.get("step")
    if low >= high:
        return f"low = {low} must be below high = {high}"
    if log and low <= 0:
        return f"log = true needs low above 0, not {low}"
    if log and step is not None:
        return "log and step exclude each other"
    if step is not None and not 0 < step <= high - low:
        return f"step = {step} must be above 0 and at most high - low"
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, float):
        return f"step = {step} is no whole number, but low and high are: write them as {float(low)} and {float(high)}"
    return ""


class Decision(Section):
    """How the class of a row follows from its probabilities; binary only, but for the most probable class."""

    rule: Literal["most_probable", "fixed", "cost", "precision", "recall"] = "most_probable"
    threshold: float = Field(default=0.5, gt=0, lt=1)
    cost_false_positive: float = Field(default=1, gt=0, allow_inf_nan=False)
    cost_false_negative: float = Field(default=1, gt=0, allow_inf_nan=False)
    floor: float = Field(default=0.9, gt=0, le=1)


class Gate(Section):
    """When a candidate may replace the production model."""

    metric: Text
    policy: Literal["better", "superior", "not_worse"] = "better"
    margin: float = Field(ge=0, allow_inf_nan=False)
    confidence: float = Field(default=0.95, ge=0.8, le=0.999)
    resamples: int = Field(default=2000, ge=200, le=20000)
    slices: list[str] = []
    slice_rows: int = Field(default=30, ge=5)
    repeated_rows: Literal["together", "each"] = "together"
    reference: Literal["best", "production"] = "best"
    replay_days: int = Field(default=0, ge=0, le=365)
    parity: float = Field(default=1e-5, gt=0, allow_inf_nan=False)
    max_latency_ms: float = Field(default=20, gt=0)
    max_bundle_mb: float = Field(default=50, gt=0)
    quantised_margin: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    limits: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}


class Deploy(Section):
    """Where releases run."""

    target: Literal["auto", "process", "docker", "kubernetes"] = "auto"
    staging_port: Port = 8001
    production_port: Port = 8000
    ready_seconds: float = Field(default=30, ge=1, le=600)

    @model_validator(mode="after")
    def _two_ports(self):
        if self.staging_port == self.production_port:
            raise ValueError("staging_port and production_port must differ")
        return self

    def port(self, environment: str) -> int:
        """The port of an environment on this machine."""
        return self.production_port if environment == "production" else self.staging_port


class Canary(Section):
    """How a release takes over production on Kubernetes."""

    steps: list[Annotated[int, Field(ge=1, le=99)]] = [10, 50]
    max_error_ratio: float = Field(default=1.5, ge=1, allow_inf_nan=False)
    error_margin: float = Field(default=0.01, ge=0.0001, le=0.2)
    max_latency_ratio: float = Field(default=1.2, ge=1.05, allow_inf_nan=False)
    latency_margin_ms: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    confidence: float = Field(default=0.95, ge=0.8, le=0.999)
    min_requests: int = Field(default=200, ge=1)
    replay: int = Field(default=400, ge=0, le=100_000)
    hold_seconds: float = Field(default=600, ge=1, le=86400)

    @model_validator(mode="after")
    def _steps_rise(self):
        if any(later <= earlier for earlier, later in pairwise(self.steps)):
            raise ValueError("steps must rise")
        return self


class Monitor(Section):
    """How production is watched."""

    window_days: int = Field(default=7, ge=1, le=90)
    false_alarms_per_year: float = Field(default=1, gt=0, le=52)
    tolerance: float = Field(default=0.02, ge=0, le=0.5)
    tolerances: dict[str, Annotated[float, Field(ge=0, le=0.5)]] = {}
    min_rows: int = Field(default=30, ge=1)
    min_outcomes: int = Field(default=100, ge=1)
    label_delay_days: float = Field(default=1, ge=0, le=365)
    label_window_days: float = Field(default=30, ge=0.01, le=365)
    limits: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}

    @model_validator(mode="after")
    def _labels_come_within_the_window(self):
        if self.label_delay_days > self.label_window_days:
            raise ValueError("label_delay_days must not exceed label_window_days")
        return self


class Retrain(Section):
    """When the monitor starts a retraining. It never starts one on broken data."""

    on: list[Literal["performance", "concept_drift", "target_drift", "data_drift", "prediction_drift"]] = [
        "performance"
    ]
    min_days_between: float = Field(default=7, ge=0, le=365)
    max_per_30_days: int = Field(default=4, ge=1, le=30)
    min_new_labels: int = Field(default=500, ge=0)
    approve: bool = True


class Experiment(Section):
    """How an experiment, two versions in production, is judged, and when it stops itself."""

    outcome: Literal["answer", "value"] = "answer"
    max_failures: float = Field(default=0.02, ge=0, le=1)
    max_latency_ratio: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    latency_margin_ms: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    min_requests: int = Field(default=100, ge=1)


class Mlflow(Section):
    """The embedded MLflow server."""

    port: Port = 5000


class Settings(Section):
    """The whole of pipeline.toml."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")
    model: Model = Model()
    data: Data
    split: Split
    train: Train
    search: Search = Search()
    decision: Decision = Decision()
    gate: Gate
    deploy: Deploy = Deploy()
    canary: Canary = Canary()
    monitor: Monitor = Monitor()
    retrain: Retrain = Retrain()
    experiment: Experiment = Experiment()
    mlflow: Mlflow = Mlflow()

    @model_validator(mode="after")
    def _split_has_its_column(self):
        if self.split.by != "id" and self.split.by not in self.data.roles:
            raise ValueError(f'[split] by = "{self.split.by}" needs a column: name it in [data] {self.split.by} = "…"')
        return self

    @model_validator(mode="after")
    def _a_threshold_needs_two_classes(self):
        if self.decision.rule != "most_probable" and self.data.task != "binary":
            raise ValueError(
                f'[decision] rule "{self.decision.rule}" needs [data] task "binary"; of more classes the most probable is the answer'
            )
        return self

    @model_validator(mode="after")
    def _three_ports(self):
        if self.mlflow.port in (self.deploy.staging_port, self.deploy.production_port):
            raise ValueError("[mlflow] port must differ from the ports of [deploy]")
        return self

    def fingerprint(self, *tables: str) -> str:
        """SHA-256 over some of the tables, so that a later stage notices a change."""
        return hashlib.sha256(self.model_dump_json(include=set(tables)).encode()).hexdigest()


def load_settings(path: Path | str = "pipeline.toml") -> Settings:
    """Read and check pipeline.toml; raises SettingsError that names table, key and allowed values."""
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is missing",
            "restore it with `git checkout -- pipeline.toml`, or run from the root of the repository",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", "correct that line") from error
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = [_in_words(path.name, problem) for problem in error.errors()]
        raise SettingsError("; ".join(lines), f"correct {path.name}; every key is explained there") from error


def _in_words(file: str, problem: Any) -> str:
    *tables, key = [str(part) for part in problem["loc"]] or [""]
    where = f"{file}: " + (f"[{'.'.join(tables)}] " if tables else "")
    match problem["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(key, _keys(tables), n=1, cutoff=0.5)
            return f"{where}{key} is unknown" + (f"; did you mean {near[0]}?" if near else "")
        case "missing":
            return f"{where}{key} is missing"
        case "value_error":
            table = ".".join(map(str, problem["loc"]))
            return f"{file}: {f'[{table}] ' if table else ''}{problem['ctx']['error']}"
        case _:
            return f"{where}{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _keys(tables: list[str]) -> list[str]:
    """The known keys of the table at this path."""
    section: Any = Settings
    for table in tables:
        section = section.model_fields[table].annotation
        if not isinstance(section, type):
            section = next((part for part in get_args(section) if isinstance(part, type)), Section)
    return list(section.model_fields)
