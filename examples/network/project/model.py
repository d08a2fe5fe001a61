"""Your model: one function that returns it unfitted."""

import torch
from torch import nn

STATES = 4


def build(parameters: dict, seed: int) -> nn.Module:
    """Return an untrained network with one output for each state; pipeline.toml [train.network] says how it is trained.

    It gets the six measurements, scaled by the template, and answers numbers whose softmax are the probabilities. Two small layers
    are enough to multiply two measurements, which is what tells here; dropout keeps them from learning single motors by heart.
    """
    torch.manual_seed(seed)
    width = parameters["width"]
    return nn.Sequential(
        nn.LazyLinear(width),
        nn.ReLU(),
        nn.Dropout(parameters["dropout"]),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, STATES),
    )
