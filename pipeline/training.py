"""The command ``train-generator``: options to a run. PyTorch is imported when it runs, and by export alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.errors import InputError
from pipeline.workspace import network_of


def train(
    encoder: str,
    weights: Path | None,
    say: Callable[[str], None],
    *,
    taps: str | None,
    resolution: int,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    precision: str,
    climbed: int | None,
    witness: str | None,
    witness_taps: str | None,
    **options: Any,
) -> Path:
    """See :func:`export.generators.run.train_generator`.

    Raises:
        InputError: PyTorch is not installed, or what was asked for is wrong.
    """
    try:
        from export.generators.recipe import TrainConfig
        from export.generators.run import TrainOptions, train_generator
    except ImportError as error:
        raise InputError(f"training needs PyTorch ({error}); run: pip install 'neuron-atlas[cpu,export]'") from error
    config = TrainConfig(
        steps=steps,
        batch=batch,
        mixed=batch // 4,
        climbed=batch // 4 if climbed is None else climbed,
        seed=seed,
        lr=lr,
        precision=precision,  # type: ignore[arg-type]
    )
    seen_by = network_of(witness, None) if witness else None
    asked = TrainOptions(
        source=encoder,
        taps=names_in(taps),
        image_px=resolution,
        config=config,
        witness=seen_by,
        witness_taps=names_in(witness_taps),
        **options,
    )
    return train_generator(asked, network_of(encoder, weights), say)


def names_in(text: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
