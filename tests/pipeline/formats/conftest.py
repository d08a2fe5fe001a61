"""What tests of formats share."""

from functools import cache

import pytest


@pytest.fixture(scope="session")
def exporter_read_once():
    """PyTorch's exporter reads the source of its 500 operators for each graph anew, which is most of its time; here it reads them once."""
    pytest.importorskip("torch", reason="PyTorch is not installed: make .venv/torch.ready")
    from torch.onnx._internal.exporter import _registration

    with pytest.MonkeyPatch.context() as patch:
        read = cache(_registration.ONNXRegistry.from_torchlib)
        patch.setattr(_registration.ONNXRegistry, "from_torchlib", staticmethod(read))
        yield
