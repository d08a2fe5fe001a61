"""A network as a tutorial serves it, tuned: FastAPI and PyTorch, one thread, no gradients, and no thread between."""

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
# Ours, written a moment ago: the module itself, with the means and deviations of its inputs.
network, mean, deviation = torch.load(os.environ["MODEL"], weights_only=False)
answer = network.eval()


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
    torch.set_num_threads(1)
    with torch.inference_mode():
        standardised = (torch.tensor(request.rows, dtype=torch.float64) - mean) / deviation
        probabilities = torch.softmax(answer(standardised.float()).double(), dim=1)
    return {"labels": probabilities.argmax(dim=1).tolist(), "probabilities": probabilities.tolist()}
