"""The runtimes: every module in this folder that defines ``BUILDER``.

Adding a runtime is adding one module. A module here imports its runtime's library only in ``build``, so that listing
the runtimes is quick and works where none of them is installed.
"""

from __future__ import annotations

from engine.protocol import Builder
from export.errors import InputError, suggestion
from export.plugins import found_in

AUTO = "auto"


def builders() -> dict[str, Builder]:
    """Every runtime by name, in alphabetical order, whether it can run here or not."""
    return {builder.name: builder for builder in found_in(__name__, "BUILDER")}


def get_builder(name: str) -> Builder:
    """Return the runtime called ``name``; ``auto`` is the one of the lowest rank that can run here.

    Raises:
        InputError: there is no such runtime, or it cannot run here; the message names those that can, and why the
            others cannot.
    """
    known = builders()
    states = {other: builder.availability() for other, builder in known.items()}
    able = sorted((other for other, state in states.items() if state.ok), key=lambda other: known[other].rank)
    if name == AUTO and able:
        return known[able[0]]
    choose = f"use one of: {', '.join(able)}" if able else "no runtime can run here"
    if name in known and states[name].ok:
        return known[name]
    if name in known:
        raise InputError(f"runtime {name} cannot run here: {states[name].detail}; {choose}")
    reasons = "".join(f"; {other} cannot run here: {state.detail}" for other, state in states.items() if not state.ok)
    if name == AUTO:
        raise InputError(f"no runtime can run here{reasons}")
    raise InputError(f"there is no runtime {name!r}{suggestion(name, known) or ';'} {choose}{reasons}")
