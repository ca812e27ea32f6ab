"""Declared priors: from ``prior = ...`` of a configuration to a :class:`export.prior.CodePrior`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import InputError
from export.prior import CodePrior, Vector


class Options:
    """The keys of one declared prior, for :meth:`CodePrior.from_options`; each is taken once, the rest are faults.

    Args:
        raw: key -> number, or path of a file of numbers.
        code_dim: components of the code.
        statistics: mean, standard deviation and bounds that the generator came with.
        folder: where relative paths start.
    """

    def __init__(self, raw: Mapping[str, Any], code_dim: int, statistics: CodePrior | None, folder: Path) -> None:
        self._raw, self.code_dim, self.statistics, self._folder = dict(raw), code_dim, statistics, folder
        self._known: list[str] = []

    def number(self, name: str, default: float, *, low: float = 0.0, high: float = np.inf) -> float:
        """A number in (low, high].

        Raises:
            InputError: it is none, or out of range.
        """
        self._known.append(name)
        value = self._raw.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
            limit = f" and at most {high:g}" if np.isfinite(high) else ""
            raise InputError(f"{name} = {value!r} is wrong; expected a number above {low:g}{limit}")
        return float(value)

    def vector(self, name: str, default: float | Vector) -> Vector:
        """(code_dim,) float32: a number for all, or a file of one number or code_dim numbers.

        Raises:
            InputError: the file is missing, unreadable or of another length.
        """
        self._known.append(name)
        value = self._raw.pop(name, default)
        if isinstance(value, str):
            value = read_numbers(self._folder / value, name)
        array = np.asarray(value, np.float32)
        if array.ndim > 1 or array.size not in (1, self.code_dim):
            raise InputError(f"{name} holds {array.size} numbers, but the generator's code has {self.code_dim}")
        return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), self.code_dim))

    def mean_and_std(self) -> tuple[Vector, Vector]:
        """As declared, else as measured, else 0 and 1."""
        known = self.statistics
        mean = self.vector("mean", 0.0 if known is None else known.mean)
        std = self.vector("std", 1.0 if known is None else known.std)
        return mean, std

    def finish(self, kind: str) -> None:
        """Say which keys are left.

        Raises:
            InputError: the kind does not know them.
        """
        if self._raw:
            left = ", ".join(sorted(self._raw))
            raise InputError(f"unknown key {left} of prior {kind}; known are {', '.join(self._known) or 'none'}")


def read_numbers(path: Path, name: str = "high") -> Vector:
    """Numbers from ``.npy``, ``.npz`` (the array called ``name``, or the only one) or text such as the published
    ``act_range`` files.

    Raises:
        InputError: missing, or not numbers.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                array = file[name if name in file.files else file.files[0]]
        elif path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
        else:
            array = np.array(path.read_text().replace(",", " ").split(), np.float32)
        return np.asarray(array, np.float32).reshape(-1)
    except FileNotFoundError:
        raise InputError(f"file of the prior's {name} not found: {path}") from None
    except Exception as error:
        raise InputError(f"{path} does not hold the prior's {name} as numbers: {error}") from error


Declaration = str | Mapping[str, Any] | list[Any] | tuple[Any, ...]
"""``"gaussian"``, ``{"kind": "box", "high": "fc6.txt"}``, or a list of these, one per part of the code."""


def make_prior(
    declared: Declaration,
    parts: tuple[int, ...],
    statistics: CodePrior | None = None,
    folder: Path = Path(),
) -> CodePrior:
    """Make a declared prior.

    Args:
        declared: a kind, or a table with the kind and its options; or a list of such, one per part of the code.
        parts: lengths of the generator's inputs, whose concatenation is the code; a list whose tables give ``size``
            may divide it otherwise.
        statistics: what the generator came with.
        folder: where relative paths start.

    Raises:
        InputError: an unknown kind or key, a wrong value, a file of another length, or parts that do not add up.
    """
    from export.priors import kind_of
    from export.priors.joint import JointPrior

    if isinstance(declared, list | tuple):
        tables = [{"kind": t} if isinstance(t, str) else dict(t) for t in declared]
        given = [t.pop("size", None) for t in tables]
        sizes = tuple(size for size in given if isinstance(size, int))
        sizes = sizes if len(sizes) == len(given) else parts
        if len(sizes) != len(tables) or sum(sizes) != sum(parts):
            raise InputError(
                f"the prior declares {len(tables)} parts of sizes {given}, but the code has {sum(parts)} components "
                f"in parts {list(parts)}; give each part a size"
            )
        starts = np.cumsum([0, *sizes])
        known = [
            None if statistics is None else _slice(statistics, a, a + n) for a, n in zip(starts, sizes, strict=False)
        ]
        made = [make_prior(t, (n,), k, folder) for t, n, k in zip(tables, sizes, known, strict=True)]
        return JointPrior.of(made)
    table = {"kind": declared} if isinstance(declared, str) else dict(declared)
    if "kind" not in table:
        raise InputError(f"a prior needs a kind: {table}")
    kind = kind_of(str(table.pop("kind")))
    options = Options(table, sum(parts), statistics, folder)
    try:
        prior = kind.from_options(options)
        options.finish(kind.kind)
        return prior.check("the declared prior")
    except InputError as error:
        raise InputError(f"prior {kind.kind}: {error}") from error


def _slice(prior: CodePrior, start: int, end: int) -> CodePrior:
    """The part [start, end) of a prior's statistics; a kind that binds components together loses its constraint."""
    from export.priors.none import NoPrior

    if any(getattr(prior, f.name).shape != prior.mean.shape for f in fields(prior)):
        return NoPrior(prior.mean[start:end], prior.std[start:end])
    return replace(prior, **{f.name: getattr(prior, f.name)[start:end] for f in fields(prior)})
