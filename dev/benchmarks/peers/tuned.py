"""The tutorial's service, tuned as far as its parts go: one call of the model, and no thread between."""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["MODEL"])


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
    probabilities = model.predict_proba(np.array(request.rows))
    return {"labels": probabilities.argmax(axis=1).tolist(), "probabilities": probabilities.tolist()}
