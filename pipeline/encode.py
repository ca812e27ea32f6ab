"""The command ``encode``: the codes of photographs, for start images and warm starts."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from export.encoding import compile_encoder, compile_refine, encoder_facts, open_encoder, refining
from export.errors import InputError
from export.generator import Generator
from export.generators.images import square
from export.step import compile_decode
from pipeline.sheet import Cell, png_sheet
from pipeline.temporary import replace_file
from pipeline.workspace import CACHE, network_of

BATCH = 8
LR = 0.1
"""First step of the refinement, in units of the code's standard deviation."""


SHEET_PX = 128
"""Least side of a picture of a sheet."""


@dataclass(frozen=True)
class Encoded:
    """Codes of images, in their order.

    Attributes:
        codes: (N, code_dim) float32, plausible under the generator's prior.
        first: (N,) distance of the encoder's own code; of the prior's mean where the generator has no encoder.
        distance: (N,) distance of ``codes``, see :func:`export.encoding.compile_refine`.
        images: (N, 3, S, S) float32 in [0, 1], what the generator makes of ``codes``.
    """

    codes: npt.NDArray[np.float32]
    first: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]
    images: npt.NDArray[np.float32]


def encode_images(
    generator: Generator,
    images: npt.NDArray[np.float32],
    *,
    steps: int = 60,
    lr: float = LR,
    encoder: str | None = None,
    weights: Path | None = None,
) -> Encoded:
    """Encode images by the generator's encoder, then refine by steps of reconstruction.

    Args:
        generator: one that says what it inverts starts at that code; another at its prior's mean.
        images: (N, 3, S, S) in [0, 1], S the generator's side.
        steps: of refinement, 0 for none.
        lr: first step.
        encoder: replaces the source that the generator names; must be the same network.
        weights: of the encoder.

    Raises:
        InputError: ONNX Runtime is not installed, images of another size, or the encoder cannot be opened.
    """
    side = generator.image_px
    if images.ndim != 4 or images.shape[1:] != (3, side, side) or not len(images):
        raise InputError(f"images must be (N, 3, {side}, {side}) for this generator, not {images.shape}")
    facts = encoder_facts(generator)
    first = None
    if facts is not None:
        given = network_of(encoder or facts.source, weights) if encoder or weights else None
        network = open_encoder(facts, CACHE, given)
        first = _session(compile_encoder(generator, network, facts, BATCH))
    model, fields = compile_refine(generator, refining(max(1, steps), lr), BATCH)
    refine, decode = _session(model), _session(compile_decode(generator, BATCH))
    prior, made = generator.prior, []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        count = len(part)
        target = np.concatenate([part, np.repeat(part[:1], BATCH - count, axis=0)])
        code = (
            first.run(None, {"image": target})[0] if first is not None else np.repeat(prior.mean[None], BATCH, axis=0)
        )
        state: dict[str, Any] = {
            f.name: np.full((BATCH, *f.shape), 0 if f.initial is None else f.initial, f.dtype) for f in fields
        }
        state["code"] = prior.constrain(code)
        names = [output.name for output in refine.get_outputs()]
        before: Any = None
        for _ in range(steps + 1):  # the last one only measures
            out = dict(zip(names, refine.run(names, state | {"target": target}), strict=True))
            before = out["distance"] if before is None else before
            state = {f.name: out[f"{f.name}.next"] for f in fields}
        best, distance = state["best_code"], -state["best_activation"]
        (image,) = decode.run(None, {"code": best})
        made.append((best[:count], before[:count], distance[:count], image[:count]))
    return Encoded(*(np.concatenate(column) for column in zip(*made, strict=True)))


def _session(model: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"encoding runs under ONNX Runtime ({error}); run: pip install 'neuron-atlas[cpu]'") from error
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def read_image(path: Path, side: int) -> npt.NDArray[np.float32]:
    """(3, side, side) in [0, 1], cropped to the centre square.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(square(image, side), np.float32) / 255
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"image {path} cannot be read: {error}") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def encode_files(
    generator: Generator, paths: Sequence[Path], output: Path, sheet: Path | None, **options: Any
) -> Iterator[str]:
    """Encode image files and write ``output``: ``codes``, ``distance`` and ``names``; yields a line per image.

    Args:
        generator: see :func:`encode_images`, also for ``options``.
        paths: image files.
        output: the ``.npz`` to write.
        sheet: a PNG of images and reconstructions, two a row.
    """
    images = np.stack([read_image(path, generator.image_px) for path in paths])
    encoded = encode_images(generator, images, **options)
    names = [path.name for path in paths]
    sink = io.BytesIO()
    np.savez(sink, codes=encoded.codes, distance=encoded.distance, names=np.asarray(names))
    replace_file(output, sink.getvalue())
    if sheet is not None:
        cells = []
        for name, image, again, value in zip(names, images, encoded.images, encoded.distance, strict=True):
            cells += [Cell(_bytes(image), name), Cell(_bytes(again), f"distance {value:.3g}")]
        replace_file(sheet, png_sheet(cells, 2, max(SHEET_PX, generator.image_px)))
    for name, before, after in zip(names, encoded.first, encoded.distance, strict=True):
        yield f"{name}: distance {before:.4g}, {after:.4g} after refining"


def _bytes(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.rint(255 * image.transpose(1, 2, 0)).astype(np.uint8)
