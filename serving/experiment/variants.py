"""Which model answers a request, where two do: the subject decides, and the challenger steps aside when it fails."""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from serving.experiment.experiment import A, B, Experiment, position
from serving.experiment.guard import Guard
from serving.http.headers import Header
from serving.log.identity import identity
from serving.log.wire import CHALLENGER, CONTROL, PLAIN
from serving.model.bundle import Bundle
from serving.model.predictor import NoAnswer, Predictor
from serving.model.unseen import Unseen
from serving.requests.response_writer import AnswerWriter

Given = TypeVar("Given")


class Variant:
    """A model as it answers: its version, its rules' names, what it does not know, and where its rows belong in the log."""

    __slots__ = ("after", "background", "contract", "headers", "place", "predictor", "unseen", "write")

    def __init__(self, bundle: Bundle, predictor: Predictor, place: int = PLAIN, headers: list[Header] | None = None):
        self.predictor, self.place, self.headers = predictor, place, headers or []
        self.contract, self.background = bundle.contract, bundle.background
        self.unseen = Unseen(bundle.contract)
        self.write = AnswerWriter(bundle.contract).write
        # What an answer has after its predictions.
        self.after = b',"model_version":%b,"request_id":' % msgspec.json.encode(bundle.release.version)


class Chosen(NamedTuple):
    """The variant that answered, and what an answer of the experiment adds to the counts."""

    variant: Variant
    inside: bool = False  # whether the request belongs to the experiment
    failed: bool = False  # B had no answer, and A gave one
    seconds: float = 0.0  # that the model took which was asked first


class Split:
    """Divides subjects between the two models of an experiment in mode `ab`."""

    def __init__(
        self, experiment: Experiment, production: Bundle, predictor: Predictor, challenger: Bundle, other: Predictor, guard: Guard
    ):  # fmt: skip
        self.guard = guard
        self._salt, self._share = experiment.name, experiment.share
        header = [[(b"x-experiment", f"{experiment.name}={letter}".encode())] for letter in (A, B)]
        self._plain = Variant(production, predictor)
        self._control = Variant(production, predictor, CONTROL, header[0])
        self._challenger = Variant(challenger, other, CHALLENGER, header[1])

    def variant(self, subject: str | None) -> Variant:
        """Whose turn it is; without a subject, or after the experiment has stopped itself, production's outside of it."""
        if subject is None or self.guard.stopped:
            return self._plain
        return self._challenger if position(self._salt, identity(subject)) < self._share else self._control

    def answer(self, subject: str | None, ask: Callable[[Predictor], Given]) -> tuple[Chosen, Given]:
        """Ask the subject's model, and production's where the challenger has no answer; raises NoAnswer when that has none either.

        Thread-safe; `count` what it returns on the thread that counts.
        """
        variant = self.variant(subject)
        if variant is self._plain:
            return Chosen(variant), ask(variant.predictor)
        began = time.perf_counter()
        try:
            given = ask(variant.predictor)
        except NoAnswer:
            if variant is not self._challenger:
                raise
            seconds = time.perf_counter() - began
            return Chosen(self._plain, True, True, seconds), ask(self._plain.predictor)
        return Chosen(variant, True, False, time.perf_counter() - began), given

    def count(self, chosen: Chosen, rows: int) -> str:
        """Count what was answered, and stop the experiment where the challenger does badly: then returns why, else ""."""
        if not chosen.inside:
            return ""
        challenger = chosen.failed or chosen.variant is self._challenger
        return self.guard.count(challenger, chosen.failed, chosen.seconds / rows)
