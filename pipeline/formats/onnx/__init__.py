"""A model as an ONNX graph: converted, run, and made smaller."""
