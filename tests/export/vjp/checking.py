"""Differentiating a few nodes of ONNX text and comparing with central differences in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx.reference import ReferenceEvaluator

from export.passes.shapes import infer_shapes, static_shape
from export.vjp import append_gradient
from export.vjp.emit import Emitter

STEP = 1e-6


@dataclass(frozen=True)
class Case:
    """Nodes that compute ``y``.

    Attributes:
        ops: operators whose rules it exercises.
        body: ONNX text.
        inputs: name -> shape (drawn at random) or array; every one is differentiated.
        constants: name -> array, initializers.
        feeds: name -> array, graph inputs that are not differentiated (run-time indices, conditions).
        rtol: of the directional derivative; by default 1e-6, under ONNX Runtime 2e-3, or 1e-4 for a linear operator.
        step: of the central difference in float64.
        opset: of the model.
        positive: draw inputs from (0.5, 1.5) instead of a standard normal.
        runtime: step of the difference under ONNX Runtime in float32, where ONNX's reference is wrong, inexact or slow;
            a linear operator is given 1.0. None: the reference in float64.
    """

    ops: str
    body: str
    inputs: dict[str, Any]
    constants: dict[str, Any] = field(default_factory=dict)
    feeds: dict[str, Any] = field(default_factory=dict)
    rtol: float | None = None
    step: float = STEP
    opset: int = 20
    positive: bool = False
    runtime: float | None = None

    @property
    def dtype(self) -> type[np.floating[Any]]:
        return np.float64 if self.runtime is None else np.float32

    @property
    def tolerance(self) -> float:
        if self.rtol is not None:
            return self.rtol
        return 1e-6 if self.runtime is None else 1e-4 if self.runtime >= 1 else 2e-3

    @property
    def name(self) -> str:
        return f"{self.ops}: {self.body}"

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        arrays = {}
        for name, given in self.inputs.items():
            if isinstance(given, np.ndarray):
                arrays[name] = given.astype(self.dtype)
            else:
                drawn = rng.uniform(0.5, 1.5, given) if self.positive else rng.normal(size=given)
                arrays[name] = np.asarray(drawn, self.dtype)
        return arrays


def parse(case: Case, inputs: dict[str, np.ndarray]) -> ir.Model:
    """The case as a model with static shapes, dtype double."""
    real = "double" if case.runtime is None else "float"
    kinds = {"f": real, "i": "int64", "b": "bool"}

    def declared(name: str, array: np.ndarray) -> str:
        kind = "int32" if array.dtype == np.int32 else kinds[array.dtype.kind]
        return f"{kind}{list(array.shape) if array.ndim else ''} {name}"

    arguments = ", ".join(declared(n, a) for n, a in (inputs | case.feeds).items())
    text = f'<ir_version: 10, opset_import: ["" : {case.opset}]> g ({arguments}) => ({real}[1] y) {{ {case.body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(a.astype(case.dtype) if a.dtype == np.float64 else a, n)
        for n, a in case.constants.items()
    )
    for number, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def value(model: ir.Model, name: str) -> ir.Value:
    found = [v for v in model.graph.inputs if v.name == name]
    return found[0] if found else next(v for n in model.graph for v in n.outputs if v.name == name)


def differentiate(model: ir.Model, wrt: list[str], of: str = "y") -> ir.Model:
    """Add a graph input ``cotangent`` and outputs ``d_NAME``."""
    target = value(model, of)
    cotangent = ir.Value(name="cotangent", type=ir.TensorType(target.dtype), shape=target.shape)
    model.graph.inputs.append(cotangent)
    made = append_gradient(model.graph, target, [value(model, n) for n in wrt], cotangent)
    for name, gradient in zip(wrt, made, strict=True):
        assert static_shape(gradient) == static_shape(value(model, name))
        out = Emitter(model.graph, "out").op("Identity", gradient)
        out.name = f"d_{name}"
        model.graph.outputs.append(out)
    return model


def run(model: ir.Model, feeds: dict[str, np.ndarray], runtime: float | None = None) -> dict[str, np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    if runtime is not None:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))
    evaluator = ReferenceEvaluator(proto)
    return dict(zip(evaluator.output_names, (np.asarray(a) for a in evaluator.run(None, feeds)), strict=True))


def check(case: Case, seed: int = 0) -> ir.Model:
    """Compare three random directional derivatives; return the differentiated model."""
    rng = np.random.default_rng(seed)
    inputs = case.draw(rng)
    forward = parse(case, inputs)
    step, rtol = case.runtime or case.step, case.tolerance
    y = run(forward, inputs | case.feeds, case.runtime)["y"]
    cotangent = rng.normal(size=y.shape).astype(case.dtype)
    model = differentiate(parse(case, inputs), list(inputs))
    gradients = run(model, inputs | case.feeds | {"cotangent": cotangent}, case.runtime)
    np.testing.assert_allclose(gradients["y"], y)
    for _ in range(3):
        direction = {n: rng.normal(size=a.shape).astype(case.dtype) for n, a in inputs.items()}
        sides = [
            run(forward, {n: a + case.dtype(side) * direction[n] for n, a in inputs.items()} | case.feeds, case.runtime)
            for side in (step, -step)
        ]
        numeric = float(((sides[0]["y"] - sides[1]["y"]) / (2 * step) * cotangent).sum())
        ours = float(sum((gradients[f"d_{n}"] * direction[n]).sum() for n in inputs))
        np.testing.assert_allclose(ours, numeric, rtol=rtol, atol=rtol)
    return model


def weights(nodes: list[ir.Node], *kinds: str) -> set[str]:
    """Names of the initializers that nodes of these kinds have as weights."""
    return {str(n.inputs[1].name) for n in nodes if n.op_type in kinds and n.inputs[1] and n.inputs[1].is_initializer()}


def shared_weights(model: ir.Model) -> set[str]:
    """Weights of a Conv as well as of a ConvTranspose: OpenVINO computes wrong results with them."""
    nodes = list(model.graph)
    return weights(nodes, "Conv") & weights(nodes, "ConvTranspose")
