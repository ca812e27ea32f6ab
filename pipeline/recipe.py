"""Recipes: everything that determines a job's result, and the key under which results are stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from export.manifest import GRAPH_REVISION
from export.prior import CodePrior

KEY_LENGTH = 20
LATER = ("attempts", "candidates", "start", "film")
"""Fields that the first recipes had not."""


@dataclass(frozen=True)
class Recipe:
    """What determines the results of one (layer, seed).

    Threads are not part of it: see ``deploy/README.md`` for what is promised across machines.

    Attributes:
        network: digest of the network.
        generator: digest of the generator.
        prior: digest of the code statistics, bounds and decay.
        layer: the layer, as the user named it; start codes depend on the name.
        target: the tensor that is maximised.
        fallback: the tensor that is maximised where the target is dead, None when there is none.
        ascent: optimiser and schedule.
        stop: when a job ends.
        poll_every: steps between looks at the slots.
        start_scale: spread of the start codes.
        candidates: codes that are tried as starts, see :mod:`pipeline.candidates`; None where jobs start at the mean.
        attempts: ``count`` per job and ``trial_steps``, see :class:`engine.slots.Schedule`; None where there is one.
        start: digest of the codes of an earlier network that the jobs start from, see :mod:`pipeline.warm`; None where
            they start from drawn codes.
        runtime: its name.
        runtime_version: its version.
        precision: of the step graph.
        batch: number of slots; a runtime may sum in another order in another batch.
        seed: chooses the start codes.
        film: the frames that are kept of each climb, see :mod:`pipeline.films`; None where there are none. It changes
            no other number, but what is stored.
        graph_revision: of the compiler.
    """

    network: str
    generator: str
    prior: str
    layer: str
    target: str
    fallback: str | None
    ascent: dict[str, Any]
    stop: dict[str, Any]
    poll_every: int
    start_scale: float
    runtime: str
    runtime_version: str
    precision: str
    batch: int
    seed: int
    candidates: int | None = None
    attempts: dict[str, int] | None = None
    start: str | None = None
    film: dict[str, Any] | None = None
    graph_revision: int = GRAPH_REVISION

    def to_dict(self) -> dict[str, Any]:
        """Its fields; those of LATER that are None are left out, so that keys are those of before there were any."""
        fields = asdict(self)
        return {name: value for name, value in fields.items() if value is not None or name not in LATER}

    def to_json(self) -> str:
        """Canonical: sorted keys, no spaces, ASCII."""
        return canonical_json(self.to_dict())

    @property
    def key(self) -> str:
        """KEY_LENGTH hexadecimal digits of the canonical JSON's SHA-256."""
        return short_digest(self.to_dict())

    def with_start(self, start: str | None) -> Recipe:
        return replace(self, start=start)

    def with_seed(self, seed: int) -> Recipe:
        return replace(self, seed=seed)


def canonical_json(value: object) -> str:
    """JSON that is equal where the value is equal; refuses NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def short_digest(value: object) -> str:
    """KEY_LENGTH hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:KEY_LENGTH]


def prior_digest(prior: CodePrior, decay: float | None) -> str:
    """SHA-256 of a prior and of what replaces its decay."""
    return hashlib.sha256(f"decay={decay!r}{prior.digest()}".encode()).hexdigest()
