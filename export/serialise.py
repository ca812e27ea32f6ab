"""Models as bytes and back; large weights skip protobuf's copies, which took most of a large model's compile time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from export.errors import ModelError
from export.passes.shapes import infer_shapes

LARGE = 4096
"""Bytes from which a weight is written by :func:`serialise` itself."""

_PLAIN = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.INT32}
"""Types whose raw data in ONNX is their memory on a little-endian machine."""

# Fields of onnx.proto whose type is a message or bytes, as protobuf tags: number << 3 | 2
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = (number << 3 | 2 for number in (7, 5, 9))


def serialise(model: ir.Model) -> bytes:
    """The ModelProto that ``ir.to_proto(model)`` gives, its initializers in another order and without their value_info.

    Protobuf joins messages: a second ``graph`` field adds its initializers to those of the first. So the model without
    its large weights is serialised as usual, and a graph of nothing but weights follows, each copied once. Equal models
    give equal bytes.

    Args:
        model: not changed but for the order of its initializers.

    Raises:
        ValueError: it would be over 2 GiB, which protobuf does not read.
    """
    initializers = model.graph.initializers
    large = {
        str(name): value
        for name, value in initializers.items()
        if value.const_value is not None
        and value.const_value.nbytes >= LARGE
        and value.const_value.dtype in _PLAIN
        and not value.is_graph_input()
        and not value.is_graph_output()
    }
    for name in large:
        del initializers[name]
    try:
        proto = ir.to_proto(model)
    finally:
        for value in large.values():
            initializers.add(value)
    small = proto.SerializeToString(deterministic=True)
    parts = [part for name, value in large.items() for part in _initializer(name, value)]
    if not parts:
        return bytes(small)
    size = sum(map(len, parts))
    if len(small) + size >= 1 << 31:
        raise ValueError(f"the model would take {(len(small) + size) / 2**30:.1f} GiB; ONNX files end at 2 GiB")
    return b"".join([small, *_header(_MODEL_GRAPH, size), *parts])


def parse(model: bytes, what: str) -> ir.Model:
    """A serialised model with its shapes inferred; ``what`` names it in the message.

    Raises:
        ModelError: it is no ONNX model.
    """
    try:
        read = ir.from_proto(onnx.load_from_string(model))
        if not list(read.graph):
            raise ValueError("it has no nodes")
    except Exception as error:
        raise ModelError(f"{what} cannot be read: {error}") from error
    infer_shapes(read)
    return read


def _initializer(name: str, value: ir.Value) -> Iterator[Any]:
    assert value.const_value is not None
    array = np.ascontiguousarray(value.const_value.numpy())
    tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=int(value.const_value.dtype))
    head = tensor.SerializeToString(deterministic=True) + b"".join(_header(_TENSOR_RAW_DATA, array.nbytes))
    yield from _header(_GRAPH_INITIALIZER, len(head) + array.nbytes)
    yield head
    yield array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data


def _header(tag: int, size: int) -> tuple[bytes, bytes]:
    return bytes([tag]), _varint(size)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    digits = []
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])
