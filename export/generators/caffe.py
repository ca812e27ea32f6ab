"""Weights from a ``.caffemodel``: the few fields of Caffe's NetParameter that hold them, read by protobuf.

OpenCV read such files until its fourth version and no longer does; the tests still use that version as an oracle.
Field numbers: caffe.proto of BVLC/caffe. Layers come as ``layer`` (LayerParameter) or, in files from before 2014, as
``layers`` (V1LayerParameter).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from export.errors import ModelError

_F = descriptor_pb2.FieldDescriptorProto
_TYPES = {"int32": _F.TYPE_INT32, "int64": _F.TYPE_INT64, "float": _F.TYPE_FLOAT, "double": _F.TYPE_DOUBLE}
_TYPES |= {"string": _F.TYPE_STRING}
_MESSAGES = {
    "BlobShape": {"dim": (1, "int64", "packed")},
    "BlobProto": {
        "num": (1, "int32", ""),
        "channels": (2, "int32", ""),
        "height": (3, "int32", ""),
        "width": (4, "int32", ""),
        "data": (5, "float", "packed"),
        "shape": (7, "BlobShape", ""),
        "double_data": (8, "double", "packed"),
    },
    "LayerParameter": {
        "name": (1, "string", ""),
        "type": (2, "string", ""),
        "bottom": (3, "string", "repeated"),
        "top": (4, "string", "repeated"),
        "blobs": (7, "BlobProto", "repeated"),
    },
    "V1LayerParameter": {
        "bottom": (2, "string", "repeated"),
        "top": (3, "string", "repeated"),
        "name": (4, "string", ""),
        "type": (5, "int32", ""),
        "blobs": (6, "BlobProto", "repeated"),
    },
    "NetParameter": {
        "name": (1, "string", ""),
        "layers": (2, "V1LayerParameter", "repeated"),
        "layer": (100, "LayerParameter", "repeated"),
    },
}


@cache
def net_parameter() -> Any:
    """The message class NetParameter; unknown fields are kept and ignored."""
    file = descriptor_pb2.FileDescriptorProto(name="neuron_atlas/caffe.proto", package="caffe", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, mode) in fields.items():
            label = _F.LABEL_REPEATED if mode else _F.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type, added.type_name = _F.TYPE_MESSAGE, f".caffe.{kind}"
            if mode == "packed":
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def read_caffemodel(path: Path) -> dict[str, tuple[npt.NDArray[np.float32], ...]]:
    """Layer name -> its blobs (weights, bias), in the order of the file; layers without weights are left out.

    Raises:
        ModelError: missing, not a caffemodel, or one without weights.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ModelError(f"caffemodel {path} cannot be read: {error.strerror}") from error
    net = net_parameter()()
    try:
        net.ParseFromString(encoded)
    except DecodeError as error:
        raise ModelError(f"{path} is not a .caffemodel: {error}") from error
    blobs = {layer.name: tuple(map(_array, layer.blobs)) for layer in (*net.layers, *net.layer) if layer.blobs}
    if not blobs:
        raise ModelError(f"{path} holds no layer with weights; is it a .caffemodel?")
    return blobs


def _array(blob: Any) -> npt.NDArray[np.float32]:
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    numbers = np.array(blob.data if len(blob.data) else blob.double_data, np.float32)
    if numbers.size != np.prod(shape):
        raise ModelError(f"a caffemodel's blob says its shape is {shape} but holds {numbers.size} numbers")
    return numbers.reshape(shape)
