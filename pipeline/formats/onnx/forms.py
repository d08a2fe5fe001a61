"""The forms of an estimator as ONNX, by skl2onnx."""

from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError
from pipeline.formats.family import Candidate, Forms
from pipeline.formats.onnx import conversion

# In this order: one matrix is the fastest to serve, text needs a column each; trees compare in float32 and are most faithful
# there, linear models in float64.
FORMS = (("matrix", "float32"), ("columns", "float32"), ("matrix", "float64"), ("columns", "float64"))


def forms(model: Any, dataset: Dataset) -> Forms:
    """A fitted estimator in each layout, or the reason why it does not convert; after a conversion that did not end, no other."""
    layouts = [one for one in FORMS if one[0] == "columns" or "text" not in dataset.kinds.values()]
    try:
        with conversion.converting(model, dataset.kinds, bool(dataset.classes)) as convert:
            for layout, dtype in layouts:
                try:
                    graph, form = convert(layout, dtype)
                except conversion.UnendedError:
                    raise
                except PortabilityError as error:
                    yield error
                    continue
                yield candidate(graph, form)
    except PortabilityError as error:
        yield error


def candidate(graph: bytes, form: dict[str, Any]) -> Candidate:
    """A graph as a form to serve; `form` is the contract's part `onnx`."""
    return Candidate("ONNX", {"model.onnx": graph}, {"format": "onnx", "onnx": form})
