"""The step-graph compiler: generator -> view -> network, cut at a layer, plus its gradient and the update.

code -> [generator] -> canonical image -> [view, preprocessing] -> [network to the layer] -> select -> activation
activation -> [vjp] -> d activation / d code -> [update] -> next code, best-so-far, step counter
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.cards import GeneratorOutput, NetworkInput
from export.cone import Cone
from export.cone.regions import Region, Span, shape_of, whole
from export.errors import ModelError
from export.generator import Generator
from export.gradient import clean
from export.manifest import Box, StepGraph, StepManifest
from export.memory import live_bytes, weight_bytes
from export.models import OPSET, model_at_opset
from export.network import Network
from export.passes.batchnorm import fold_batchnorm
from export.passes.merge import merge_into
from export.passes.pads import fold_pads
from export.passes.precision import CHECKPOINTS_KEY
from export.passes.shapes import infer_shapes, static_shape
from export.rotation import add_rotation
from export.serialise import serialise
from export.update import Ascent, add_update, state_fields
from export.view import View
from export.vjp import append_gradient
from export.vjp.emit import Emitter


def compile_step(
    network: Network,
    generator: Generator,
    layer: str,
    *,
    batch: int,
    ascent: Ascent,
    decay: float | None = None,
    pre_activation: bool = False,
    cone: bool = True,
    decode: bytes | None = None,
) -> StepGraph:
    """Compile the step graph and the decode graph of one layer.

    Args:
        network: what is explained.
        generator: the image prior.
        layer: the layer, as the user names it.
        batch: number of slots; every tensor's first dimension.
        ascent: optimiser and schedule.
        decay: replaces the prior's decay of every code component.
        pre_activation: maximise the tensor before the layer's saturating activation.
        cone: narrow every tensor to what the unit's position sees; the values are the same without.
        decode: what :func:`compile_decode` made of this generator and batch; compiled unless given.

    Raises:
        ModelError: unknown layer, an image that does not fit the network, or a shape that stays unknown.
        MissingRuleError: operators without a vjp rule; all of them are listed.
    """
    info = network.layer(layer)
    target = info.pre_activation if pre_activation else info.tensor
    if target is None:
        raise ModelError(f"layer {layer!r} has no saturating activation, so there is no pre-activation to maximise")
    prior = generator.prior
    if decay is not None:
        prior = prior.with_decay(decay)
    preprocessing = network.card.input
    view = ascent.view(generator.image_px, preprocessing.height, preprocessing.width)

    body = model_at_opset(network, batch)
    cut_at(body, target)
    fold_batchnorm(body)
    fold_pads(body)
    _check_fit(body.graph, preprocessing, network)
    position = (info.shape[1] // 2, info.shape[2] // 2) if len(info.shape) == 3 else None
    sight = Cone(body.graph, body.graph.outputs[0], position_region(body.graph.outputs[0], position))
    pixels = sight.needed(body.graph.inputs[0])
    _, seen_part = view.part(*pixels[2:], still=True)
    if cone and position is not None:
        sight.narrow(body.graph.inputs[0])
        view, part = view.part(*pixels[2:])
    else:
        part = None

    model = empty_model("step")
    graph = model.graph
    fields = state_fields(ascent, generator.code_dim)
    state = {f.name: add_input(graph, f.name, f.dtype, (batch, *f.shape)) for f in fields}
    unit = add_input(graph, "unit", "int64", (batch,))
    image = generate(graph, generator, batch, state["code"], part)
    e = Emitter(graph, prefix="view")
    seen = look(e, image, view, state["step"], ascent.steps)
    tensors = merge_into(graph, body, "network", {str(body.graph.inputs[0].name): prepare(e, seen, preprocessing)})
    infer_shapes(model)

    e = Emitter(graph, prefix="select")
    activation = _select(e, tensors[target], unit, None if cone else position)
    if info.sign < 0:
        activation = e.op("Neg", activation)
    gradient, checkpoints = _differentiate(e, [activation, tensors[target], image, state["code"]])
    updated = add_update(
        Emitter(graph, prefix="update"), state, activation, gradient, ascent, prior, view.steady(), generator.pace
    )
    outputs = {f"{f.name}.next": updated[f.name] for f in fields}
    outputs |= {"activation": activation, "gradient": updated["gradient"]}
    step = finish(model, outputs, checkpoints)
    manifest = StepManifest(
        layer=layer,
        target=target if pre_activation else layer,
        num_units=info.num_units,
        position=position,
        batch=batch,
        steps=ascent.steps,
        code_dim=generator.code_dim,
        image_px=generator.image_px,
        receptive_field=Box(*(bound for ends in zip(*seen_part, strict=True) for bound in ends)),
        state=fields,
        weight_bytes=weight_bytes(graph),
        live_bytes=live_bytes(graph),
    )
    return StepGraph(step, decode if decode is not None else compile_decode(generator, batch), manifest)


def compile_decode(generator: Generator, batch: int) -> bytes:
    """``code`` (batch, code_dim) -> ``image`` (batch, 3, S, S), canonical and clipped to [0, 1]."""
    model = empty_model("decode")
    code = add_input(model.graph, "code", "float32", (batch, generator.code_dim))
    image = generate(model.graph, generator, batch, code)
    e = Emitter(model.graph, prefix="show")
    zero, one = e.const(np.asarray(0, np.float32)), e.const(np.asarray(1, np.float32))
    return finish(model, {"image": e.op("Clip", image, zero, one)})


def cut_at(model: ir.Model, tensor: str) -> None:
    """Make ``tensor`` the model's only output and drop what it does not need."""
    found = next((v for node in model.graph for v in node.outputs if v.name == tensor), None)
    if found is None:
        raise ModelError(f"the network has no tensor {tensor!r}")
    model.graph.outputs.clear()
    model.graph.outputs.append(found)
    RemoveUnusedNodesPass()(model)


def _check_fit(graph: ir.Graph, preprocessing: NetworkInput, network: Network) -> None:
    shape = static_shape(graph.inputs[0]) if len(graph.inputs) == 1 else None
    wanted = (3, preprocessing.height, preprocessing.width)
    if shape is None or shape[1:] != wanted:
        raise ModelError(
            f"the generator's image does not fit {network.path.name}: the network takes "
            f"{shape[1:] if shape else f'{len(graph.inputs)} inputs'}, but its card says it takes an image {wanted}"
        )


def position_region(of: ir.Value, position: tuple[int, int] | None) -> Region:
    """``of[:, :, row, column]`` as a region; all of a vector layer."""
    region = whole(shape_of(of))
    return region if position is None else (*region[:2], *((at, at + 1) for at in position))


def empty_model(name: str) -> ir.Model:
    graph = ir.Graph([], [], nodes=[], name=name, opset_imports={"": OPSET})
    return ir.Model(graph, ir_version=10, producer_name="neuron-atlas")


def add_input(graph: ir.Graph, name: str, dtype: str, shape: tuple[int, ...]) -> ir.Value:
    kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
    value = ir.Value(name=name, type=kind, shape=ir.Shape(shape))
    graph.inputs.append(value)
    return value


def generate(
    graph: ir.Graph, generator: Generator, batch: int, code: ir.Value, part: tuple[Span, Span] | None = None
) -> ir.Value:
    """code -> canonical image, or the ``part`` of it (rows, columns)."""
    model = model_at_opset(generator, batch)
    fold_batchnorm(model)
    fold_pads(model)
    output = model.graph.outputs[0]
    if part is not None:
        Cone(model.graph, output, (*whole(shape_of(output))[:2], *part)).narrow(model.graph.inputs[0])
    name = str(model.graph.outputs[0].name)
    image = merge_into(graph, model, "generator", {str(model.graph.inputs[0].name): code})[name]
    return _canonical(Emitter(graph, prefix="canonical"), image, generator.card.output)


def _canonical(e: Emitter, image: ir.Value, output: GeneratorOutput) -> ir.Value:
    scale, offset = (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in (output.scale, output.offset))
    if (scale != 1).any():
        image = e.op("Mul", image, e.const(scale))
    if (offset != 0).any():
        image = e.op("Add", image, e.const(offset))
    return _reversed_channels(e, image) if output.channels == "BGR" else image


def look(e: Emitter, image: ir.Value, view: View, step: ir.Value, steps: int) -> ir.Value:
    """The canonical image as the network sees it: ``rows @ image @ columns^T``, matrices chosen by the slot's step."""
    if view.is_identity():
        return image
    age = e.op("Min", step, e.const(np.asarray(steps - 1, np.int64)))
    if view.rotation is not None:
        image = add_rotation(e, image, view.rotation, age)

    def table(matrices: np.ndarray, of_step: np.ndarray) -> ir.Value:
        if len(matrices) == 1:
            return e.const(matrices[0][None, None])
        return e.op("Gather", e.const(matrices[:, None]), e.op("Gather", e.const(of_step), age, axis=0), axis=0)

    rows = e.op("MatMul", table(view.rows, view.row_of_step), image)
    return e.op("MatMul", rows, table(np.ascontiguousarray(view.columns.transpose(0, 2, 1)), view.column_of_step))


def prepare(e: Emitter, image: ir.Value, preprocessing: NetworkInput) -> ir.Value:
    """``(canonical - mean) / std`` in the network's channel order, as one multiplication and one addition."""
    if preprocessing.channels == "BGR":
        image = _reversed_channels(e, image)
    mean, std = (np.asarray(v, np.float64).reshape(1, 3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    scaled = e.op("Mul", image, e.const((1 / std).astype(np.float32)))
    return e.op("Add", scaled, e.const((-mean / std).astype(np.float32)))


def _reversed_channels(e: Emitter, image: ir.Value) -> ir.Value:
    return e.op("Gather", image, e.const(np.asarray([2, 1, 0], np.int64)), axis=1)


def _select(e: Emitter, layer: ir.Value, unit: ir.Value, position: tuple[int, int] | None) -> ir.Value:
    """(batch,) activation of each slot's unit, at ``position`` of a feature map that is not narrowed to it."""
    batch, channels = shape_of(layer)[:2]
    if position is not None:
        start = e.const(np.asarray(position, np.int64))
        end = e.const(np.asarray([p + 1 for p in position], np.int64))
        layer = e.op("Slice", layer, start, end, e.const(np.asarray([2, 3], np.int64)))
    layer = e.reshape(layer, (batch, channels))
    column = e.op("Reshape", unit, e.const(np.asarray([batch, 1], np.int64)))
    chosen = e.op("Equal", e.const(np.arange(channels, dtype=np.int64)[None]), column)
    mask = e.op("Cast", chosen, to=int(ir.DataType.FLOAT))
    return e.op("ReduceSum", e.op("Mul", layer, mask), e.const(np.asarray([1], np.int64)), keepdims=0)


def _differentiate(e: Emitter, path: list[ir.Value]) -> tuple[ir.Value, list[ir.Value]]:
    """The derivative of ``path[0]`` with respect to ``path[-1]``, and the cotangents of the tensors between.

    Requires: every way from the last to the first leads through all of them, so that the parts chain.
    """
    cotangents = [e.const(np.ones(shape_of(path[0]), np.float32))]
    for of, wrt in pairwise(path):
        cotangents += append_gradient(e.graph, of, [wrt], cotangents[-1])
    return cotangents[-1], cotangents[1:-1]


def finish(model: ir.Model, outputs: dict[str, ir.Value], checkpoints: list[ir.Value] | None = None) -> bytes:
    """Name the outputs, clean up, note the cotangents at which a lower precision may rescale, serialise."""
    graph = model.graph
    e = Emitter(graph, prefix="output")
    for name, value in outputs.items():
        out = e.op("Identity", value) if value.is_graph_input() or value.is_graph_output() else value
        out.name = name
        graph.outputs.append(out)
    clean(model)
    if checkpoints:
        model.metadata_props[CHECKPOINTS_KEY] = json.dumps([value.name for value in checkpoints])
    return serialise(model)
