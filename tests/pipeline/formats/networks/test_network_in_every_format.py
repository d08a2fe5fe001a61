"""A PyTorch network stored in every format, and opened again."""

import numpy as np

from pipeline.formats import family
from pipeline.formats.comparison import measuring, opening
from pipeline.formats.comparison.writing import Absent, Stored, every_format
from tests.pipeline.formats.networks.made import dataset, fitted, network, served


def test_every_file_of_a_network_answers_like_the_trained_one(tmp_path):
    """TorchScript and .pt2 too, for any number of rows; skops does not store it."""
    data = dataset()
    model = fitted(network(2), data)
    found, _, contract = served(model, data)
    held = data.features[data.holdout]
    trained = family.answer(model, data, held)
    made = {one.name: one for one in every_format(model, data, found.files, contract, trained)}
    assert [name for name, one in made.items() if isinstance(one, Absent)] == ["skops"]
    assert {"TorchScript", ".pt2", "ONNX int8, static"} <= made.keys()
    for one in made.values():
        if isinstance(one, Stored):
            (tmp_path / "file").write_bytes(one.content)
            opened = opening.opened(one.how, tmp_path / "file")
            for rows, answers in ((held, trained), (held.head(1), trained[:1])):
                given = measuring.as_answers(one.ask(opened, one.feed(rows)), answers)
                off = np.abs(given - answers)
                assert off.mean() < 0.02 if "int8" in one.name else off.max() < 1e-5, one.name
