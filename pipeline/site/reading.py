"""Reading what a study left: JSON data as values of annotated types, refused with the place that does not fit.

An atlas may hold a million of these values, so a reader is made once per type.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from pipeline.site.panels import BLOCKS, Block

Reader = Callable[[Any], Any]


class Misfit(Exception):
    """A value does not fit; ``place`` is where, from the value that was given to the reader."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.message, self.place = message, place

    def within(self, place: str) -> Misfit:
        """The same fault, told from the value around."""
        return Misfit(self.message, place + self.place)


def blocks_from_json(text: str) -> tuple[Block, ...]:
    """Read what :func:`pipeline.site.panels.blocks_to_json` wrote.

    Raises:
        ValueError: that is no list of blocks; the message says where and why.
    """
    raw = json.loads(text)
    if not isinstance(raw, list):
        raise ValueError("not a list of blocks")
    return tuple(read_as(Block, part, f"block {index}") for index, part in enumerate(raw))


def read_as(kind: Any, raw: object, where: str) -> Any:
    """JSON data as a value of an annotated type: dataclass, tuple, optional, literal, block or plain.

    Raises:
        ValueError: it does not fit; the message begins with ``where`` and the place within.
    """
    try:
        return _reader(kind)(raw)
    except Misfit as misfit:
        raise ValueError(f"{where}{misfit.place}: {misfit.message}") from None


@cache
def _reader(kind: Any) -> Reader:
    if kind == Block:
        return _block
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return _tuple_reader(args)
    if origin is Literal:
        return _literal_reader(args)
    if origin in (types.UnionType, typing.Union):
        inner = _reader(next(arg for arg in args if arg is not type(None)))
        return lambda raw: None if raw is None else inner(raw)
    return _plain_reader(kind)


def _block(raw: Any) -> Any:
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind not in BLOCKS:
        raise Misfit(f"kind {kind!r} is none of {', '.join(BLOCKS)}")
    block: Any = BLOCKS[kind]
    return _reader(block)(raw)


def _dataclass_reader(kind: Any) -> Reader:
    fields, hints = dataclasses.fields(kind), typing.get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields}
    required = [field.name for field in fields if _is_required(field)]

    def read(raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise Misfit(f"{raw!r} is not an object")
        if unknown := raw.keys() - readers.keys():
            raise Misfit(f"unknown key {min(unknown)!r}; known are {', '.join(readers)}")
        given = {}
        for key, value in raw.items():
            try:
                given[key] = readers[key](value)
            except Misfit as misfit:
                raise misfit.within(f".{key}") from None
        if missing := [name for name in required if name not in given]:
            raise Misfit(f"{missing[0]} is missing")
        return kind(**given)

    return read


def _tuple_reader(args: tuple[Any, ...]) -> Reader:
    if args[-1] is Ellipsis:
        readers, length = [_reader(args[0])], None
    else:
        readers, length = [_reader(arg) for arg in args], len(args)

    def read(raw: Any) -> tuple[Any, ...]:
        if not isinstance(raw, list):
            raise Misfit(f"{raw!r} is not a list")
        if length is not None and length != len(raw):
            raise Misfit(f"{len(raw)} values, expected {length}")
        each = readers if length is not None else readers * len(raw)
        made: list[Any] = []
        try:
            for reader, part in zip(each, raw, strict=True):
                made.append(reader(part))
        except Misfit as misfit:
            raise misfit.within(f"[{len(made)}]") from None
        return tuple(made)

    return read


def _literal_reader(args: tuple[Any, ...]) -> Reader:
    def read(raw: Any) -> Any:
        if raw not in args:
            raise Misfit(f"{raw!r} is none of {', '.join(map(repr, args))}")
        return raw

    return read


def _plain_reader(kind: Any) -> Reader:
    wanted = (int, float) if kind is float else kind
    told = "a number" if kind in (int, float) else "a text"

    def read(raw: Any) -> Any:
        if not isinstance(raw, wanted) or (raw.__class__ is bool and kind is not bool):
            raise Misfit(f"{raw!r} is not {told}")
        return raw

    return read


def _is_required(declared: dataclasses.Field[Any]) -> bool:
    return declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING
