"""Data sets of pictures: a folder (ImageFolder layout), a tar file of one, or a list of files."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from export.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
AHEAD = 3
"""Batches that are decoded while one is at work."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture.

    Attributes:
        path: within its data set, with ``/``.
        num_bytes: of the file.
        start: where it begins in a tar file.
    """

    path: str
    num_bytes: int
    start: int = 0

    @property
    def label(self) -> str:
        """Its folder: the class in the ImageFolder layout; empty at the top."""
        return self.path.rpartition("/")[0].rpartition("/")[2]


@dataclass(frozen=True)
class ImageSet:
    """The pictures of one source, sorted by path.

    Attributes:
        source: as given.
        entries: the pictures.
    """

    source: Path
    entries: tuple[Entry, ...]
    _read: Callable[[Entry], bytes] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def digest(self) -> str:
        """Of paths and sizes; changes when pictures come, go, or change in size."""
        lines = "\n".join(f"{entry.path}\t{entry.num_bytes}" for entry in self.entries)
        return hashlib.sha256(lines.encode()).hexdigest()

    def read(self, index: int) -> bytes:
        """The file of a picture."""
        return self._read(self.entries[index])

    def picture(self, index: int, height: int, width: int) -> Pixels:
        """A picture as the network sees it: the largest centre part of the wanted shape, resized; (height, width, 3).

        Raises:
            ValueError: the file holds no picture that can be read.
        """
        try:
            return fitted(self.read(index), height, width)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{self.entries[index].path}: {error}") from error

    def pictures(self, indices: Sequence[int], height: int, width: int) -> Pixels:
        """Several pictures, (n, height, width, 3).

        Raises:
            InputError: one cannot be read.
        """
        try:
            with ThreadPoolExecutor(2, thread_name_prefix="picture") as pool:
                found = list(pool.map(lambda i: self.picture(i, height, width), indices))
        except ValueError as error:
            raise InputError(f"a picture of {self.source} cannot be read ({error}); remove it") from error
        return np.stack(found) if found else np.empty((0, height, width, 3), np.uint8)

    def order(self, seed: int) -> npt.NDArray[np.int64]:
        """A random order, the same in every version of numpy: its first n are a random sample of any size n."""
        keys = np.random.Philox(key=seed).random_raw(len(self))
        return np.argsort(keys, kind="stable").astype(np.int64)


def fitted(data: bytes, height: int, width: int) -> Pixels:
    """Decode a file and fit it to (height, width, 3) uint8 RGB."""
    with Image.open(io.BytesIO(data)) as image:
        scale = min(image.width / width, image.height / height)
        crop_w, crop_h = width * scale, height * scale
        if image.format == "JPEG":  # decode at a smaller scale where that is still larger than what is wanted
            before = image.size
            image.draft("RGB", (int(before[0] / scale) * 2, int(before[1] / scale) * 2))
            crop_w, crop_h = crop_w * image.width / before[0], crop_h * image.height / before[1]
        picture = image.convert("RGBA") if _is_transparent(image) else image.convert("RGB")
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    left, top = (picture.width - crop_w) / 2, (picture.height - crop_h) / 2
    box = (max(0.0, left), max(0.0, top), min(picture.width, left + crop_w), min(picture.height, top + crop_h))
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(picture, np.uint8)


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def open_images(source: Path) -> ImageSet:
    """Open a data set.

    Args:
        source: a folder, searched recursively; a ``.tar`` file of one, uncompressed; or a text file that lists
            pictures, one path a line, relative to its folder.

    Raises:
        InputError: it is none of these, or holds no picture.
    """
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        entries = [Entry(p.relative_to(source).as_posix(), p.stat().st_size) for p in files]
        images = ImageSet(source, _sorted(entries), lambda entry: (source / entry.path).read_bytes())
    elif source.is_file() and source.suffix.lower() == ".txt":
        images = _listed(source)
    elif source.is_file() and tarfile.is_tarfile(source):
        images = _packed(source)
    else:
        raise InputError(
            f"images {source}: there is no such data set; give a folder of pictures, a .tar file of one, or a .txt list"
        )
    if not images.entries:
        raise InputError(f"images {source}: no picture is in it ({', '.join(SUFFIXES)} are looked for)")
    return images


def _listed(source: Path) -> ImageSet:
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
        entries = [Entry(Path(line).as_posix(), (source.parent / line).stat().st_size) for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"images {source}: a listed picture cannot be read: {error}") from error
    return ImageSet(source, _sorted(entries), lambda entry: (source.parent / entry.path).read_bytes())


def _packed(source: Path) -> ImageSet:
    try:
        with tarfile.open(source, "r:") as tar:
            members = [m for m in tar if m.isfile() and Path(m.name).suffix.lower() in SUFFIXES]
    except tarfile.TarError as error:
        raise InputError(f"images {source}: not an uncompressed tar file ({error}); unpack it first") from error

    def read(entry: Entry) -> bytes:
        with source.open("rb") as file:
            file.seek(entry.start)
            return file.read(entry.num_bytes)

    return ImageSet(source, _sorted([Entry(m.name, m.size, m.offset_data) for m in members]), read)


def _sorted(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.path))


@dataclass(frozen=True, eq=False)
class Batch:
    """Decoded pictures.

    Attributes:
        index: (batch,) numbers of the pictures; -1 where there is none (the end, or a file that cannot be read).
        pixels: (batch, H, W, 3).
        broken: what could not be read, and why.
    """

    index: npt.NDArray[np.int64]
    pixels: Pixels
    broken: tuple[str, ...]


def batches(
    images: ImageSet, order: npt.NDArray[np.int64], batch: int, height: int, width: int, threads: int
) -> Iterator[Batch]:
    """Decode pictures in this order, a few batches ahead of who asks; memory does not grow with the data set."""
    starts = iter(range(0, len(order), batch))
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        waiting: list[tuple[npt.NDArray[np.int64], list[Future[Pixels]]]] = []

        def ask() -> None:
            start = next(starts, None)
            if start is not None:
                part = order[start : start + batch]
                waiting.append((part, [pool.submit(images.picture, int(i), height, width) for i in part]))

        for _ in range(AHEAD):
            ask()
        try:
            while waiting:
                part, futures = waiting.pop(0)
                ask()
                yield _gathered(part, futures, batch, height, width)
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _gathered(
    part: npt.NDArray[np.int64], futures: Sequence[Future[Pixels]], batch: int, height: int, width: int
) -> Batch:
    index = np.full(batch, -1, np.int64)
    pixels = np.zeros((batch, height, width, 3), np.uint8)
    broken = []
    for row, (number, future) in enumerate(zip(part, futures, strict=True)):
        try:
            pixels[row] = future.result()
            index[row] = number
        except ValueError as error:
            broken.append(str(error))
    return Batch(index, pixels, tuple(broken))
