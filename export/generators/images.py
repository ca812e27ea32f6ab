"""Training images as one flat uint8 array, decoded once.

Folders and tar files of images (any layout, any format Pillow reads) become a memory-mapped array
``(N, size, size, 3)`` uint8 RGB and a list of source names, so that a training step is a fancy index.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from export.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class Source:
    """A folder or tar of images, how often it is drawn, and the stored size.

    Attributes:
        path: folder or ``.tar`` file, searched recursively.
        weight: share of training samples drawn from it (relative to the other sources).
        stored_px: side of the square crop kept in the cache; less than the generator's output side for images that
            hold no more detail.
    """

    path: Path
    weight: float
    stored_px: int


def _encoded(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                yield file.read_bytes()
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
                if Path(member.name).suffix.lower() in SUFFIXES:
                    stream = tar.extractfile(member)
                    if stream is not None:
                        yield stream.read()
    else:
        raise InputError(f"{path} is neither a folder nor a tar file of images")


def square(image: Image.Image, side: int) -> Image.Image:
    """Centre-crop to a square and resize with a Lanczos filter to ``side`` pixels."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS, box=box)


def load(source: Source, cache: Path) -> np.ndarray:
    """Return the source's images, ``(N, stored_px, stored_px, 3)`` uint8, decoding them on first use.

    Raises:
        InputError: the path is missing, or holds no readable image.
    """
    if not source.path.exists():
        raise InputError(f"training images not found: {source.path}")
    where = hashlib.sha256(str(source.path.resolve()).encode()).hexdigest()[:8]  # two folders may share a name
    stem = cache / f"{source.path.stem}-{where}-{source.stored_px}px"
    array, meta = stem.with_suffix(".npy"), stem.with_suffix(".json")
    stamp = {"path": str(source.path.resolve()), "mtime": source.path.stat().st_mtime}
    if not (array.exists() and meta.exists() and json.loads(meta.read_text()) == stamp):
        cache.mkdir(parents=True, exist_ok=True)
        images = []
        for encoded in _encoded(source.path):
            try:
                with Image.open(io.BytesIO(encoded)) as image:
                    images.append(np.asarray(square(image, source.stored_px)))
            except (UnidentifiedImageError, OSError):
                continue  # a damaged file in a large folder is not worth stopping for
        if not images:
            raise InputError(f"no readable image under {source.path}")
        np.save(array, np.stack(images))
        meta.write_text(json.dumps(stamp))
    loaded: np.ndarray = np.load(array, mmap_mode="r")
    return loaded


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """An RGB image (h, w, 3) uint8 at ``side``, bilinear."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Batch:
    """Training images.

    Attributes:
        images: (N, 3, side, side) float32 RGB in [0, 1]; those of less detail are enlarged.
        native_px: (N,) int64, the side that each image was stored at, ``side`` at most.
    """

    images: np.ndarray
    native_px: np.ndarray


class Sampler:
    """Draws training batches; batch ``step`` is a pure function of ``(seed, step)``, so a run can resume anywhere."""

    def __init__(self, sources: list[Source], cache: Path, side: int, seed: int) -> None:
        self._arrays = [load(source, cache) for source in sources]
        weights = np.array([source.weight for source in sources], dtype=np.float64)
        self._shares = weights / weights.sum()
        self._side, self._seed = side, seed

    def batch(self, step: int, size: int) -> Batch:
        """Random crops, half of them mirrored."""
        rng = np.random.default_rng([self._seed, step])
        out = np.empty((size, self._side, self._side, 3), np.uint8)
        native = np.empty(size, np.int64)
        for row, which in enumerate(rng.choice(len(self._arrays), size=size, p=self._shares)):
            array = self._arrays[which]
            native[row] = side = min(self._side, array.shape[1])
            top, left = rng.integers(0, array.shape[1] - side + 1, size=2)
            image = array[rng.integers(len(array)), top : top + side, left : left + side]
            image = image[:, ::-1] if rng.random() < 0.5 else image
            out[row] = image if side == self._side else enlarged(image, self._side)
        return Batch((out.astype(np.float32) / 255.0).transpose(0, 3, 1, 2).copy(), native)
