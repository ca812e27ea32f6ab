"""The page on which units and layers stand side by side; scripts fill it."""

from __future__ import annotations

from typing import Any

from pipeline.site.model import Atlas
from pipeline.site.pages.shared import Shell
from pipeline.site.paths import layer_folder


def compare(atlas: Atlas) -> dict[str, Any]:
    """Context of ``compare.html``."""
    layers = [(layer_folder(layer.name), layer.title or layer.name) for layer in atlas.layers]
    return {"root": "", "shell": Shell.of(atlas), "layers": layers, "others": atlas.others}
