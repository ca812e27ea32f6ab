"""Checkpoints of a training: written at once, read with a reason, compared with what is asked for now."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from export.errors import InputError, ModelError
from export.generators.architecture import GeneratorConfig
from export.generators.encoder import LITE0, EncoderLayers
from export.generators.statistics import CodeStatistics


def write_checkpoint(state: dict[str, Any], checkpoint: Path) -> None:
    """Replace the checkpoint, at once."""
    part = checkpoint.with_suffix(".part")
    torch.save(state, part)
    part.replace(checkpoint)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        ModelError: missing, or not a checkpoint of a training.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        if not {"shape", "statistics", "average", "done"} <= state.keys():
            raise ValueError("it holds other things")
    except FileNotFoundError:
        raise ModelError(f"checkpoint not found: {path}") from None
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not a checkpoint of a generator's training: {line}") from error
    return state


def layers_of(state: dict[str, Any]) -> EncoderLayers:
    """The encoder's layers of a checkpoint; the first ones named none and were all of the demo's network."""
    return EncoderLayers.from_state(state["layers"]) if "layers" in state else LITE0


def shape_of(state: dict[str, Any]) -> GeneratorConfig:
    """The generator's shape of a checkpoint."""
    return GeneratorConfig(**state["shape"] | {"widths": tuple(state["shape"]["widths"])})


def statistics_of(state: dict[str, Any]) -> CodeStatistics:
    """The code statistics of a checkpoint; earlier ones also told whether features were rectified."""
    return CodeStatistics(**{k: v for k, v in state["statistics"].items() if k != "rectified"})


def check_same(state: dict[str, Any], shape: GeneratorConfig, layers: EncoderLayers) -> None:
    """Raise where a checkpoint is of another generator or encoder.

    Raises:
        InputError: says what differs.
    """
    old = asdict(shape_of(state)) | asdict(layers_of(state))
    new = asdict(shape) | asdict(layers)
    changed = [f"{key} {old[key]} is now {new[key]}" for key in new if old[key] != new[key]]
    if changed:
        raise InputError(
            f"the checkpoint is of another training: {'; '.join(changed)}; give another --out, or the old settings"
        )


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line per setting of the recipe that differs from the checkpoint's."""
    known = {k: v for k, v in old.items() if k in new}
    return [f"note: {key} was {known[key]}, is now {new[key]}" for key in known if known[key] != new[key]]
