"""The commands ``gradient`` and ``check``: the gradient compiler without an atlas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import onnx_ir as ir

from export.check_gradient import GradientReport, check_gradient
from export.errors import InputError, StoreError
from export.gradient import gradient_model, node_counts
from export.models import read_model
from pipeline.temporary import replace_file
from pipeline.workspace import network_of

MAX_FILE_BYTES = 2_000_000_000
"""Weights beyond it go to a file of their own: a protobuf ends at 2 GiB."""


def write_gradient(
    model: Path,
    output: Path,
    *,
    of: str | None,
    wrt: Sequence[str],
    cotangent: Literal["input", "ones"],
    shapes: Sequence[str],
) -> Iterator[str]:
    """Write the gradient model; yields what to print: a summary and the path.

    Raises:
        InputError: see :func:`export.gradient.gradient_model`; also an output that cannot be written.
    """
    given = read_shapes(shapes)
    made = gradient_model(read_model(model), of, wrt, cotangent=cotangent, shapes=given)
    write_model(made, output)
    forward, gradient = node_counts(made)
    kinds = Counter(node.op_type for node in made.graph)
    operators = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    yield f"{forward} forward nodes, {gradient} gradient nodes: {operators}"
    yield str(output)


def write_model(model: ir.Model, path: Path) -> None:
    """Write a model whole or not at all; weights over 2 GB go to ``path`` with ``.data`` added.

    Raises:
        InputError: it cannot be written.
    """
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    try:
        if size <= MAX_FILE_BYTES:
            replace_file(path, ir.to_proto(model).SerializeToString(deterministic=True))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        data = f"{path.name}.data"
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder) / path.name
            ir.save(model, part, external_data=data)
            part.with_name(data).replace(path.with_name(data))
            part.replace(path)
    except (OSError, StoreError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = getattr(cause, "strerror", None) or cause
        raise InputError(f"{path} cannot be written: {reason}; choose another file with -o") from error


def read_shapes(texts: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """``NAME=1x3x224x224``, several; ``NAME=`` is a scalar.

    Raises:
        InputError: it does not read so.
    """
    shapes = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        parts = numbers.split("x") if numbers else []
        if not name or not equals or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise InputError(f"--shape {text} is not of the form NAME=1x3x224x224")
        shapes[name] = [int(part) for part in parts]
    return shapes


def check_unit(model: str, layer: str, unit: int, weights: Path | None) -> GradientReport:
    """See :func:`export.check_gradient.check_gradient`."""
    return check_gradient(network_of(model, weights), layer, unit, source=model, weights=weights)
