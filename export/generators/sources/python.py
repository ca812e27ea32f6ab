"""``python:package.module:factory``: any PyTorch generator; the factory returns a :class:`TorchGenerator`."""

from __future__ import annotations

import importlib
from pathlib import Path

from export.errors import ModelError
from export.generators.sources import TorchGenerator, read_state


def fingerprint(name: str, weights: Path | None, folder: Path) -> None:
    """The factory's code may change at any time."""


def read(name: str, weights: Path | None, folder: Path) -> TorchGenerator:
    """Call the factory and load ``weights`` into its module.

    Raises:
        ModelError: it cannot be imported, returns something else, or the weights do not fit.
    """
    module_name, _, factory = name.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), factory)()
    except (ImportError, AttributeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"cannot import {factory or 'a factory'} from {module_name!r}: {line}") from error
    if not isinstance(made, TorchGenerator):
        raise ModelError(
            f"python:{name} returned {type(made).__name__}; return an export.generators.sources.TorchGenerator, which "
            "says the shape of the code, the range of the output and the prior"
        )
    if weights is not None:
        try:
            made.module.load_state_dict(read_state(weights))
        except RuntimeError as error:
            raise ModelError(f"{weights} does not fit python:{name}: {' '.join(str(error).split())[:300]}") from error
    return made
