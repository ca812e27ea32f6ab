"""Small step graphs written by hand: an objective with its gradient, normalised ascent, best-so-far, a decoder."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.manifest import Box, StateField, StepGraph, StepManifest

CODE_BOUND = 4.0
LR, LR_END = 0.5, 0.05
TINY = 1e-30


def learning_rates(num_steps: int) -> np.ndarray:
    """The schedule every graph here follows, (num_steps,) float32."""
    return np.linspace(LR, LR_END, num_steps).astype(np.float32)


def make_manifest(*, batch: int, code_dim: int, num_units: int, num_steps: int = 40, image_px: int = 8) -> StepManifest:
    state = (
        StateField("code", (code_dim,), "float32", None),
        StateField("step", (), "int64", 0.0),
        StateField("best_code", (code_dim,), "float32", 0.0),
        StateField("best_activation", (), "float32", float("-inf")),
    )
    box = Box(0, 0, image_px, image_px)
    return StepManifest("fc", "fc", num_units, None, batch, num_steps, code_dim, image_px, box, state)


@dataclass
class Tape:
    """Collects nodes and initializers."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def const(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def floats(self, value: object) -> str:
        return self.const(np.asarray(value, np.float32))

    def ints(self, *value: int) -> str:
        return self.const(np.asarray(value, np.int64))

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def model(self, inputs: dict[str, tuple], outputs: dict[str, tuple]) -> bytes:
        kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        infos = [
            [helper.make_tensor_value_info(name, kinds[dtype], shape) for name, (dtype, shape) in part.items()]
            for part in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, "graph", *infos, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


@dataclass(frozen=True)
class Mlp:
    """activation[u] = top[u] . act(bottom h), act = tanh or relu; the decoder is sigmoid(reshape(paint h)).

    ``bottom`` (hidden, code_dim), ``top`` (num_units, hidden), ``paint`` (3 image_px^2, code_dim).
    """

    bottom: np.ndarray
    top: np.ndarray
    paint: np.ndarray
    act: str = "Tanh"

    @classmethod
    def random(
        cls, *, code_dim: int, num_units: int, hidden: int = 24, image_px: int = 8, act: str = "Tanh", seed: int = 0
    ) -> Mlp:
        rng = np.random.default_rng(seed)
        shapes = ((hidden, code_dim), (num_units, hidden), (3 * image_px**2, code_dim))
        return cls(*(rng.normal(size=s, scale=s[1] ** -0.5).astype(np.float32) for s in shapes), act)

    def manifest(self, batch: int, num_steps: int = 40) -> StepManifest:
        (_, code_dim), num_units = self.bottom.shape, len(self.top)
        px = round((len(self.paint) / 3) ** 0.5)
        return make_manifest(batch=batch, code_dim=code_dim, num_units=num_units, num_steps=num_steps, image_px=px)

    def ascent(self, code: np.ndarray, unit: int) -> tuple[np.float32, np.ndarray]:
        """Activation and gradient (code_dim,) at one code."""
        hidden = self.bottom @ code
        hidden = np.tanh(hidden) if self.act == "Tanh" else np.maximum(hidden, 0)
        slope = 1 - hidden * hidden if self.act == "Tanh" else (hidden > 0).astype(np.float32)
        return self.top[unit] @ hidden, (self.top[unit] * slope) @ self.bottom

    def image(self, code: np.ndarray) -> np.ndarray:
        """What the decoder makes of one code, (3, image_px, image_px)."""
        px = round((len(self.paint) / 3) ** 0.5)
        return (1 / (1 + np.exp(-(self.paint @ code)))).reshape(3, px, px)

    def graph(self, batch: int, num_steps: int = 40) -> StepGraph:
        manifest = self.manifest(batch, num_steps)
        t = Tape()
        hidden = t.op(self.act, t.op("MatMul", "code", t.floats(self.bottom.T)))
        row = t.op("Gather", t.floats(self.top), "unit", axis=0)
        t.op("ReduceSum", t.op("Mul", row, hidden), t.ints(1), keepdims=0, output="activation")
        if self.act == "Tanh":
            slope = t.op("Sub", t.floats(1), t.op("Mul", hidden, hidden))
        else:
            slope = t.op("Cast", t.op("Greater", hidden, t.floats(0)), to=TensorProto.FLOAT)
        gradient = t.op("MatMul", t.op("Mul", row, slope), t.floats(self.bottom))
        return StepGraph(finish(t, manifest, gradient), self._decode(manifest), manifest)

    def _decode(self, manifest: StepManifest) -> bytes:
        t = Tape()
        flat = t.op("MatMul", "code", t.floats(self.paint.T))
        shape = (manifest.batch, 3, manifest.image_px, manifest.image_px)
        t.op("Sigmoid", t.op("Reshape", flat, t.ints(*shape)), output="image")
        return t.model({"code": ("float32", (manifest.batch, manifest.code_dim))}, {"image": ("float32", shape)})


def finish(t: Tape, manifest: StepManifest, gradient: str, gain: float = 1.0) -> bytes:
    """Add ``h += gain lr[step] g / mean|g|``, clip and best-so-far to a tape that holds ``activation``."""
    batch, code_dim = manifest.batch, manifest.code_dim
    # Padded to whole vectors: a runtime may sum a row in an order that depends on where in memory the row begins.
    absolute = t.op("Pad", t.op("Abs", gradient), t.ints(0, 0, 0, -code_dim % 16))
    size = t.op("Mul", t.op("ReduceSum", absolute, t.ints(1), keepdims=1), t.floats(1 / code_dim))
    direction = t.op("Div", gradient, t.op("Max", size, t.floats(TINY)))
    age = t.op("Min", "step", t.const(np.asarray(manifest.steps - 1, np.int64)))
    rate = t.op("Gather", t.floats(gain * learning_rates(manifest.steps)[:, None]), age, axis=0)
    moved = t.op("Add", "code", t.op("Mul", direction, rate))
    t.op("Clip", moved, t.floats(-CODE_BOUND), t.floats(CODE_BOUND), output="code.next")
    better = t.op("Greater", "activation", "best_activation")
    column = t.op("Reshape", better, t.ints(batch, 1))
    t.op("Where", column, "code", "best_code", output="best_code.next")
    t.op("Where", better, "activation", "best_activation", output="best_activation.next")
    t.op("Add", "step", t.const(np.asarray(1, np.int64)), output="step.next")
    t.op("Reshape", size, t.ints(batch), output="gradient")
    state = {f.name: (f.dtype, (batch, *f.shape)) for f in manifest.state}
    scalar = ("float32", (batch,))
    return t.model(
        {"unit": ("int64", (batch,)), **state},
        {**{n + ".next": spec for n, spec in state.items()}, "activation": scalar, "gradient": scalar},
    )


def conv_graph(
    *, batch: int, code_dim: int = 64, num_units: int = 10, side: int = 64, channels: int = 16, num_steps: int = 40,
    gain: float = 1.0, seed: int = 0,
) -> StepGraph:  # fmt: skip
    """A small generator and network at realistic sizes, with the gradient written out.

    code -Gemm-> (channels, side/2, side/2) -leaky-> -ConvTranspose s2-> (channels, side, side) -relu-> -Conv s2->
    (2 channels, side/2, side/2) -relu-> -Conv s2-> (4 channels, side/4, side/4) -relu-> mean -Gemm-> units.
    The decoder is the generator with a 1x1 Conv to RGB and a sigmoid.
    """
    manifest = make_manifest(batch=batch, code_dim=code_dim, num_units=num_units, num_steps=num_steps, image_px=side)
    rng = np.random.default_rng(seed)

    def weight(*shape: int, fan: int) -> np.ndarray:
        return rng.normal(size=shape, scale=(2 / fan) ** 0.5).astype(np.float32)

    c, half, area = channels, side // 2, (side // 4) ** 2
    dense = weight(c * half * half, code_dim, fan=code_dim)
    up = weight(c, c, 4, 4, fan=4 * c)
    down1, down2 = weight(2 * c, c, 3, 3, fan=9 * c), weight(4 * c, 2 * c, 3, 3, fan=18 * c)
    top = weight(num_units, 4 * c, fan=4 * c)
    rgb = weight(3, c, 1, 1, fan=c)
    s2 = {"strides": [2, 2], "pads": [1, 1, 1, 1]}

    def generator(t: Tape) -> tuple[str, str]:
        flat = t.op("Gemm", "code", t.floats(dense), transB=1)
        first = t.op("LeakyRelu", t.op("Reshape", flat, t.ints(batch, c, half, half)), alpha=0.3)
        return first, t.op("Relu", t.op("ConvTranspose", first, t.floats(up), kernel_shape=[4, 4], **s2))

    t = Tape()
    first, image = generator(t)
    hidden1 = t.op("Relu", t.op("Conv", image, t.floats(down1), kernel_shape=[3, 3], **s2))
    hidden2 = t.op("Relu", t.op("Conv", hidden1, t.floats(down2), kernel_shape=[3, 3], **s2))
    pooled = t.op("ReduceMean", hidden2, t.ints(2, 3), keepdims=0)
    scores = t.op("Gemm", pooled, t.floats(top), transB=1)
    chosen = t.op("GatherElements", scores, t.op("Reshape", "unit", t.ints(batch, 1)), axis=1)
    t.op("Reshape", chosen, t.ints(batch), output="activation")

    def masked(cotangent: str, positive: str) -> str:
        return t.op("Where", t.op("Greater", positive, t.floats(0)), cotangent, t.floats(0))

    row = t.op("Gather", t.floats(top / area), "unit", axis=0)
    g = masked(t.op("Reshape", row, t.ints(batch, 4 * c, 1, 1)), hidden2)
    g = t.op("ConvTranspose", g, t.floats(down2), kernel_shape=[3, 3], output_padding=[1, 1], **s2)
    g = masked(g, hidden1)
    g = t.op("ConvTranspose", g, t.floats(down1), kernel_shape=[3, 3], output_padding=[1, 1], **s2)
    g = t.op("Conv", masked(g, image), t.floats(up), kernel_shape=[4, 4], **s2)
    leak = t.op("Where", t.op("Greater", first, t.floats(0)), t.floats(1), t.floats(0.3))
    g = t.op("Reshape", t.op("Mul", g, leak), t.ints(batch, c * half * half))
    step = finish(t, manifest, t.op("MatMul", g, t.floats(dense)), gain)

    d = Tape()
    _, image = generator(d)
    d.op("Sigmoid", d.op("Conv", image, d.floats(rgb), kernel_shape=[1, 1]), output="image")
    decode = d.model({"code": ("float32", (batch, code_dim))}, {"image": ("float32", (batch, 3, side, side))})
    return StepGraph(step, decode, manifest)
