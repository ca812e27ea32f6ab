"""How much memory an engine takes on the CPU: predicted, so that none is built that does not fit."""

from __future__ import annotations

from engine.tuning import Setting
from export.manifest import StepManifest

WEIGHT_COPIES = 6.5
"""Of the step graph's weights at the peak: the serialised graph, the runtime's own, what it reorders for speed, and the
generator once more for decoding."""
LIVE_SHARE = 3.5
"""Of the live tensors: a runtime pads and reorders them, and frees in pieces."""
OVERHEAD_BYTES = 200 << 20
"""Code, threads and small buffers of the runtime; the images on their way to the store."""


def engine_bytes(manifest: StepManifest, setting: Setting) -> int:
    """Bytes at the peak, building included, beyond what the process has before the engine is built.

    An upper bound: the factors cover the greediest of both runtimes in every case of ``tests/bench/memory.py``, so that
    others take down to half of it. 0 where the manifest does not tell.
    """
    if not manifest.live_bytes:
        return 0
    live = manifest.live_bytes / manifest.batch * setting.num_slots
    return int(WEIGHT_COPIES * manifest.weight_bytes + LIVE_SHARE * live) + OVERHEAD_BYTES
