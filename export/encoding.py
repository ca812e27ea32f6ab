"""Image -> code: the encoder's own code of an image, and a step of refining it, as ONNX graphs.

    image -> [view, preprocessing] -> [encoder to its layers] -> pooled / std, whitened map -> code
    code -> [generator] -> image';  distance to the image -> [vjp] -> [update] -> next code

No training framework runs: the gradient is the compiler's, the update that of the step graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import InputError, ModelError
from export.generator import Generator
from export.manifest import StateField
from export.network import Network, resolve_network
from export.passes.batchnorm import fold_batchnorm
from export.passes.merge import merge_into
from export.passes.pads import fold_pads
from export.passes.shapes import infer_shapes
from export.prior import CodePrior
from export.step import add_input, empty_model, finish, generate, look, prepare
from export.update import Ascent, add_update, state_fields
from export.view import make_view
from export.vjp import append_gradient
from export.vjp.emit import Emitter, shape_of

COARSE_PX = 8
"""Side of the blocks whose means are compared as well as pixels, so that colours and layout come first."""
COARSE_WEIGHT = 4.0


@dataclass(frozen=True)
class EncoderFacts:
    """What a generator's files say of its encoder.

    Attributes:
        source: the network, as the trainer named it.
        digest: of the network.
        grid: side of the spatial code.
        global_layer: averaged over positions, divided by ``global_std``; None without a global code.
        spatial_layer: averaged to the grid and whitened; None without a spatial code.
        arrays: ``global_std`` (G,), ``spatial_mean`` (C,) or of the whole map (C, grid, grid), ``whitening`` (C, S) or
            (C grid^2, S); those that the code needs.
    """

    source: str
    digest: str
    grid: int
    global_layer: str | None
    spatial_layer: str | None
    arrays: dict[str, npt.NDArray[np.float32]]


def encoder_facts(generator: Generator) -> EncoderFacts | None:
    """What the generator was trained to invert; None for one that does not say.

    Raises:
        ModelError: the file of the encoder's statistics is damaged.
    """
    layers: Any = (generator.card.model_extra or {}).get("encoder_layers")
    path = generator.path.with_suffix(".encoder.npz")
    if layers is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float32) for name in file.files}
        needed = ["global_std"] if layers["global_layer"] else []
        needed += ["spatial_mean", "whitening"] if layers["spatial_layer"] else []
        return EncoderFacts(
            layers["source"],
            layers["digest"],
            int(layers["grid"]),
            layers["global_layer"],
            layers["spatial_layer"],
            {name: arrays[name] for name in needed},
        )
    except Exception as error:
        raise ModelError(f"{path} does not hold the encoder's statistics: {error!r}; publish it again") from error


def open_encoder(facts: EncoderFacts, cache: Path, network: Network | None = None) -> Network:
    """The encoder that the statistics were measured on.

    Args:
        facts: of the generator.
        cache: for networks exported from PyTorch.
        network: given by the user, where the source alone does not say (weights of their own).

    Raises:
        ModelError: it cannot be opened, or is not the one that the generator was trained for.
    """
    network = network or resolve_network(facts.source, cache=cache)
    if network.digest != facts.digest:
        raise ModelError(
            f"{network.card.title} is not the encoder that the generator was trained for ({facts.source}, "
            f"{facts.digest[:12]}); give that one with --encoder"
        )
    return network


def compile_encoder(generator: Generator, network: Network, facts: EncoderFacts, batch: int) -> bytes:
    """``image`` (batch, 3, S, S), canonical, S the generator's side -> ``code`` (batch, code_dim)."""
    model = empty_model("encode")
    graph = model.graph
    side = generator.image_px
    image = add_input(graph, "image", "float32", (batch, 3, side, side))
    e = Emitter(graph, prefix="view")
    card = network.card.input
    view = make_view(side, card.height, card.width, fit="resize", jitter_px=0, steps=1)
    seen = look(e, image, view, e.const(np.zeros(batch, np.int64)), 1)
    body = network.model(batch)
    names = [name for name in (facts.global_layer, facts.spatial_layer) if name is not None]
    tensors = {name: network.layer(name).tensor for name in names}
    values = {v.name: v for node in body.graph for v in node.outputs}
    body.graph.outputs.clear()
    body.graph.outputs.extend(values[tensor] for tensor in dict.fromkeys(tensors.values()))
    fold_batchnorm(body)
    fold_pads(body)
    merged = merge_into(graph, body, "encoder", {str(body.graph.inputs[0].name): prepare(e, seen, card)})
    infer_shapes(model)
    e = Emitter(graph, prefix="code")
    parts = []
    if facts.global_layer is not None:
        pooled = merged[tensors[facts.global_layer]]
        if len(shape_of(pooled)) == 4:
            pooled = e.mean(pooled, (2, 3))
        pooled = e.reshape(pooled, shape_of(pooled)[:2])
        parts.append(e.op("Mul", pooled, e.const((1 / facts.arrays["global_std"])[None])))
    if facts.spatial_layer is not None:
        parts.append(_whitened(e, merged[tensors[facts.spatial_layer]], facts))
    code = parts[0] if len(parts) == 1 else e.op("Concat", *parts, axis=1)
    if shape_of(code)[1] != generator.code_dim:
        raise ModelError(
            f"the encoder gives codes of {shape_of(code)[1]}, but the generator takes {generator.code_dim}; "
            "publish it again"
        )
    return finish(model, {"code": code})


def _whitened(e: Emitter, spatial: ir.Value, facts: EncoderFacts) -> ir.Value:
    """``(mean over the grid's cells - mean) @ whitening``: of every cell, as (S, grid, grid), or of the whole map."""
    batch, _, height, width = shape_of(spatial)
    if (height, width) != (facts.grid, facts.grid):
        rows, columns = pooling_matrix(height, facts.grid), pooling_matrix(width, facts.grid)
        spatial = e.op("MatMul", e.const(rows[None, None]), spatial)
        spatial = e.op("MatMul", spatial, e.const(np.ascontiguousarray(columns.T)[None, None]))
    mean, whitening = facts.arrays["spatial_mean"], facts.arrays["whitening"]
    if mean.ndim == 3:
        flat = e.reshape(spatial, (batch, mean.size))
        return e.op("MatMul", e.op("Sub", flat, e.const(mean.reshape(1, -1))), e.const(whitening))
    kernel = np.ascontiguousarray(whitening.T)[:, :, None, None]
    bias = (-mean.astype(np.float64) @ whitening).astype(np.float32)
    made = e.op("Conv", spatial, e.const(kernel), e.const(bias))
    return e.reshape(made, (batch, math.prod(shape_of(made)[1:])))


def pooling_matrix(size: int, out: int) -> npt.NDArray[np.float32]:
    """Adaptive average pooling of ``size`` samples to ``out``, as PyTorch cuts them; (out, size)."""
    matrix = np.zeros((out, size), np.float32)
    for cell in range(out):
        first, last = cell * size // out, -((cell + 1) * size // -out)
        matrix[cell, first:last] = 1 / (last - first)
    return matrix


def refining(steps: int, lr: float) -> Ascent:
    """The schedule of refining: Adam with long memories, the rate falling to 0."""
    return Ascent(kind="adam", steps=steps, lr=lr, lr_end=0.0, warmup=0, beta1=0.9, beta2=0.99)


def undecayed(prior: CodePrior) -> CodePrior:
    """The prior without its decay, which would pull a code away from its image; kinds without one as they are."""
    try:
        return prior.with_decay(1.0)
    except InputError:
        return prior


def compile_refine(generator: Generator, ascent: Ascent, batch: int) -> tuple[bytes, tuple[StateField, ...]]:
    """One step towards an image.

    Inputs: ``target`` (batch, 3, S, S), canonical, and every field of the state; outputs ``NAME.next``, and
    ``distance`` (batch,): mean squared error of pixels plus four times that of 8x8 means, at the code that came in.
    ``best_code`` is the best so far.
    """
    model = empty_model("refine")
    graph = model.graph
    side = generator.image_px
    fields = state_fields(ascent, generator.code_dim)
    state = {f.name: add_input(graph, f.name, f.dtype, (batch, *f.shape)) for f in fields}
    target = add_input(graph, "target", "float32", (batch, 3, side, side))
    image = generate(graph, generator, batch, state["code"])
    infer_shapes(model)
    e = Emitter(graph, prefix="distance")
    error = e.op("Sub", image, target)
    distance = _squares(e, error)
    if side % COARSE_PX == 0:
        coarse = e.op("AveragePool", error, kernel_shape=[COARSE_PX] * 2, strides=[COARSE_PX] * 2)
        distance = e.op("Add", distance, e.mul(_squares(e, coarse), COARSE_WEIGHT))
    closeness = e.op("Neg", distance)
    (gradient,) = append_gradient(graph, closeness, [state["code"]], e.const(np.ones(batch, np.float32)))
    recorded = np.ones(ascent.steps, bool)
    update = Emitter(graph, prefix="update")
    updated = add_update(update, state, closeness, gradient, ascent, undecayed(generator.prior), recorded)
    return finish(model, {f"{f.name}.next": updated[f.name] for f in fields} | {"distance": distance}), fields


def _squares(e: Emitter, error: ir.Value) -> ir.Value:
    """(batch,) mean square."""
    batch, *rest = shape_of(error)
    rows = e.reshape(e.op("Mul", error, error), (batch, math.prod(rest)))
    return e.mul(e.sum(rows, [1], keepdims=False), 1 / math.prod(rest))
