"""A model's file opened, in any of the formats: here, or by a fresh process, which says how long it took.

    python -m pipeline.formats.comparison.opening onnx /a/file

pickle and joblib do what their file says, and PyTorch's readers may fall back to pickle. So only files that this program wrote itself, a
moment before, into a folder that nobody else can write to, are opened here: never one from elsewhere.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

# Nothing else is imported here: what a format needs is imported when it is opened, and that is measured.


def opened(how: str, path: Path) -> Any:
    """The model in a file, ready to answer in one thread; `how` is a key of OPENERS."""
    return OPENERS[how](path)


def _pickle(path: Path) -> Any:
    import pickle

    return pickle.loads(path.read_bytes())


def _joblib(path: Path) -> Any:
    import joblib

    return joblib.load(path)


def _skops(path: Path) -> Any:
    import skops.io

    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def _onnx(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _torchscript(path: Path) -> Any:
    import torch

    return torch.jit.load(path)


def _pt2(path: Path) -> Any:
    import torch

    return torch.export.load(path).module()


def _xgboost(path: Path) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(path.read_bytes()))
    return booster


def _lightgbm(path: Path) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=path, params={"verbosity": -1})


def _catboost(path: Path) -> Any:
    import catboost

    return catboost.CatBoost().load_model(str(path), format="cbm")


OPENERS = {
    "pickle": _pickle,
    "joblib": _joblib,
    "skops": _skops,
    "onnx": _onnx,
    "torchscript": _torchscript,
    "pt2": _pt2,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}


def main(how: str, file: str) -> None:
    """Open a file twice and print the milliseconds: of the first time, with all imports, and of the second, without."""
    import warnings

    warnings.simplefilter("ignore")
    took = []
    for _ in range(2):
        begin = time.perf_counter()
        opened(how, Path(file))
        took.append((time.perf_counter() - begin) * 1000)
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
