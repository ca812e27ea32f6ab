"""Reading ONNX files: one place that turns a path into a checked onnx_ir model and a digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from export.errors import ModelError
from export.passes.batch import set_batch
from export.passes.checked import check

ASSETS = Path(__file__).parent / "assets"

OPSET = 20
"""Of everything that is compiled."""


def digest_of(path: Path) -> str:
    """SHA-256 of the file's bytes, hexadecimal.

    Raises:
        ModelError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ModelError(f"model file not found: {path}") from None
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror}") from error


def read_model(path: Path) -> ir.Model:
    """Read and check an ONNX file.

    Raises:
        ModelError: missing, empty, corrupt, or not a valid ONNX graph.
    """
    if not path.is_file():
        raise ModelError(f"model file not found: {path}")
    try:
        proto = onnx.load(path)
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise ModelError(f"{path} is not a readable ONNX file; export it again") from error
    if not proto.graph.node:
        raise ModelError(f"{path} is not a readable ONNX file: it holds no graph; export it again")
    try:
        model = ir.from_proto(proto)
        check(model)
    except (onnx.checker.ValidationError, ValueError, TypeError) as error:
        message = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not a valid ONNX model: {message}") from error
    return model


class ModelSource(Protocol):
    """A network or a generator: a file, and its graph for a batch size."""

    @property
    def path(self) -> Path: ...

    def model(self, batch: int) -> ir.Model: ...


def model_at_opset(source: ModelSource, batch: int) -> ir.Model:
    """The source's graph at OPSET with a static batch.

    Raises:
        ModelError: it cannot be converted.
    """
    model = source.model(batch)
    version = model.graph.opset_imports.get("", OPSET)
    if version == OPSET:
        return model
    try:
        converted = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), OPSET))
    except Exception as error:
        raise ModelError(f"{source.path} uses opset {version} and cannot be converted to {OPSET}: {error}") from error
    set_batch(converted, batch)
    return converted
