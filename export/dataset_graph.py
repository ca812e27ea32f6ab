"""The dataset graph: one batch of pictures through the network, reduced to running statistics of every unit.

Per layer and unit, over positions: the maximum and where it is; the value at the centre. Over pictures: the k highest
maxima with picture and place, carried from batch to batch; which bin of its histogram every value falls in; sums.
Feature maps never leave the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.forward import add_input, at_centre, begin, finish, flat
from export.network import Network
from export.passes.shapes import shape_of
from export.serialise import serialise
from export.vjp.emit import Emitter

STATE = ("top_value", "top_image", "top_place")
NOTHING = -1
"""Image of a place in the top k that no picture has taken yet."""


@dataclass(frozen=True)
class Target:
    """A tensor whose units are measured.

    Attributes:
        layer: as the user named it.
        target: the layer, or its pre-activation: as records of the store name what was maximised.
        tensor: of the network.
        shape: (C, H, W) or (C,).
    """

    layer: str
    target: str
    tensor: str
    shape: tuple[int, ...]

    @property
    def num_units(self) -> int:
        return self.shape[0]


@dataclass(frozen=True)
class DatasetGraph:
    """A serialised model and what it takes and gives.

    Inputs: ``image`` (batch, H, W, 3) uint8 RGB of the network's size; ``index`` (batch,) int64: number of the picture,
    :data:`NOTHING` for padding; ``origin`` and ``per_width`` (columns,) float32: left end of the histogram, and bins
    per unit of activation; and the state ``top_value`` (top, units) float32 (-inf at first), ``top_image``,
    ``top_place`` (top, units) int64.

    Outputs: the state as ``NAME.next``, ordered from the highest; ``value`` (batch, columns) float32;
    ``place`` (batch, units) int64: row x W + column of the maximum; ``bin`` (batch, columns) int32: -1 below the
    histogram, ``bins`` above it, and for padding.

    ``units`` are those of all targets one after the other. ``columns`` are twice as many: maxima, then centres.

    Attributes:
        model: ONNX.
        targets: in the order of the columns.
        batch: pictures at a time.
        top: pictures kept per unit.
        bins: of a histogram.
    """

    model: bytes
    targets: tuple[Target, ...]
    batch: int
    top: int
    bins: int

    @property
    def num_units(self) -> int:
        return sum(target.num_units for target in self.targets)

    @property
    def num_columns(self) -> int:
        return 2 * self.num_units


def compile_dataset(network: Network, targets: Sequence[Target], *, batch: int, top: int, bins: int) -> DatasetGraph:
    """Compile the dataset graph.

    Raises:
        ModelError: a target that the network lacks.
    """
    model, tensors = begin(network, [target.tensor for target in targets], batch=batch)
    graph = model.graph
    units = sum(target.num_units for target in targets)
    index = add_input(graph, "index", ir.DataType.INT64, (batch,))
    origin, per_width = (add_input(graph, n, ir.DataType.FLOAT, (2 * units,)) for n in ("origin", "per_width"))
    kinds = (ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT64)
    state = [add_input(graph, name, kind, (top, units)) for name, kind in zip(STATE, kinds, strict=True)]
    e = Emitter(graph, prefix="reduce")
    maxima, places, centres = [], [], []
    for target in targets:
        value = tensors[target.tensor]
        positions = flat(e, value)
        maxima.append(e.op("ReduceMax", positions, e.ints(2), keepdims=0))
        places.append(e.op("ArgMax", positions, axis=2, keepdims=0))
        centres.append(at_centre(e, value))
    maximum, place, centre = (_joined(e, values) for values in (maxima, places, centres))
    value = _joined(e, [maximum, centre])
    scaled = e.op("Floor", e.op("Mul", e.op("Sub", value, origin), per_width))
    bounded = e.op("Clip", scaled, e.const(np.float32(-1)), e.const(np.float32(bins)))
    outputs = {"value": value, "place": place, "bin": e.op("Cast", bounded, to=int(ir.DataType.INT32))}
    outputs |= _best(e, state, maximum, index, place, top)
    finish(model, outputs)
    return DatasetGraph(serialise(model), tuple(targets), batch, top, bins)


def _best(
    e: Emitter, state: Sequence[ir.Value], value: ir.Value, index: ir.Value, place: ir.Value, top: int
) -> dict[str, ir.Value]:
    """The ``top`` highest of what was kept and what is new; of equal ones the earlier picture."""
    batch, units = shape_of(value)
    image = e.op("Expand", e.reshape(index, (batch, 1)), e.ints(batch, units))
    padding = e.op("Less", image, e.const(np.int64(0)))
    value = e.op("Where", padding, e.const(np.float32(-np.inf)), value)
    rows = [e.op("Concat", kept, new, axis=0) for kept, new in zip(state, (value, image, place), strict=True)]
    node = ir.node("TopK", [rows[0], e.ints(top)], attributes={"axis": 0}, num_outputs=2, name="reduce/top")
    best, which = node.outputs
    best.name, which.name = "reduce/top/value", "reduce/top/which"
    best.type, which.type = ir.TensorType(ir.DataType.FLOAT), ir.TensorType(ir.DataType.INT64)
    best.shape = which.shape = ir.Shape((top, units))
    e.graph.append(node)
    picked = [e.op("GatherElements", row, which, axis=0) for row in rows[1:]]
    return {f"{name}.next": value for name, value in zip(STATE, (best, *picked), strict=True)}


def _joined(e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
    return values[0] if len(values) == 1 else e.op("Concat", *values, axis=1)
