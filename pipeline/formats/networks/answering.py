"""A network with all that stands around it when it answers, as one PyTorch module that becomes one graph."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

REACH = 10.0  # standard deviations beyond the values of training up to which a number is told from the next larger one


class Answering(nn.Module):
    """Scaler, network, and what turns its outputs into answers.

    Takes float64 (n, columns) with NaN where a cell is empty. Gives probabilities (n, k) or values (n, 1) in float64.

    A number becomes (x - mean) / standard deviation, by the rows of training; an empty cell becomes 0, the mean. Numbers far beyond
    those of training are held at the lowest and highest seen, `REACH` standard deviations further out: what a network says
    there is chance, and floating-point formats would differ about it.
    """

    mean: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor
    target: Tensor

    def __init__(self, network: nn.Module, scale: tuple[np.ndarray, ...], classes: int, target: tuple[float, float]):
        """`scale` as `scale_of` gives it, each (columns,); `target` holds mean and standard deviation of a regression's values."""
        super().__init__()
        self.network = network
        self.classes = classes
        self.dtype = torch.float32
        # As tensors: a number in Python would be one of float32 in the graph.
        for name, values in zip(("mean", "deviation", "low", "high", "target"), (*scale, target), strict=True):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return len(self.mean)

    def standardised(self, features: Tensor) -> Tensor:
        """What the network gets: (n, columns) in its own precision."""
        scaled = (features - self.mean) / self.deviation
        held = torch.minimum(torch.maximum(scaled, self.low), self.high)
        return torch.where(torch.isnan(features), 0.0, held).to(self.dtype)

    def forward(self, features: Tensor) -> Tensor:
        """The answers to feature rows."""
        outputs = self.network(self.standardised(features)).to(torch.float64)
        if self.classes:
            return torch.softmax(logits(outputs), dim=1)
        return outputs.reshape(-1, 1) * self.target[1] + self.target[0]


def logits(outputs: Tensor) -> Tensor:
    """A classifier's outputs as logits (n, k): one output, (n,) or (n, 1), is the logit of the second class."""
    if outputs.dim() == 2 and outputs.shape[1] > 1:
        return outputs
    one = outputs.reshape(-1, 1)
    return torch.cat([torch.zeros_like(one), one], dim=1)


def scale_of(matrix: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean, standard deviation, and the lowest and highest standardised value, each (columns,), of rows (n, columns).

    `numbers` says which columns are numbers, shape (columns,); the others hold zeros and ones and stay as they are. A column that is
    constant or empty throughout is held at 0.
    """
    mean, deviation, low, high = (np.full(len(numbers), value) for value in (0.0, 1.0, 0.0, 1.0))
    for place in np.flatnonzero(numbers):
        seen = matrix[:, place][np.isfinite(matrix[:, place])]
        largest = np.abs(seen).max(initial=0.0)
        part = seen / (largest or 1.0)  # squares of the largest numbers are infinite
        high[place] = 0.0
        mean[place] = part.mean() * largest if len(seen) else 0.0
        if not len(seen) or not (spread := part.std() * largest):
            continue
        deviation[place] = spread
        low[place] = (seen.min() - mean[place]) / spread - REACH
        high[place] = (seen.max() - mean[place]) / spread + REACH
    return mean, deviation, low, high


def precise(module: Any) -> Any:
    """A copy that computes in float64 throughout; None where the network insists on float32."""
    copied = copy.deepcopy(module).double().eval()
    copied.dtype = torch.float64
    try:
        with torch.inference_mode():
            copied(torch.zeros(2, copied.width, dtype=torch.float64))
    except Exception:  # it makes tensors of its own in float32
        return None
    return copied


def ask(module: nn.Module, matrix: np.ndarray) -> np.ndarray:
    """The answers (n, k) or (n, 1) in float64 to a matrix of feature rows (n, columns), in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return module(torch.from_numpy(np.ascontiguousarray(matrix))).numpy().astype(np.float64)
    finally:
        torch.set_num_threads(threads)
