"""A network as a graph: its operations answer in ONNX Runtime like in PyTorch, for large numbers too."""

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make .venv/torch.ready")
nn = torch.nn

OPERATIONS = {
    "log_sigmoid": nn.functional.logsigmoid,
    "logaddexp": lambda values: torch.logaddexp(values, -values),
    "log_softmax": lambda values: torch.log_softmax(torch.cat([values, -values], dim=1), dim=1),
    "logsumexp": lambda values: torch.logsumexp(torch.cat([values, 3 * values], dim=1), dim=1, keepdim=True),
}


class Single(nn.Module):
    """One operation, in float32 or float64."""

    def __init__(self, operation, dtype):
        super().__init__()
        self.operation, self.dtype = operation, dtype

    def forward(self, rows):
        return self.operation(rows.to(self.dtype)).to(torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_logarithms_of_large_and_small_numbers_are_as_in_pytorch(name, dtype, exporter_read_once):
    """Where a plain formula takes the logarithm of zero, of infinity or of a rounded number, the graph has a better one."""
    from pipeline.formats.networks import graph

    module, rows = Single(OPERATIONS[name], dtype), np.linspace(-200, 200, 2001).reshape(-1, 1)
    session = onnxruntime.InferenceSession(
        graph.export(module, 1, "values").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (given,) = session.run(None, {graph.INPUT: rows})
    trained = module(torch.from_numpy(rows)).numpy()
    assert np.abs(given - trained).max() <= (1e-12 if dtype is torch.float64 else 1e-6 * np.abs(trained).max())
