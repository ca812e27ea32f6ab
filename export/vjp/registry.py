"""The table of rules: operator and opset range -> a rule, a stated zero derivative, or nothing (missing)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx_ir as ir

from export.errors import ModelError
from export.passes.constants import constant_of
from export.vjp.emit import Emitter, shape_of

NEWEST = 1 << 30


@dataclass(frozen=True)
class Site:
    """One node being differentiated, as its rule sees it.

    Attributes:
        e: emitter of gradient nodes.
        node: the forward node.
        cotangents: per output, None where nothing depends on it.
        wanted: per input, whether its derivative is asked for.
    """

    e: Emitter
    node: ir.Node
    cotangents: Sequence[ir.Value | None]
    wanted: Sequence[bool]

    @property
    def g(self) -> ir.Value:
        """Cotangent of the first output."""
        if self.cotangents[0] is None:
            raise self.refuse("only its further outputs are used")
        return self.cotangents[0]

    @property
    def x(self) -> ir.Value:
        return self.input(0)

    @property
    def y(self) -> ir.Value:
        return self.node.outputs[0]

    def input(self, index: int) -> ir.Value:
        value = self.node.inputs[index]
        assert value is not None
        return value

    def has(self, index: int) -> bool:
        return len(self.node.inputs) > index and self.node.inputs[index] is not None

    def shape(self, index: int = 0) -> tuple[int, ...]:
        return shape_of(self.input(index))

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute as a plain Python value."""
        if name not in self.node.attributes:
            return default
        value = self.node.attributes[name].value
        return list(value) if isinstance(value, tuple | list) else value

    def ints(self, index: int, default: Sequence[int] | None = None) -> list[int] | None:
        """A constant integer input (axes, pads, ...).

        Raises:
            ModelError: it is computed at run time.
        """
        if not self.has(index):
            return None if default is None else list(default)
        array = constant_of(self.node.inputs[index])
        if array is None:
            raise self.refuse(f"its input {index} is computed at run time")
        return [int(v) for v in array.reshape(-1)]

    def only_input(self, *indices: int) -> None:
        """Refuse a derivative with respect to any other input (weights that depend on the code)."""
        for index, wanted in enumerate(self.wanted):
            if wanted and index not in indices:
                raise self.refuse(f"the derivative with respect to its input {index} is not supported")

    def refuse(self, why: str) -> ModelError:
        return ModelError(f"cannot differentiate {self.node.op_type} node {self.node.name!r}: {why}")


Rule = Callable[[Site], Mapping[int, ir.Value]]
"""Returns input index -> derivative; it may have the output's broadcast shape, the walk reduces it. Inputs that are not
wanted may be left out; the walk refuses a node whose rule leaves out a wanted one."""


@dataclass(frozen=True)
class Entry:
    """An operator from opset ``since`` to ``until``: its rule, or the reason why its derivative is zero."""

    op: str
    since: int
    until: int
    rule: Rule | None
    reason: str


_ENTRIES: dict[str, list[Entry]] = {}


def rule(*ops: str, since: int = 1, until: int = NEWEST) -> Callable[[Rule], Rule]:
    """Register a vjp rule for operators of opset ``since`` to ``until``."""

    def register(function: Rule) -> Rule:
        for op in ops:
            _ENTRIES.setdefault(op, []).append(Entry(op, since, until, function, ""))
        return function

    return register


def zero_derivative(*ops: str, reason: str) -> None:
    """Register operators whose derivative is zero or does not exist, with the reason; PyTorch treats them the same."""
    for op in ops:
        _ENTRIES.setdefault(op, []).append(Entry(op, 1, NEWEST, None, reason))


@cache
def _load() -> None:
    from export.vjp import rules

    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{module.name}")


def find(op: str, domain: str, opset: int) -> Entry | None:
    """The entry for an operator, None when the rule is missing."""
    _load()
    if domain not in ("", "ai.onnx"):
        return None
    return next((e for e in _ENTRIES.get(op, []) if e.since <= opset <= e.until), None)


def entries() -> list[Entry]:
    """Every entry, for tests and documentation."""
    _load()
    return [entry for group in _ENTRIES.values() for entry in group]
