"""``diffusers:FOLDER:IMAGE_PX``: the decoder of a diffusion autoencoder (AutoencoderTiny, AutoencoderKL)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from export.errors import ModelError
from export.generators.sources import TorchGenerator
from export.models import digest_of

KINDS = ("AutoencoderKL", "AutoencoderTiny")


class Decoder(nn.Module):
    """Latents of unit variance (N, C, h, w) -> image (N, 3, H, W), -1 to 1.

    ``image = decode(code / scaling_factor + shift_factor)``, as diffusers' pipelines call it.
    """

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        config = autoencoder.config
        self.scale = float(getattr(config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.autoencoder = autoencoder

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.autoencoder.decode(code / self.scale + self.shift, return_dict=False)[0]
        return image


def fingerprint(name: str, weights: Path | None, folder: Path) -> str | None:
    """Digest of every file of the model's folder."""
    where = folder / name.rpartition(":")[0]
    files = sorted(p for p in where.glob("*") if p.suffix in (".json", ".safetensors", ".bin"))
    return "|".join(f"{p.name}={digest_of(p)}" for p in files) if files and weights is None else None


def read(name: str, weights: Path | None, folder: Path) -> TorchGenerator:
    """Open a folder that ``save_pretrained`` wrote (config.json and weights); nothing is downloaded.

    Raises:
        ModelError: diffusers is not installed, the folder or the size is wrong, or it holds another model.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ModelError(f"diffusers:... needs the package diffusers ({error}); run: pip install diffusers") from error
    path, _, size = name.rpartition(":")
    if not path or not size.isdecimal():
        raise ModelError(f"diffusers:{name} does not say how large; write diffusers:FOLDER:IMAGE_PX, such as :256")
    where, side = folder / path, int(size)
    if weights is not None:
        raise ModelError("a diffusers folder holds its own weights; leave weights out")
    try:
        config = json.loads((where / "config.json").read_text())
        kind = config["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{where} is not a folder of a diffusers model: {error}") from error
    if kind not in KINDS:
        raise ModelError(f"{where} holds a {kind}; known are {', '.join(KINDS)}")
    try:
        autoencoder = getattr(diffusers, kind).from_pretrained(str(where), local_files_only=True)
    except Exception as error:
        raise ModelError(f"{where} cannot be opened: {' '.join(str(error).split())[:200]}") from error
    stages = len(config.get("block_out_channels") or config["decoder_block_out_channels"])
    factor = 2 ** (stages - 1)
    if side % factor:
        raise ModelError(f"diffusers:{name}: images of this model have sides that are multiples of {factor}")
    card = {
        "title": f"{kind} {where.name}",
        "source": f"diffusers:{where.name}",
        "licence": "see the model's own card",
        "output": {"channels": "RGB", "scale": 0.5, "offset": 0.5},
    }
    code = (int(config["latent_channels"]), side // factor, side // factor)
    return TorchGenerator(Decoder(autoencoder.eval()), [code], card, "gaussian")
