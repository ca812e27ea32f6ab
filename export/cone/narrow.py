"""Narrow a graph to what a region of one tensor can see: exact, paddings included.

Backwards, every tensor gets the hull of what its readers need; forwards, every node is changed to compute just that,
and a reader that needs less crops. Where an operator mixes all positions (global pooling, attention) the cone ends:
before it everything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from export.cone.regions import Narrowing, Region, hull, shape_of, sizes, whole
from export.cone.rules import RULES
from export.passes.constants import constant_of
from export.passes.shapes import static_shape


class Cone:
    """What a region of a tensor needs of every other, planned once; :meth:`narrow` carries the plan out."""

    def __init__(self, graph: ir.Graph, of: ir.Value, region: Region) -> None:
        """Plan; nothing is changed.

        Requires: topological order, opset 13 or later, static shapes of what ``of`` is computed from.

        Args:
            graph: that holds ``of``.
            of: a tensor.
            region: part of it, one span per axis.
        """
        self._graph, self._of, self._region = graph, of, region
        self._wanted: dict[ir.Value, Region] = {of: region}
        self._plans: dict[ir.Node, Narrowing] = {}
        for node in reversed(list(graph)):
            regions = [self._wanted[v] for v in node.outputs if v in self._wanted]
            if not regions:
                continue
            plan = _narrowed(node, regions)
            self._plans[node] = plan
            for value, need in zip(node.inputs, plan.needs, strict=True):
                if value is None or need is None or constant_of(value) is not None:
                    continue
                known = self._wanted.get(value)
                self._wanted[value] = need if known is None else hull(known, need)

    def needed(self, source: ir.Value) -> Region:
        """What the region sees of ``source``; everything where the cone ends on the way."""
        return self._wanted.get(source) or whole(shape_of(source))

    def narrow(self, source: ir.Value) -> None:
        """Narrow the graph so that the tensor, one of its outputs, holds just the region of what it held. Once.

        Ensures: the values are the same; ``source``, the graph input from which they are computed, has the shape of
        ``needed(source)`` and stands for that part of it.
        """
        graph, of, seen = self._graph, self._of, self.needed(source)
        cropper = _Cropper(graph)
        source.shape = ir.Shape(sizes(seen))
        cropper.have[source] = seen
        for node in list(graph):
            plan = self._plans.get(node)
            if plan is not None:
                _apply(node, plan, cropper)
        last = cropper.crop(of, self._region)
        if last is not of:  # the last node computes more than asked: it ends the cone, or cannot compute just that
            graph.outputs[graph.outputs.index(of)] = last
            of.name, last.name = f"{of.name}/whole", of.name


def _narrowed(node: ir.Node, regions: Sequence[Region]) -> Narrowing:
    outputs = [whole(static_shape(v) or ()) for v in node.outputs]
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is not None and all(static_shape(v) is not None for v in (*node.inputs, *node.outputs) if v is not None):
        out = regions[0]
        for other in regions[1:]:
            out = hull(out, other) if len(other) == len(out) else outputs[0]
        plan = rule(node, out) if out != outputs[0] else None
        if plan is not None and plan.produces[0] != outputs[0]:
            return plan
    return Narrowing(tuple(outputs), tuple(_all_of(v) for v in node.inputs))


def _all_of(value: ir.Value | None) -> Region | None:
    shape = static_shape(value) if value is not None else None
    return None if shape is None else whole(shape)


def _apply(node: ir.Node, plan: Narrowing, cropper: _Cropper) -> None:
    for index, (value, need) in enumerate(zip(node.inputs, plan.needs, strict=True)):
        if value is not None and need is not None:
            node.replace_input_with(index, cropper.crop(value, need, before=node))
    if all(region == whole(static_shape(v) or ()) for v, region in zip(node.outputs, plan.produces, strict=True)):
        return
    for name, attribute in (plan.attributes or {}).items():
        node.attributes.pop(name, None)
        if attribute is not None:
            node.attributes[name] = ir.convenience.convert_attribute(name, attribute)
    for index, numbers in (plan.constants or {}).items():
        node.replace_input_with(index, cropper.constant(np.asarray(numbers, np.int64), f"{node.name}/{index}"))
    for output, region in zip(node.outputs, plan.produces, strict=True):
        cropper.have[output] = region
        output.shape = ir.Shape(sizes(region))


class _Cropper:
    """Knows what every value holds now, and cuts from it what a reader needs, each part once."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.have: dict[ir.Value, Region] = {}
        self._cut: dict[tuple[ir.Value, Region], ir.Value] = {}

    def crop(self, value: ir.Value, need: Region, *, before: ir.Node | None = None) -> ir.Value:
        """``need`` of ``value``, in the coordinates of what it was; a new value unless it holds just that."""
        have = self.have.get(value)
        if have is None:
            have = whole(shape_of(value))
        if have == need:
            return value
        key = (value, need)
        if key not in self._cut:
            self._cut[key] = self._sliced(value, have, need, before)
        return self._cut[key]

    def constant(self, array: np.ndarray, stem: str) -> ir.Value:
        name = f"{stem}/narrow"
        while name in self.graph.initializers:
            name += "_"
        made = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        made.shape, made.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
        self.graph.register_initializer(made)
        return made

    def _sliced(self, value: ir.Value, have: Region, need: Region, before: ir.Node | None) -> ir.Value:
        bounds = [(n[0] - h[0], n[1] - h[0]) for h, n in zip(have, need, strict=True)]
        array = constant_of(value)
        if array is not None:
            return self.constant(np.ascontiguousarray(array[tuple(slice(*b) for b in bounds)]), str(value.name))
        axes = [i for i, (h, n) in enumerate(zip(have, need, strict=True)) if h != n]
        name = f"{value.name}/{'_'.join(f'{a}.{b}' for a, b in need[2:])}"
        inputs = [
            self.constant(np.asarray(numbers, np.int64), name)
            for numbers in ([bounds[i][0] for i in axes], [bounds[i][1] for i in axes], axes)
        ]
        node = ir.node("Slice", [value, *inputs], name=name)
        made = node.outputs[0]
        made.name, made.type, made.shape = name, value.type, ir.Shape(sizes(need))
        if before is None:
            self.graph.append(node)
        else:
            self.graph.insert_before(before, node)
        return made
