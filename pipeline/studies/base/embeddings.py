"""Pictures as points: coarse pixels, which find copies, and the judge's features, which find likeness. Kept on disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.dataset.images import ImageSet
from pipeline.studies.base.context import Context
from pipeline.studies.base.judge import Pixels, unit_length
from pipeline.temporary import replace_file

Kind = Literal["pixels", "judge"]
KINDS: tuple[Kind, ...] = ("pixels", "judge")
COARSE_PX = 16
CHUNK = 256
FOLDER = "embeddings"
Floats = npt.NDArray[np.float32]


def embed(context: Context, pictures: Sequence[Pixels] | Pixels, kind: Kind) -> Floats:
    """(n, D) points of unit length. ``pixels``: 16 x 16 RGB less each picture's mean; ``judge``: its features."""
    if kind == "judge":
        return context.judge.see(pictures).features
    size = (COARSE_PX, COARSE_PX)
    small = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX), np.float32) for p in pictures]
    rows = np.stack(small).reshape(len(small), -1)
    return unit_length(rows - rows.mean(axis=1, keepdims=True))


def embed_set(context: Context, images: ImageSet, rows: npt.NDArray[np.int64], side: int, kind: Kind) -> Floats:
    """Points of these pictures of a data set, each reduced to ``side`` pixels first; kept in ``OUT/embeddings``."""
    what = f"{images.digest} {kind} {side} {_judge(context) if kind == 'judge' else ''}".encode() + rows.tobytes()
    path = context.workspace.out / FOLDER / f"{hashlib.sha256(what).hexdigest()[:20]}.npy"
    found = _kept(path)
    if found is None:
        parts = [
            embed(context, images.pictures(rows[start : start + CHUNK].tolist(), side, side), kind)
            for start in range(0, len(rows), CHUNK)
        ]
        found = np.concatenate(parts).astype(np.float32)
        sink = io.BytesIO()
        np.save(sink, found.astype(np.float16))
        replace_file(path, sink.getvalue())
        found = found.astype(np.float16).astype(np.float32)
    return found


def _judge(context: Context) -> str:
    return f"{context.judge.network.digest} {context.inputs.judge_layer}"


def _kept(path: Path) -> Floats | None:
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (OSError, ValueError):
        return None


def nearest(points: Floats, among: Floats, *, skip_self: bool = False) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(cosine distance, index) of each point's nearest neighbour among others; ``skip_self``: both are one set."""
    distances = np.empty(len(points), np.float32)
    indices = np.empty(len(points), np.int64)
    for start in range(0, len(points), CHUNK):
        likeness = points[start : start + CHUNK] @ among.T
        if skip_self:
            rows = np.arange(len(likeness))
            likeness[rows, start + rows] = -np.inf
        best = likeness.argmax(axis=1)
        indices[start : start + CHUNK] = best
        distances[start : start + CHUNK] = 1 - likeness[np.arange(len(best)), best]
    return np.maximum(distances, 0), indices
