"""The gradient compiler as a tool of its own: an ONNX model in, a stand-alone ONNX model with gradients out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    IdentityEliminationPass,
    InlinePass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
    TopologicalSortPass,
)

from export.errors import ModelError, suggestion
from export.network import LAYERS_KEY
from export.passes.branches import decide_branches
from export.passes.checked import check
from export.passes.constants import fold_constants
from export.passes.shapes import infer_shapes, static_shape
from export.vjp import append_gradient
from export.vjp.emit import Emitter
from export.vjp.registry import find
from export.vjp.walk import FLOATS, OLDEST

LOWEST = 11
"""The oldest opset that is converted."""


def gradient_model(
    model: ir.Model,
    of: str | None = None,
    wrt: str | Sequence[str] | None = None,
    *,
    cotangent: Literal["input", "ones"] = "input",
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> ir.Model:
    """Differentiate a model.

    The result takes the model's inputs and, last, ``cotangent`` (of the shape and dtype of ``of``), and returns ``of``
    and, for each of ``wrt``, ``d_OF/d_WRT = cotangent^T d(of)/d(wrt)`` (of the shape and dtype of ``wrt``). Where the
    graph has a tensor of such a name already, ``_2`` is appended. The nodes added are of the standard domain, and the
    result can be differentiated again. Over 2 GB, save it with ``ir.save(model, path, external_data="NAME.data")``.

    Args:
        model: opset 11 or later (11 and 12 become 13); not changed. Weights are frozen, also those that an old model
            lists among its inputs.
        of: a tensor that the graph computes; by default its only output.
        wrt: tensors of the graph, weights excepted; by default its only floating-point input.
        cotangent: ``ones`` fixes it in the graph: the gradient of the sum of ``of``.
        shapes: by input, for inputs whose dimensions are free: ``{"image": (1, 3, 224, 224)}``.

    Raises:
        ModelError: an unknown name, a choice that must be made, a free dimension, an opset that cannot be converted, or
            something between ``wrt`` and ``of`` that has no gradient (control flow, sequences, quantisation, a shape
            that depends on values); the message says what to do.
        MissingRuleError: operators without a rule; all of them are listed.
    """
    if cotangent not in ("input", "ones"):
        raise ModelError(f"the cotangent is 'input' or 'ones', not {cotangent!r}")
    model = _at_opset(_inlined(model.clone()))
    RemoveInitializersFromInputsPass()(model)
    graph = model.graph
    _fix_shapes(graph, shapes or {})
    target = _computed(graph, of) if of is not None else _only(graph.outputs, "output", "of")
    of, names = str(target.name), _named(graph, [wrt] if isinstance(wrt, str) else wrt)
    graph.outputs.clear()
    graph.outputs.append(target)
    _infer(model)  # drops what of does not need
    (target,), known = graph.outputs, _values(graph)
    if target.type is not None and not isinstance(target.type, ir.TensorType):
        raise ModelError(f"{of!r} is a {_kind(target)}; only tensors have a gradient, so choose one of those")
    apart = [name for name in names if name not in known]
    if apart:
        raise ModelError(f"{of!r} does not depend on {', '.join(apart)}; choose another output or input")
    sources = [known[name] for name in names]
    _refuse(graph, sources, of)
    shape = static_shape(target)
    if shape is None or target.dtype is None:
        raise ModelError(
            f"the shape of {of!r} depends on values, not only on the inputs' shapes; choose a tensor of a fixed shape"
        )

    if cotangent == "ones":
        seed = Emitter(graph, "cotangent").const(np.ones(shape), like=target)
    else:
        seed = ir.Value(name=_unused(graph, "cotangent"), type=ir.TensorType(target.dtype), shape=target.shape)
        graph.inputs.append(seed)
    gradients = append_gradient(graph, target, sources, seed, prefix=f"d_{of}")
    e = Emitter(graph, f"d_{of}/out")
    for name, gradient in zip(names, gradients, strict=True):
        shared = gradient.is_graph_input() or gradient.is_initializer() or gradient in graph.outputs
        out = e.op("Identity", gradient) if shared else gradient
        out.name = _unused(graph, f"d_{of}/d_{name}")
        graph.outputs.append(out)
    clean(model)
    model.metadata_props.pop(LAYERS_KEY, None)
    return model


def clean(model: ir.Model) -> None:
    """Sort, fold, merge equal nodes, drop what is unused, check.

    Equal initializers are not merged: a Conv and a ConvTranspose that share one give wrong results under OpenVINO.

    Ensures: the outputs' names and values are the same.
    """
    TopologicalSortPass()(model)
    IdentityEliminationPass()(model)
    fold_constants(model)
    CommonSubexpressionEliminationPass()(model)
    RemoveUnusedNodesPass()(model)
    check(model)


def node_counts(model: ir.Model) -> tuple[int, int]:
    """(nodes that the first output needs, all others): forward and gradient nodes of a gradient model."""
    needed, num_forward = {model.graph.outputs[0]}, 0
    for node in reversed(list(model.graph)):
        if any(v in needed for v in node.outputs):
            needed.update(_reads(node))
            num_forward += 1
    return num_forward, len(list(model.graph)) - num_forward


def _inlined(model: ir.Model) -> ir.Model:
    try:
        InlinePass()(model)
    except Exception as error:
        raise ModelError(
            f"the model's functions cannot be inlined ({_line(error)}); run onnx.inliner.inline_local_functions on it"
        ) from error
    return model


def _at_opset(model: ir.Model) -> ir.Model:
    """The model at opset 13 or later."""
    opsets = model.graph.opset_imports
    opset = opsets.setdefault("", opsets.pop("ai.onnx", OLDEST))
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(f"the model uses opset {opset}, but the installed onnx knows {newest}; upgrade onnx")
    if opset >= OLDEST:
        return model
    advice = f"export it again with opset {OLDEST} or later"
    if opset < LOWEST:
        raise ModelError(f"the model uses opset {opset}, and only {LOWEST} and later are read; {advice}")
    try:
        return ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), OLDEST))
    except Exception as error:
        raise ModelError(
            f"the model uses opset {opset} and cannot be converted to {OLDEST} ({_line(error)}); {advice}"
        ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _fix_shapes(graph: ir.Graph, shapes: Mapping[str, Sequence[int]]) -> None:
    inputs = {str(v.name): v for v in graph.inputs}
    for name, value in inputs.items():
        if not isinstance(value.type, ir.TensorType):
            raise ModelError(f"input {name!r} is a {_kind(value)}; export the model with tensors only")
    for name, given in shapes.items():
        if name not in inputs:
            known = suggestion(name, inputs) or f"; its inputs are {', '.join(inputs)}"
            raise ModelError(f"the model has no input {name!r}{known}")
        old = inputs[name].shape
        if old is not None and (
            len(old) != len(given) or any(isinstance(o, int) and o != n for o, n in zip(old, given, strict=True))
        ):
            raise ModelError(
                f"input {name!r} has the shape {_shown(old)} and cannot be {list(given)}; give numbers for its free "
                "dimensions only"
            )
        inputs[name].shape = ir.Shape([int(n) for n in given])
    free = {n: v.shape for n, v in inputs.items() if static_shape(v) is None}
    if free:
        example = {n: [d if isinstance(d, int) else 1 for d in shape or [1]] for n, shape in free.items()}
        raise ModelError(
            "; ".join(f"input {n!r} has free dimensions {_shown(shape)}" for n, shape in free.items())
            + ": fix them, for example with "
            + " ".join(f"--shape {n}={'x'.join(map(str, dims))}" for n, dims in example.items())
            + f" (in Python shapes={ {n: tuple(dims) for n, dims in example.items()} })"
        )


def _kind(value: ir.Value) -> str:
    return type(value.type).__name__.removesuffix("Type").lower() if value.type is not None else "value of unknown type"


def _shown(shape: ir.Shape | None) -> str:
    return "of unknown rank" if shape is None else f"[{', '.join(str(d) for d in shape)}]"


def _infer(model: ir.Model) -> None:
    """Shapes from those of the inputs; what was exported for free dimensions becomes constant, branches included."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    fold_constants(model)
    while decide_branches(model):
        fold_constants(model)
    infer_shapes(model)
    fold_constants(model)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    return {str(v.name): v for v in (*graph.inputs, *(v for node in graph for v in node.outputs)) if v.name}


def _unused(graph: ir.Graph, name: str) -> str:
    taken = {*_values(graph), *graph.initializers}
    candidates = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2)))
    return next(c for c in candidates if c not in taken)


def _computed(graph: ir.Graph, name: str) -> ir.Value:
    known = _values(graph)
    inputs, outputs = ([str(v.name) for v in values] for values in (graph.inputs, graph.outputs))
    if name in inputs or name in graph.initializers:
        raise ModelError(f"{name!r} is not computed from the inputs; choose another tensor, for example {outputs[0]}")
    if name not in known:
        near = suggestion(name, known) or f"; its outputs are {', '.join(outputs)}"
        raise ModelError(f"the model has no tensor {name!r}{near}")
    return known[name]


def _named(graph: ir.Graph, names: Sequence[str] | None) -> list[str]:
    """``names``, or that of the only floating-point input."""
    if not names:
        return [str(_only([v for v in graph.inputs if v.dtype in FLOATS], "floating-point input", "wrt").name)]
    known = _values(graph)
    for name in names:
        if name in graph.initializers:
            raise ModelError(f"{name!r} is a weight or constant, and those are frozen; make it an input of the model")
        if name not in known:
            near = suggestion(name, known) or f"; its inputs are {', '.join(str(v.name) for v in graph.inputs)}"
            raise ModelError(f"the model has no tensor {name!r}{near}")
    return list(dict.fromkeys(names))


def _only(values: Sequence[ir.Value], kind: str, option: str) -> ir.Value:
    if len(values) == 1:
        return values[0]
    names = f" ({', '.join(str(v.name) for v in values)})" if values else ""
    raise ModelError(f"the model has {len(values) or 'no'} {kind}s{names}; say which tensor with {option}")


_LOOP = "control flow has no gradient here: export the model with the loop unrolled to a fixed number of iterations"
_SEQUENCE = "sequences have no gradient here: export the model with tensors only"
_QUANTISED = "a quantised model has no useful gradient: differentiate the model as it was before quantisation"
_WITHOUT_GRADIENT = {
    "If": "control flow has no gradient here: export the model with the branch decided",
    **dict.fromkeys(("Loop", "Scan"), _LOOP),
    **dict.fromkeys(
        (
            "SequenceConstruct",
            "SequenceInsert",
            "SequenceErase",
            "SequenceAt",
            "SequenceMap",
            "SplitToSequence",
            "ConcatFromSequence",
            "Optional",
            "OptionalGetElement",
        ),
        _SEQUENCE,
    ),
    **dict.fromkeys(("QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear"), _QUANTISED),
}


def _refuse(graph: ir.Graph, sources: Sequence[ir.Value], of: str) -> None:
    """Refuse what can have no rule, or whose derivative would silently be zero, where the gradient would pass it.

    Requires: nothing in the graph but what ``of`` needs.
    """
    varied, opset = set(sources), graph.opset_imports[""]
    for node in graph:
        if not any(v in varied for v in _reads(node)):
            continue
        why = _QUANTISED if node.op_type.startswith("QLinear") else _WITHOUT_GRADIENT.get(node.op_type)
        if why is None and node.domain not in ("", "ai.onnx"):
            why = f"{node.domain} is not a standard domain: use the model as it was before a runtime optimised it"
        if why is not None:
            raise ModelError(
                f"{node.op_type} node {node.name or node.outputs[0].name!r} lies between "
                f"{', '.join(str(v.name) for v in sources)} and {of}, and {why}"
            )
        entry = find(node.op_type, node.domain, opset)
        if entry is None or entry.rule is not None:
            varied.update(v for v in node.outputs if v.dtype is None or v.dtype in FLOATS)


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, values that its subgraphs capture included."""
    yield from (v for v in node.inputs if v is not None)
    for attribute in node.attributes.values():
        graphs = (
            [attribute.as_graph()]
            if attribute.type == ir.AttributeType.GRAPH
            else attribute.as_graphs()
            if attribute.type == ir.AttributeType.GRAPHS
            else []
        )
        for graph in graphs:
            yield from graph.outputs
            for inner in graph:
                yield from _reads(inner)
