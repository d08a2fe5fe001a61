"""The service of most tutorials: FastAPI, joblib, and a `def` endpoint that asks the model twice."""

import os

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["MODEL"])


class Request(BaseModel):
    """Rows of features."""

    rows: list[list[float]]


@app.get("/health")
def health():
    """Say that the service answers."""
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request):
    """Labels, and the probabilities of the classes."""
    return {
        "labels": model.predict(request.rows).tolist(),
        "probabilities": model.predict_proba(request.rows).tolist(),
    }
