"""Vector-Jacobian products as ONNX: differentiate an ONNX graph by appending ONNX nodes to it."""

from export.vjp.walk import append_gradient

__all__ = ["append_gradient"]
