"""Pictures of a layer: decoding, and the part that a unit sees."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from export.errors import AtlasError
from export.manifest import Box
from pipeline import films
from pipeline.site.model import Layer

CROP_PX = 128
"""Longer side of a receptive-field crop in the site."""

QUALITY, EFFORT = 86, 0
"""Of WebP, for single pictures. The lossless ones are in the store and in what ``neuron-atlas pack`` writes."""


def decode(layer: Layer, unit: int, seed: int, image: bytes) -> Image.Image:
    """A whole image, RGB.

    Raises:
        AtlasError: it is not a PNG.
    """
    try:
        with Image.open(io.BytesIO(image), formats=["PNG"]) as opened:
            return opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise AtlasError(
            f"the image of unit {unit}, seed {seed} of layer {layer.name} is not a PNG; "
            "remove its shard from the store and build again"
        ) from error


def visible(layer: Layer) -> Box:
    """The receptive field, clipped to the image; the whole image where nothing would be left."""
    return films.visible(layer.receptive_field, layer.image_px)


def sees_everything(layer: Layer) -> bool:
    """Whether the units see the whole image."""
    return visible(layer) == Box(0, 0, layer.image_px, layer.image_px)


def shows_crop(layer: Layer) -> bool:
    """Whether the units see so little that galleries show that part enlarged."""
    return films.is_small(layer.receptive_field, layer.image_px)


def crop_size(layer: Layer, longer_px: int = CROP_PX) -> tuple[int, int]:
    """(width, height) of the enlarged crop."""
    box = visible(layer)
    width, height = box.right - box.left, box.bottom - box.top
    scale = longer_px / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def crop(layer: Layer, image: Image.Image, longer_px: int = CROP_PX) -> Image.Image:
    """What the units see of an image, and nothing of what lies around it, enlarged smoothly."""
    box, scale = visible(layer), image.width / layer.image_px
    edges = [round(edge * scale) for edge in (box.left, box.top, box.right, box.bottom)]
    part = image.crop((edges[0], edges[1], max(edges[2], edges[0] + 1), max(edges[3], edges[1] + 1)))
    return part.resize(crop_size(layer, longer_px), Image.Resampling.BICUBIC)


def gallery_picture(layer: Layer, image: Image.Image) -> Image.Image:
    """What galleries show: the crop where the units see little, else the whole image."""
    return crop(layer, image) if shows_crop(layer) else image


def to_webp(image: Image.Image, quality: int = QUALITY, effort: int = EFFORT) -> bytes:
    """WebP bytes, equal for equal images under one version of Pillow."""
    sink = io.BytesIO()
    image.save(sink, "WEBP", quality=quality, method=effort)
    return sink.getvalue()


def to_png(image: Image.Image) -> bytes:
    """PNG bytes, equal for equal images under one version of Pillow."""
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=6)
    return sink.getvalue()
