"""Random networks and boosted trees for the data of random_models.py: PyTorch modules, skorch nets, XGBoost, LightGBM, CatBoost."""

from typing import Any

import numpy as np
import pytest
from sklearn import compose, impute, preprocessing
from sklearn.pipeline import make_pipeline

from pipeline.data.dataset import Dataset
from pipeline.settings import Network

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make .venv/torch.ready")
skorch = pytest.importorskip("skorch", reason="skorch is not installed: make .venv/torch.ready")
xgboost, lightgbm, catboost = (pytest.importorskip(name) for name in ("xgboost", "lightgbm", "catboost"))
nn = torch.nn

ACTIVATIONS = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.GELU, nn.Softplus, nn.Hardtanh, nn.Mish, nn.SELU, nn.Hardswish, nn.CELU,
    nn.ReLU6, nn.Softsign, nn.LogSigmoid, nn.Hardsigmoid, lambda: nn.GELU(approximate="tanh"),
)  # fmt: skip


class Beside(nn.Module):
    """Layers whose result is added to what went in."""

    def __init__(self, width: int, activation: Any):
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(width, width), activation(), nn.Linear(width, width))

    def forward(self, rows):
        return rows + self.inside(rows)


class Gated(nn.Module):
    """A part of the values decides what becomes of the others, by comparing them; without a jump, which no two programs place alike."""

    def __init__(self, width: int):
        super().__init__()
        self.line = nn.LazyLinear(2 * width)

    def forward(self, rows):
        one, other = self.line(rows).chunk(2, dim=1)
        return torch.where(one > 0, other, other * torch.exp(one)).clamp(-3, 3)


def draw(rng: np.random.Generator, dataset: Dataset) -> Any:
    """A random unfitted model of one of the five libraries; the settings of the training are drawn with it, into the dataset."""
    torch.manual_seed(1)
    return _pick(rng, module, module, net, net, of_xgboost, of_lightgbm, of_catboost)(rng, dataset)


def module(rng: np.random.Generator, dataset: Dataset) -> Any:
    """A PyTorch module, and how it is trained."""
    network = Network(
        epochs=int(rng.integers(1, 8)), batch_size=int(rng.choice([8, 32])), learning_rate=float(rng.choice([1e-3, 0.02, 0.2])),
        patience=int(rng.choice([1, 20])), class_weights=str(rng.choice(["none", "balanced"])),
    )  # fmt: skip
    _set(dataset, network=network)
    outputs = len(dataset.classes) or 1
    return layers(rng, 1 if outputs == 2 and rng.random() < 0.4 else outputs)


def layers(rng: np.random.Generator, outputs: int, softmax: bool = False) -> Any:
    """A network of random depth, widths and layers."""
    activation, made = _pick(rng, *ACTIVATIONS), []
    for _ in range(int(rng.integers(0, 4))):
        width = int(rng.integers(1, 17))
        made.append(Gated(width) if rng.random() < 0.1 else nn.LazyLinear(width))
        made += [one for one in (nn.BatchNorm1d(width), nn.LayerNorm(width)) if rng.random() < 0.2]
        made += [activation(), *([nn.Dropout(0.3)] if rng.random() < 0.3 else [])]
        made += [Beside(width, activation)] if rng.random() < 0.15 else []
    return nn.Sequential(*made, nn.LazyLinear(outputs), *([nn.Softmax(dim=1)] if softmax else []))


def net(rng: np.random.Generator, dataset: Dataset) -> Any:
    """A skorch net behind steps, or alone where all columns are full numbers."""
    given = {
        "max_epochs": int(rng.integers(1, 6)), "lr": float(rng.choice([1e-3, 0.02])), "verbose": 0, "batch_size": int(rng.choice([16, 128])),
        "optimizer": _pick(rng, torch.optim.SGD, torch.optim.Adam),
    }  # fmt: skip
    outputs, kind = len(dataset.classes), skorch.NeuralNetClassifier
    if not outputs:
        outputs, kind = 1, skorch.NeuralNetRegressor
    elif outputs == 2 and rng.random() < 0.3:
        outputs, kind = 1, skorch.NeuralNetBinaryClassifier
    softmax = kind is skorch.NeuralNetClassifier and rng.random() < 0.4
    if kind is skorch.NeuralNetClassifier and not softmax:
        given["criterion"] = nn.CrossEntropyLoss
    last = kind(layers(rng, outputs, softmax), **given)
    numbers = [name for name, kind in dataset.kinds.items() if kind != "text"]
    texts = [name for name in dataset.kinds if name not in numbers]
    if not texts and not dataset.features.isna().any(axis=None) and rng.random() < 0.5:
        return last
    steps: list[tuple[Any, Any]] = [(_encoder(rng), [name]) for name in texts]
    if numbers:
        steps.append((make_pipeline(_filler(rng), _scaler(rng)), numbers))
    return make_pipeline(compose.make_column_transformer(*steps), last)


def _filler(rng: np.random.Generator) -> Any:
    return _pick(
        rng,
        impute.SimpleImputer(),
        impute.SimpleImputer(strategy="median", add_indicator=True),
        impute.SimpleImputer(strategy="constant", fill_value=-1),
        impute.SimpleImputer(strategy="most_frequent"),
    )


def _scaler(rng: np.random.Generator) -> Any:
    return _pick(
        rng,
        preprocessing.StandardScaler(),
        preprocessing.StandardScaler(),
        preprocessing.MinMaxScaler(clip=bool(rng.random() < 0.5)),
        preprocessing.RobustScaler(),
        preprocessing.MaxAbsScaler(),
        preprocessing.Normalizer(),
        preprocessing.PolynomialFeatures(2),
    )


def _encoder(rng: np.random.Generator) -> Any:
    return _pick(
        rng,
        preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=bool(rng.random() < 0.3)),
        preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.2, sparse_output=False),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    )


def of_xgboost(rng: np.random.Generator, dataset: Dataset) -> Any:
    """Trees of XGBoost."""
    given: dict[str, Any] = {
        "n_estimators": int(rng.integers(1, 16)), "max_depth": int(rng.integers(1, 7)), "learning_rate": float(rng.choice([0.05, 0.3, 1.0])),
        "subsample": float(rng.choice([0.7, 1.0])), "min_child_weight": float(rng.choice([0.0, 1.0, 5.0])),
        "tree_method": str(rng.choice(["hist", "approx"])), "booster": str(rng.choice(["gbtree", "gbtree", "dart"])),
    }  # fmt: skip
    if not dataset.classes:
        given["objective"] = str(rng.choice(["reg:squarederror", "reg:absoluteerror", "count:poisson", "reg:gamma"]))
    if rng.random() < 0.4:
        given["early_stopping_rounds"] = 2
    return (xgboost.XGBClassifier if dataset.classes else xgboost.XGBRegressor)(**given)


def of_lightgbm(rng: np.random.Generator, dataset: Dataset) -> Any:
    """Trees of LightGBM."""
    given: dict[str, Any] = {
        "n_estimators": int(rng.integers(1, 16)), "num_leaves": int(rng.integers(2, 16)), "learning_rate": float(rng.choice([0.05, 0.3])),
        "min_child_samples": int(rng.choice([1, 5, 20])), "min_data_per_group": 5, "zero_as_missing": bool(rng.random() < 0.2),
        "boosting_type": str(rng.choice(["gbdt", "gbdt", "dart"])), "use_missing": bool(rng.random() < 0.8),
    }  # fmt: skip
    if not dataset.classes:
        given["objective"] = str(rng.choice(["regression", "regression_l1", "poisson", "gamma", "quantile"]))
    if given["boosting_type"] == "gbdt" and rng.random() < 0.4:
        given["early_stopping_rounds"] = 2
    return (lightgbm.LGBMClassifier if dataset.classes else lightgbm.LGBMRegressor)(**given)


def of_catboost(rng: np.random.Generator, dataset: Dataset) -> Any:
    """Trees of CatBoost."""
    given: dict[str, Any] = {
        "iterations": int(rng.integers(1, 16)), "depth": int(rng.integers(1, 6)), "learning_rate": float(rng.choice([0.05, 0.3])),
        "nan_mode": str(rng.choice(["Min", "Max"])), "one_hot_max_size": int(rng.choice([2, 20])),
        "grow_policy": str(rng.choice(["SymmetricTree", "Depthwise"])),
    }  # fmt: skip
    if not dataset.classes:
        given["loss_function"] = str(rng.choice(["RMSE", "MAE", "Poisson"]))
    if rng.random() < 0.4:
        given["early_stopping_rounds"] = 2
    return (catboost.CatBoostClassifier if dataset.classes else catboost.CatBoostRegressor)(**given)


def _set(dataset: Dataset, **train: Any) -> None:
    settings = dataset.settings
    changed = settings.model_copy(update={"train": settings.train.model_copy(update=train)})
    object.__setattr__(dataset, "settings", changed)


def _pick(rng: np.random.Generator, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]
