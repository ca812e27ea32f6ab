"""The reverse walk: which nodes lie on the path, in what order, and what all rules share.

Fan-out is accumulated, broadcasting undone and dead branches pruned here, once, so that a rule is only its formula.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from export.errors import MissingRuleError, ModelError
from export.passes.shapes import static_shape
from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Rule, Site, find

OLDEST = 13
"""The oldest opset that the emitted nodes are valid in (axes of ReduceSum as an input)."""
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def append_gradient(
    graph: ir.Graph, of: ir.Value, wrt: Sequence[ir.Value], cotangent: ir.Value, prefix: str = "grad"
) -> list[ir.Value]:
    """Append the nodes of ``cotangent^T d(of)/d(wrt)``.

    Weights are frozen: only values between ``wrt`` and ``of`` get a derivative. The new nodes are ordinary nodes of the
    standard domain with known shapes, so a result can be differentiated again.

    Args:
        graph: topologically sorted; changed in place.
        of: what is differentiated.
        wrt: with respect to what.
        cotangent: same shape and dtype as ``of``.
        prefix: first part of the new nodes' names.

    Returns:
        One value per ``wrt``, of its shape and dtype.

    Raises:
        MissingRuleError: operators on the path have no rule; all of them are listed.
        ModelError: a tensor is not floating-point, ``of`` does not depend on one of ``wrt``, a shape on the path is
            unknown, a rule refuses a node, or the opset is older than 13.
    """
    for tensor in (of, *wrt):
        if tensor.dtype not in FLOATS:
            raise ModelError(f"{tensor.name!r} is {tensor.dtype}; only floating-point tensors have a gradient")
        if static_shape(tensor) is None:
            raise ModelError(f"the shape of {tensor.name!r} is not known; export with static shapes")
    if static_shape(cotangent) != shape_of(of) or cotangent.dtype != of.dtype:
        raise ModelError(
            f"the cotangent is {cotangent.dtype}{static_shape(cotangent)}, but {of.name!r} is {of.dtype}{shape_of(of)}"
        )
    nodes = list(graph)
    opset = graph.opset_imports.get("", 1)
    if opset < OLDEST:
        raise ModelError(f"the model uses opset {opset}; convert it to {OLDEST} or later with onnx.version_converter")
    varied = _varied(nodes, wrt, opset)
    path, reached = _path(nodes, of, varied)
    independent = [str(v.name) for v in wrt if v not in reached]
    if independent:
        raise ModelError(
            f"{of.name!r} does not depend on {', '.join(independent)} differentiably; choose another output or input"
        )
    rules = _rules(path, opset)
    _check_shapes(path, varied)

    e = Emitter(graph, prefix)
    cotangents: dict[ir.Value, ir.Value] = {of: cotangent}
    for node in reversed(path):
        incoming = [cotangents.get(v) for v in node.outputs]
        if all(g is None for g in incoming):
            continue
        wanted = [v is not None and v in varied for v in node.inputs]
        site = Site(e, node, incoming, wanted)
        made = rules[node](site)
        for index in (i for i, asked in enumerate(wanted) if asked and i not in made):
            raise site.refuse(f"the derivative with respect to its input {index} is not supported")
        for index, derivative in made.items():
            value = node.inputs[index]
            if value is None or not wanted[index]:
                continue
            derivative = _unbroadcast(e, derivative, shape_of(value))
            earlier = cotangents.get(value)
            cotangents[value] = derivative if earlier is None else e.op("Add", earlier, derivative)
    return [cotangents[v] for v in wrt]


def _inputs(node: ir.Node) -> list[ir.Value]:
    """What a node reads, values that its subgraphs capture included."""
    values = [v for v in node.inputs if v is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            values += [v for inner in attribute.as_graph() for v in _inputs(inner)]
        elif attribute.type == ir.AttributeType.GRAPHS:
            values += [v for graph in attribute.as_graphs() for inner in graph for v in _inputs(inner)]
    return values


def _varied(nodes: list[ir.Node], wrt: Sequence[ir.Value], opset: int) -> set[ir.Value]:
    """Float values that depend on ``wrt`` through operators with a derivative."""
    varied = set(wrt)
    for node in nodes:
        if not any(v in varied for v in _inputs(node)):
            continue
        entry = find(node.op_type, node.domain, opset)
        if entry is not None and entry.rule is None:
            continue
        varied.update(v for v in node.outputs if v.dtype is None or v.dtype in FLOATS)
    return varied


def _path(nodes: list[ir.Node], of: ir.Value, varied: set[ir.Value]) -> tuple[list[ir.Node], set[ir.Value]]:
    """(nodes that the derivative passes, values that get one); it ends at operators whose derivative is zero."""
    path, reached = [], {of} & varied
    for node in reversed(nodes):
        if any(v in reached for v in node.outputs):
            path.append(node)
            reached.update(v for v in _inputs(node) if v in varied)
    return path[::-1], reached


def _rules(path: list[ir.Node], opset: int) -> dict[ir.Node, Rule]:
    found: dict[ir.Node, Rule] = {}
    missing: dict[str, list[str]] = {}
    for node in path:
        entry = find(node.op_type, node.domain, opset)
        if entry is None or entry.rule is None:
            kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            missing.setdefault(kind, []).append(str(node.name or node.outputs[0].name))
        else:
            found[node] = entry.rule
    if missing:
        listing = "; ".join(_missing(kind, names, opset) for kind, names in sorted(missing.items()))
        raise MissingRuleError(f"no vjp rule for {listing}. Add one in export/vjp/rules (see CONTRIBUTING.md)")
    return found


def _missing(kind: str, names: list[str], opset: int) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{kind} (opset {opset}; {len(names)} {'node' if len(names) == 1 else 'nodes'}: {shown})"


def _check_shapes(path: list[ir.Node], varied: set[ir.Value]) -> None:
    for node in path:
        for value in (*node.inputs, *node.outputs):
            if value is not None and value in varied and (static_shape(value) is None or value.dtype is None):
                raise ModelError(
                    f"the shape of {value.name!r} ({node.op_type}) is not known; export with static shapes"
                )


def _unbroadcast(e: Emitter, derivative: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    have = shape_of(derivative)
    if have == shape:
        return derivative
    lead = len(have) - len(shape)
    if lead < 0 or any(s not in (1, h) for s, h in zip(shape, have[lead:], strict=True)):
        # a rule may return less than the full shape (a derivative constant along an axis)
        return e.op("Expand", derivative, e.ints(*shape))
    axes = [*range(lead), *(i + lead for i, s in enumerate(shape) if s == 1 and have[i + lead] != 1)]
    return e.reshape(e.sum(derivative, axes), shape)
