"""Shapley values of one answer: what each feature of a row added to it, compared with background rows.

A coalition is a set of features. Its worth is the model's answer to a row that has these features from the row that is explained and the
others from a background row; the values are means over the background rows (interventional; Lundberg and Lee 2017). Features that are the
same in both rows add nothing, so only those that differ are players. All coalitions are asked where they are few; else the features are put
in one after the other, in random orders and in their reverse (Castro, Gómez and Tejada 2009). Either way base and values add up to the
answer.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import comb

import numpy as np

Ask = Callable[[np.ndarray], np.ndarray]  # rows (n, k) to answers (n,)
CHUNK = 500  # rows that are asked together; between two chunks other threads run
PAIRS = 2  # orders with their reverse for each background row, at least: the error cannot be told from fewer
FEWEST = 10  # background rows, at least, where there are so many
SEED = 0  # the same request is explained in the same way each time


@dataclass(frozen=True)
class Shapley:
    """`base` and the `values` (k,) add up to the answer; `error` is the largest standard error of a value, 0 where all are exact."""

    base: float
    values: np.ndarray
    rows: int  # background rows that were used
    evaluations: int  # rows that the model was asked, beside those of the background
    exact: bool
    error: float


def needed(features: int) -> int:
    """The evaluations without which so many features cannot be explained."""
    return FEWEST * 2 * PAIRS * max(1, features - 1)


def explain(ask: Ask, row: np.ndarray, answer: float, background: np.ndarray, given: np.ndarray, most: int) -> Shapley:
    """The Shapley values of the `answer` to a row (k,), with at most so many evaluations; `needed` ones must be allowed.

    `given` (b,) is the model's answers to the background rows (b, k). Rows are float64, or objects. Raises what `ask` raises.
    """
    empty = (background != background) & (row != row)  # NaN is the same as NaN
    differs = ~((background == row) | empty).astype(bool)
    players = differs.sum(axis=1).tolist()
    exact = sum(_subsets(number) for number in players) <= most
    if not exact:
        used = _spread(len(background), most // (2 * PAIRS * max(1, max(players) - 1)))
        background, given, differs = background[used], given[used], differs[used]
        players = [players[place] for place in used]
    rng, each = np.random.default_rng(SEED), most if exact else most // len(background)
    games = [_All(number) if _subsets(number) <= each else _Some(number, each, rng) for number in players]
    worth = _answers(ask, _points(games, row, background, differs))
    values, variance, start = np.zeros(len(row)), np.zeros(len(row)), 0
    for game, base, theirs in zip(games, given.tolist(), differs, strict=True):
        found, spread = game.values(base, worth[start : start + game.size], answer)
        values[theirs] += found
        variance[theirs] += spread
        start += game.size
    count = len(background)
    return Shapley(float(given.mean()), values / count, count, start, exact, float(np.sqrt(variance.max())) / count)


class _All:
    """All coalitions of so many players but the empty and the full one, whose worth is known."""

    def __init__(self, players: int):
        self.players, self.size = players, _subsets(players)

    def masks(self) -> np.ndarray:
        """Who is in each coalition, (size, players)."""
        numbers = np.arange(1, self.size + 1)
        return (numbers[:, None] >> np.arange(self.players) & 1).astype(bool)

    def values(self, base: float, worth: np.ndarray, answer: float) -> tuple[np.ndarray, float]:
        """Each player's value (players,), and its variance, which is none."""
        count = self.players
        if not count:
            return np.zeros(0), 0.0
        # An axis of two for each player, out and in; the last player's bit is the highest.
        worth = np.concatenate([[base], worth, [answer]]).reshape((2,) * count)
        sizes = np.indices((2,) * (count - 1)).sum(axis=0)
        weights = np.array([1 / (count * comb(count - 1, size)) for size in range(count)])[sizes]
        added = [np.diff(worth, axis=count - 1 - player).reshape(weights.shape) for player in range(count)]
        return np.array([(weights * one).sum() for one in added]), 0.0


class _Some:
    """Random orders of so many players and their reverse; each order is walked from nobody to all."""

    def __init__(self, players: int, most: int, rng: np.random.Generator):
        pairs = max(PAIRS, most // (2 * (players - 1)))
        there = rng.permuted(np.tile(np.arange(players), (pairs, 1)), axis=1)
        self.orders = np.stack([there, there[:, ::-1]], axis=1).reshape(-1, players)
        self.size = len(self.orders) * (players - 1)

    def masks(self) -> np.ndarray:
        """Who is in at each step of each walk but its two ends, (size, players)."""
        places, players = np.argsort(self.orders, axis=1), self.orders.shape[1]
        return (places[:, None, :] <= np.arange(players - 1)[None, :, None]).reshape(-1, players)

    def values(self, base: float, worth: np.ndarray, answer: float) -> tuple[np.ndarray, np.ndarray]:
        """Each player's mean value (players,), and the variance of that mean."""
        walks = len(self.orders)
        ends = np.full((walks, 1), base), np.full((walks, 1), answer)
        steps = np.diff(np.concatenate([ends[0], worth.reshape(walks, -1), ends[1]], axis=1))
        added = np.empty_like(steps)
        np.put_along_axis(added, self.orders, steps, axis=1)
        pairs = added.reshape(walks // 2, 2, -1).mean(axis=1)
        return pairs.mean(axis=0), pairs.var(axis=0, ddof=1) / len(pairs)


def _subsets(players: int) -> int:
    """Coalitions of so many players whose worth is not known."""
    return max(0, 2**players - 2)


def _spread(rows: int, most: int) -> list[int]:
    """The places of at most so many rows, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, max(1, most))).astype(int)).tolist()


def _points(
    games: Iterable["_All | _Some"], row: np.ndarray, background: np.ndarray, differs: np.ndarray
) -> Iterator[np.ndarray]:
    """The rows of all coalitions, in pieces (n, k)."""
    for game, other, theirs in zip(games, background, differs, strict=True):
        masks = game.masks()
        for start in range(0, game.size, CHUNK):
            piece = masks[start : start + CHUNK]
            points = np.repeat(other[None, :], len(piece), axis=0)
            points[:, theirs] = np.where(piece, row[theirs], other[theirs])
            yield points


def _answers(ask: Ask, pieces: Iterable[np.ndarray]) -> np.ndarray:
    """The answers to the rows of all pieces, of which several are asked together where they are small."""
    answers, waiting, rows = [np.empty(0)], [], 0
    for piece in pieces:
        waiting.append(piece)
        rows += len(piece)
        if rows >= CHUNK:
            answers.append(ask(np.concatenate(waiting)))
            waiting, rows = [], 0
    if waiting:
        answers.append(ask(np.concatenate(waiting)))
    return np.concatenate(answers)
