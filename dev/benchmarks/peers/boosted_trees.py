"""Boosted trees as a tutorial serves them, tuned: FastAPI and the estimator of XGBoost or LightGBM, called once, and no thread between."""

import os
from math import nan

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model, codes = joblib.load(os.environ["MODEL"])  # for each column of text the code of each category, else None


class Request(BaseModel):
    """Rows of features."""

    rows: list[list[float | str]]


@app.get("/health")
async def health():
    """Say that the service answers."""
    return {"status": "ok"}


@app.post("/predict")
async def predict(request: Request):
    """Labels, and the probabilities of the classes."""
    rows = [
        [value if known is None else known.get(value, nan) for value, known in zip(row, codes, strict=True)]
        for row in request.rows
    ]
    probabilities = model.predict_proba(np.array(rows, dtype=np.float64))
    return {"labels": probabilities.argmax(axis=1).tolist(), "probabilities": probabilities.tolist()}
