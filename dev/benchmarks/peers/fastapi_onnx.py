"""FastAPI and pydantic in front of ONNX Runtime: the same graph that our service runs."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["ONNX"], options, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
dtype = np.float64 if "double" in given.type else np.float32
app = FastAPI()


class Request(BaseModel):
    """Rows of features."""

    rows: list[list[float]]


@app.get("/health")
async def health():
    """Say that the service answers."""
    return {"status": "ok"}


@app.post("/predict")
async def predict(request: Request):
    """Labels, and the probabilities of the classes."""
    labels, probabilities = session.run(None, {given.name: np.array(request.rows, dtype)})
    return {"labels": labels.tolist(), "probabilities": probabilities.tolist()}
