"""The training loop: epochs over batches in an order that the seed decides, until the loss on the rows set aside falls no more."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ProjectError
from pipeline.formats.networks.answering import Answering, logits
from pipeline.settings import Network

LINES = 10  # of progress


@dataclass(frozen=True)
class Rows:
    """What the network sees of some rows: standardised features (n, columns), targets (n,), weights (n,)."""

    features: Tensor
    target: Tensor
    weights: Tensor

    def of(self, chosen: Tensor) -> "Rows":
        """Some of them, by place or by mask."""
        return Rows(self.features[chosen], self.target[chosen], self.weights[chosen])

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Epoch:
    """Mean loss of one pass, counted from 1, on the rows that were learned from and on those set aside (NaN without any)."""

    number: int
    learned: float
    aside: float


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Within it the same seed gives the same numbers, whatever the cores of the machine; what was set before is put back."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # sums come out differently when more threads share them
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def rows_of(answering: Answering, matrix: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Rows:
    """Feature rows (n, columns), class positions or values (n,), and sample weights (n,) as the loop uses them."""
    with torch.no_grad():
        features = answering.standardised(torch.from_numpy(matrix))
    middle, spread = answering.target.tolist()
    target = torch.from_numpy(y.astype(np.int64) if answering.classes else ((y - middle) / spread).astype(np.float32))
    given = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    return Rows(features, target, torch.from_numpy((given / given.mean()).astype(np.float32)))


def balanced(rows: Rows, classes: int) -> Rows:
    """The rows with weights by which every class counts the same in total."""
    totals = torch.zeros(classes).index_add(0, rows.target, rows.weights)
    factors = rows.weights.sum() / (classes * totals.clamp(min=torch.finfo(torch.float32).tiny))
    return Rows(rows.features, rows.target, rows.weights * factors[rows.target])


def loss_of(network: nn.Module, rows: Rows, classes: int) -> Tensor:
    """The weighted mean loss: cross entropy of a classifier, squared error of a regression (in standard deviations of the target)."""
    outputs = network(rows.features)
    if classes:
        each = functional.cross_entropy(logits(outputs), rows.target, reduction="none")
    else:
        each = (outputs.reshape(-1) - rows.target) ** 2
    return (each * rows.weights).sum() / rows.weights.sum().clamp(min=torch.finfo(torch.float32).tiny)


def train(answering: Answering, rows: Rows, aside: Rows, settings: Network, seed: int) -> list[Epoch]:
    """Train the network in place and leave it as it was after its best epoch; return what each epoch came to.

    Without rows set aside it is trained for all epochs. Raises ProjectError when the loss is no number any more.
    """
    network, classes = answering.network, answering.classes
    optimiser = torch.optim.AdamW([one for one in network.parameters() if one.requires_grad], lr=settings.learning_rate)
    order = torch.Generator().manual_seed(seed)
    epochs: list[Epoch] = []
    best, kept = float("inf"), 0
    weights = copy.deepcopy(network.state_dict())
    for number in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        for chosen in _batches(len(rows), settings.batch_size, order):
            optimiser.zero_grad()
            loss = loss_of(network, rows.of(chosen), classes)
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(chosen) / len(rows)
        epochs.append(Epoch(number, total, _loss_aside(network, aside, classes)))
        _refuse_what_is_no_number(epochs[-1], settings)
        if len(aside) and epochs[-1].aside < best:
            best, kept, weights = epochs[-1].aside, number, copy.deepcopy(network.state_dict())
        ends = bool(len(aside)) and number - kept >= settings.patience
        if number % max(1, settings.epochs // LINES) == 0 and not ends:
            print(_line(epochs[-1], settings.epochs), flush=True)
        if ends:
            break
    if len(aside):
        network.load_state_dict(weights)
        print(
            f"network: {len(epochs)} epochs; kept as it was after epoch {kept}, loss {best:.4g} on {len(aside)} rows set aside"
        )
    network.eval()
    return epochs


def _batches(count: int, size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Places of rows in random order; a last batch of one row is left out, which batch normalisation cannot take."""
    for chosen in torch.randperm(count, generator=order).split(size):
        if len(chosen) > 1 or count == 1:
            yield chosen


def _loss_aside(network: nn.Module, aside: Rows, classes: int) -> float:
    if not len(aside):
        return float("nan")
    network.eval()
    with torch.inference_mode():
        return float(loss_of(network, aside, classes))


def _refuse_what_is_no_number(epoch: Epoch, settings: Network) -> None:
    if np.isfinite(epoch.learned) and not np.isinf(epoch.aside):
        return
    raise ProjectError(
        f"the network's loss is no finite number any more in epoch {epoch.number}",
        f"lower learning_rate in pipeline.toml [train.network], which is {settings.learning_rate:g}; or look in the network for a "
        "division by zero, or a logarithm or root of what may be negative",
    )


def _line(epoch: Epoch, epochs: int) -> str:
    aside = f", {epoch.aside:.4g} on the rows set aside" if np.isfinite(epoch.aside) else ""
    return f"network: epoch {epoch.number} of {epochs}, loss {epoch.learned:.4g}{aside}"
