"""PyTorch generators -> ONNX with a card and a code prior.

Adding a kind of source is adding a module with two functions of ``(name, weights, folder)``: ``read``, and
``fingerprint``, a digest of what is read, so that it is exported once, or None to export it every time.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from export.cards import CARD_KEY, GeneratorCard, parse_card
from export.declared_prior import Declaration, make_prior
from export.errors import ModelError
from export.output_range import check_output
from export.prior import CodePrior
from export.sources.torch_export import to_onnx

PARITY = 1e-3
"""Largest difference between PyTorch's image and ONNX Runtime's, in units of white - black."""


@dataclass(frozen=True)
class TorchGenerator:
    """A PyTorch generator in eval mode and what its files must say.

    Attributes:
        module: takes one tensor (N, *shape) per entry of ``code``; returns images (N, 3, S, S).
        code: shape of every input without the batch; their concatenation is the code.
        card: title, source, licence and ``output`` (channels, scale, offset); see :class:`export.cards.GeneratorCard`.
        prior: what keeps a code plausible: declared as in a configuration, or made.
    """

    module: nn.Module
    code: Sequence[tuple[int, ...]]
    card: dict[str, Any]
    prior: Declaration | CodePrior = "gaussian"


class FlatCode(nn.Module):
    """One flat code (N, D) -> the module's several inputs, in order."""

    def __init__(self, module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.module, self.shapes = module, [tuple(shape) for shape in shapes]
        self.sizes = [math.prod(shape) for shape in self.shapes]

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        parts = torch.split(code, self.sizes, dim=1)
        image: torch.Tensor = self.module(*(p.reshape(-1, *s) for p, s in zip(parts, self.shapes, strict=True)))
        return image


def _module(source: str) -> tuple[Any, str]:
    """The module of this package for the part before the first colon, and the rest."""
    kind, _, name = source.partition(":")
    return importlib.import_module(f"{__name__}.{kind}"), name


def read_torch_generator(source: str, weights: Path | None, folder: Path = Path()) -> TorchGenerator:
    """Build the generator that ``source`` names; the part before the first colon is a module of this package.

    Raises:
        ModelError: unknown, unreadable or ill-fitting weights.
    """
    module, name = _module(source)
    made: TorchGenerator = module.read(name, weights, folder)
    return made


def export_generator(source: str, weights: Path | None, cache: Path, folder: Path = Path()) -> Path:
    """Write the generator that ``source`` names to ``cache`` as ONNX, and its prior beside it.

    Returns:
        The ONNX file.

    Raises:
        ModelError: see :func:`read_torch_generator` and :func:`write_generator`.
    """
    module, name = _module(source)
    known: str | None = module.fingerprint(name, weights, folder)
    made_of = known or f"{weights and weights.resolve()}|{folder.resolve()}"
    stamp = hashlib.sha256(f"{source}|{made_of}".encode()).hexdigest()[:12]
    stem = "".join(c if c.isalnum() or c in "._-" else "-" for c in source)[-60:]
    out = cache / f"{stem}-{stamp}.onnx"
    if known is not None and out.exists() and out.with_suffix(".codes.npz").exists():
        return out
    cache.mkdir(parents=True, exist_ok=True)
    write_generator(read_torch_generator(source, weights, folder), out, source)
    return out


def write_generator(generator: TorchGenerator, out: Path, origin: str) -> None:
    """Trace a generator and write ``out`` and ``NAME.codes.npz``; nothing is written when something is wrong.

    Raises:
        ModelError: weights that are not finite, a card that does not fit, a module that cannot be exported, an output
            outside the declared range, or an exported graph that does not agree with the module.
        InputError: a wrong prior.
    """
    module = generator.module.eval()
    bad = next((n for n, p in module.named_parameters() if not torch.isfinite(p).all()), None)
    if bad is not None:
        raise ModelError(f"{origin}: weight {bad} holds NaN or infinite values; use another checkpoint")
    card = parse_card(GeneratorCard, json.dumps(generator.card), out)
    flat = FlatCode(module, generator.code)
    prior = generator.prior
    if not isinstance(prior, CodePrior):
        prior = make_prior(prior, tuple(flat.sizes))
    if prior.code_dim != sum(flat.sizes):
        raise ModelError(
            f"{origin}: the code has {sum(flat.sizes)} components, but its prior describes {prior.code_dim}"
        )
    code = torch.from_numpy(prior.constrain(prior.mean + prior.std * _noise(sum(flat.sizes))))
    try:
        with torch.no_grad():
            image = flat(code)
    except RuntimeError as error:
        raise ModelError(
            f"{origin}: the generator does not take a code of shape {list(generator.code)}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    model = to_onnx(flat, code, "code", layers=False)
    model.metadata_props[CARD_KEY] = json.dumps(generator.card)
    check_output(model, prior, card.output, origin)
    check_parity(model, code, image, max(card.output.scale), origin)
    part = out.with_suffix(".part")
    ir.save(model, part)
    prior.save(out.with_suffix(".codes.npz"))
    part.replace(out)


def check_parity(
    model: ir.Model, code: torch.Tensor, image: torch.Tensor, scale: float, origin: str, limit: float = PARITY
) -> None:
    """Compare the exported graph with the module; does nothing where ONNX Runtime is not installed.

    Args:
        model: the exported graph.
        code: (N, D).
        image: (N, 3, S, S), the module's.
        scale: of the output: 1 / (white - black).
        origin: names the generator in messages.
        limit: largest difference, in units of white - black.

    Raises:
        ModelError: they differ by more.
    """
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"code": code.numpy()})
    if made.shape != tuple(image.shape):
        raise ModelError(f"{origin}: the exported graph gives images {made.shape}, the module {tuple(image.shape)}")
    error = float((torch.from_numpy(made) - image).abs().max()) * scale
    if not error <= limit:
        raise ModelError(f"{origin}: the exported graph differs from the module by {error:.2g} of the output's range")


def _noise(size: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).normal(size=(2, size)).astype(np.float32)


def read_state(weights: Path) -> dict[str, torch.Tensor]:
    """A state dict of plain tensors, from ``.pt``/``.pth`` (also below ``state_dict``) or ``.safetensors``.

    Raises:
        ModelError: missing, or not such a file.
    """
    if not weights.is_file():
        raise ModelError(f"weights file not found: {weights}")
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"{weights} is not a file of plain tensors that torch can load safely: {line}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise ModelError(f"{weights} does not hold a state dict, name -> tensor")
    return state
