"""One engine at a time per GPU of this machine, whatever number of flows run."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.protocol import Builder
from pipeline.lock import FileLock

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "NEURON_ATLAS_GATES"
"""Folder of the locks; containers that share a GPU must share it. By default the system's temporary folder."""


@contextmanager
def device_gate(builder: Builder) -> Iterator[None]:
    """Hold the GPU that a runtime uses; wait for whoever holds it. A CPU has no gate: its cores are shared.

    The lock is the kernel's, so a holder that is killed frees it at once.

    Raises:
        StoreError: the lock's folder cannot be written.
    """
    device = gpu_of(builder)
    if device is None:
        yield
        return
    folder = Path(os.environ.get(FOLDER_VARIABLE) or Path(tempfile.gettempdir()) / "neuron-atlas-gates")
    with FileLock(folder / f"{device}.lock", lambda holder: log.info("%s is in use by %s; waiting", device, holder)):
        yield


def gpu_of(builder: Builder) -> str | None:
    """A name for the GPU that a runtime runs on, None for the CPU: its builder says ``device = "gpu"``.

    The GPU is the first that ``CUDA_VISIBLE_DEVICES`` names.
    """
    if builder.device != "gpu":
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    return "gpu-" + re.sub(r"[^A-Za-z0-9-]", "-", first)
