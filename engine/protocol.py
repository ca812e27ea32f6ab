"""What a runtime must offer: a :class:`Builder` that makes an engine, a :class:`Runner` that runs it.

A runtime is one module of ``engine/runtimes/`` that defines ``BUILDER``; adding one more is adding one file. Nothing is
imported and no device is touched before :meth:`Builder.build`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from export.manifest import StepGraph, StepManifest

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Availability:
    """Whether a runtime can run here.

    ``detail`` names the version and device, or the reason it cannot and the remedy.
    """

    ok: bool
    detail: str


@dataclass(frozen=True)
class Scalars:
    """The small per-slot values of the last step that ran. Every field is (num_slots,).

    Attributes:
        activation: float32, the unit's activation at the code the step began with.
        gradient: float32, mean absolute gradient at that code.
        best_activation: float32, the highest activation so far.
        step: int64, steps done.
    """

    activation: npt.NDArray[np.float32]
    gradient: npt.NDArray[np.float32]
    best_activation: npt.NDArray[np.float32]
    step: npt.NDArray[np.int64]


class Runner(Protocol):
    """A loaded engine with its slots. Use as a context manager; leaving it frees the device.

    Attributes:
        manifest: of its step graph.
        num_slots: a multiple of the manifest's batch.
    """

    manifest: StepManifest
    num_slots: int

    def __enter__(self) -> Runner: ...

    def __exit__(self, *exc: object) -> None: ...

    def fill(self, slots: Sequence[int], units: Sequence[int], codes: npt.NDArray[np.float32]) -> None:
        """Put jobs in slots: ``codes`` is (len(slots), code_dim); the other state takes its initial value."""
        ...

    def step(self, count: int) -> None:
        """Run ``count`` steps of every slot; state stays on the device."""
        ...

    def scalars(self) -> Scalars:
        """Copies of the per-slot values after the last step."""
        ...

    def codes(self, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        """Copies of the codes at which the next step of these slots begins, (len(slots), code_dim)."""
        ...

    def best_codes(self, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        """Copies of the best codes so far of these slots, (len(slots), code_dim)."""
        ...

    def decode(self, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Images (n, 3, image_px, image_px), RGB in [0, 1], of any number of codes (n, code_dim).

        Internally padded to the fixed batch; a code's image does not depend on the others.
        """
        ...


class Builder(Protocol):
    """Makes engines of one runtime.

    Attributes:
        name: what users call it.
        rank: of the runtimes that can run here, ``auto`` is the one of the lowest rank.
        device: ``cpu`` or ``gpu``; of a GPU one process at a time has the use.
    """

    name: str
    rank: int
    device: str

    def availability(self) -> Availability:
        """Tell whether this runtime can run here, without touching a device or raising."""
        ...

    def precisions(self) -> Sequence[str]:
        """Precisions it can run, the default first: ``fp32``, ``bf16``, ``fp16``."""
        ...

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        """Build an engine and load it; every slot starts idle (unit 0, zero code).

        Args:
            graph: what to run.
            options: ``threads`` (int, 0 for all cores), ``precision`` (str), ``lanes`` (int): batches that step side by
                side where the runtime can, 1 unless told; ``beside`` (Runner): one of the same builder and thread,
                that takes turns with this one, so that they may share memory. A runtime ignores what has no meaning
                for it.

        Raises:
            EngineError: the runtime refuses the graph or cannot start; the message names the cause and the remedy.
        """
        ...
