"""Contexts whose results are replaced, for cases with a known answer."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from pipeline.records import Record
from pipeline.studies.base.context import Context, LayerResults

Change = Callable[[LayerResults, int, Record], Record]


def change_records(context: Context, change: Change) -> Context:
    """Replace every record of a context by ``change(layer, place in the layer, record)``."""

    def changed(layer: LayerResults) -> LayerResults:
        records = {
            unit: tuple(change(layer, place, record) for record in found)
            for place, (unit, found) in enumerate(layer.records.items())
        }
        return replace(layer, records=records)

    def layers() -> Iterator[LayerResults]:
        return (changed(Context.layer(context, name)) for name in context.names)

    context.layers = layers  # type: ignore[method-assign]
    context.layer = lambda name: changed(Context.layer(context, name))  # type: ignore[method-assign]
    return context


def png(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as a record holds it."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()
