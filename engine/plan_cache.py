"""Plans kept between runs: one file per key, and beside it a JSON file that says what it is.

A plan holds for one graph, one TensorRT version, one GPU and one operating system; all are in the key. The sidecar is
written last, so a plan without one, or one whose digest differs, is as good as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class PlanKey:
    """What a plan depends on.

    Attributes:
        model: SHA-256 of the ONNX model; batch and precision are in the graph.
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: its full version.
        target: architecture and name of the GPU, such as ``SM89 NVIDIA L4``.
        flags: builder flags that differ from the default.
        system: operating system and processor.
    """

    model: str
    library: str
    version: str
    target: str
    flags: tuple[str, ...] = ("-TF32", "+DISTRIBUTIVE_INDEPENDENCE")
    system: str = f"{platform.system()} {platform.machine()}"

    @classmethod
    def of(cls, model: bytes, library: str, version: str, target: str) -> PlanKey:
        return cls(hashlib.sha256(model).hexdigest(), library, version, target)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


class PlanCache:
    """Plans in a folder, made when first written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: PlanKey) -> bytes | None:
        """The plan, or None where there is none or it is damaged."""
        try:
            sidecar = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
            plan = self._path(key, "plan").read_bytes()
        except (OSError, ValueError):
            return None
        return plan if sidecar.get("sha256") == hashlib.sha256(plan).hexdigest() else None

    def put(self, key: PlanKey, plan: bytes, about: str) -> None:
        """Store a plan; ``about`` is for people.

        Raises:
            OSError: the folder cannot be written.
        """
        sidecar = {**asdict(key), "about": about, "bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest()}
        write_whole(self._path(key, "plan"), plan)
        write_whole(self._path(key, "json"), json.dumps(sidecar, indent=1, sort_keys=True).encode())

    def drop(self, key: PlanKey) -> None:
        """Forget a plan that its runtime does not take."""
        for suffix in ("json", "plan"):
            self._path(key, suffix).unlink(missing_ok=True)

    def _path(self, key: PlanKey, suffix: str) -> Path:
        return self.folder / f"{key.digest}.{suffix}"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that others see whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)
