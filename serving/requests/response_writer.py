"""Answers in JSON, made from a model's columns: an object for each row would take longer than the model."""

import msgspec

from serving.model.contract import Contract
from serving.model.predictor import Outputs

_encode = msgspec.json.Encoder().encode
AT_ONCE = 4_000  # numbers that are written in one go; no other thread runs meanwhile


class AnswerWriter:
    """Writes what a model says about many rows as the JSON list of their answers."""

    def __init__(self, contract: Contract):
        classes = contract.classes
        self._regression = contract.task == "regression"
        # What stands after a row by the number of its rule; the last is of a row that no rule has decided, whose number is -1.
        self._rules = [*(b',"rule":%b},' % _encode(name) for name in contract.rule_names), b"},"]
        # What stands before and between the probabilities of a row, by its class.
        self._heads = [
            b'{"label":%b,"class_id":%d,"probabilities":{%b:' % (_encode(label), position, _encode(classes[0]))
            for position, label in enumerate(classes)
        ]
        self._separators = [b",%b:" % _encode(label) for label in classes[1:]]

    def write(self, outputs: Outputs) -> bytes:
        """[{label, class_id, probabilities}, …] or [{value}, …], with `rule` where one decided; the outputs are finite, and at least one."""
        rows, at_once = len(outputs[-1]), max(1, AT_ONCE // (len(self._heads) or 1))
        if rows <= at_once:
            return self._write(outputs)
        pieces = ([values[start : start + at_once] for values in outputs] for start in range(0, rows, at_once))
        return b"[%b]" % b",".join(self._write(piece)[1:-1] for piece in pieces)

    def _write(self, outputs: Outputs) -> bytes:
        numbers = _encode(outputs[-1].reshape(-1).tolist())[1:-1]
        ends = [self._rules[number] for number in outputs[1].tolist()] if len(self._rules) > 1 else None
        if self._regression and ends:
            written = zip(numbers.split(b","), ends, strict=True)
            return b"[%b]" % b"".join(b'{"value":%b%b' % one for one in written)[:-1]
        if self._regression:
            return b'[{"value":%b}]' % numbers.replace(b",", b'},{"value":')
        positions, parts = outputs[0].reshape(-1).tolist(), numbers.split(b",")
        classes, rows = len(self._heads), len(positions)
        width = 2 * classes + 1
        pieces = [b"}},"] * (width * rows)
        pieces[0::width] = [self._heads[position] for position in positions]
        for number in range(classes):
            pieces[2 * number + 1 :: width] = parts[number::classes]
        for number, separator in enumerate(self._separators, 1):
            pieces[2 * number :: width] = [separator] * rows
        if ends:
            pieces[width - 1 :: width] = [b"}%b" % end for end in ends]
        return b"[%b]" % b"".join(pieces)[:-1]
