"""Cards: what a model file says about itself, kept as JSON in the ONNX metadata under :data:`CARD_KEY`.

Between generator and network an image is *canonical*: RGB, (N, 3, H, W), 0 to 1. A network's card says how it wants its
input, ``(canonical - mean) / std`` in its channel order; a generator's card says what its output means,
``canonical = output * scale + offset``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from export.errors import ModelError

CARD_KEY = "neuron_atlas"

PerChannel = Annotated[
    tuple[float, float, float], BeforeValidator(lambda v: (v, v, v) if isinstance(v, int | float) else v)
]


class _Card(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    title: str
    source: str = ""
    licence: str = ""


class NetworkInput(BaseModel):
    """What a network expects: ``(canonical - mean) / std`` per channel of ``channels``; H and W in pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: PerChannel = (0.485, 0.456, 0.406)
    std: PerChannel = (0.229, 0.224, 0.225)


class GeneratorOutput(BaseModel):
    """What a generator's output means: ``canonical = output * scale + offset`` per channel of ``channels``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Literal["RGB", "BGR"] = "RGB"
    scale: PerChannel = (1.0, 1.0, 1.0)
    offset: PerChannel = (0.0, 0.0, 0.0)

    @classmethod
    def of_range(cls, low: float, high: float, channels: Literal["RGB", "BGR"] = "RGB") -> GeneratorOutput:
        """Of a generator whose black is ``low`` and whose white is ``high``.

        Raises:
            ModelError: the range is empty.
        """
        if not low < high:
            raise ModelError(
                f"the generator's range [{low:g}, {high:g}] is empty; give [black, white], such as [-1, 1]"
            )
        scale = 1 / (high - low)
        return cls(channels=channels, scale=(scale,) * 3, offset=(-low * scale,) * 3)


class NetworkCard(_Card):
    """Card of a network; ``labels`` names the components of the last layer."""

    input: NetworkInput
    labels: tuple[str, ...] | None = None


class GeneratorCard(_Card):
    """Card of a generator."""

    output: GeneratorOutput = GeneratorOutput()


C = TypeVar("C", bound=_Card)


def parse_card(kind: type[C], text: str, path: Path) -> C:
    """Read a card.

    Raises:
        ModelError: it is not JSON or does not fit ``kind``.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        return kind.model_validate(raw)
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: the card in the metadata is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: the card in the metadata is wrong at {where!r}: {first['msg']}") from error
