"""Generators: an ONNX file that maps a code to an image, its card, and its code prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from export.cards import CARD_KEY, GeneratorCard, parse_card
from export.errors import ModelError
from export.models import ASSETS, digest_of, read_model
from export.passes.batch import set_batch
from export.passes.shapes import static_shape
from export.prior import CodePrior


@dataclass(frozen=True)
class Generator:
    """A generator on disk.

    Attributes:
        path: the ``.onnx`` file; ``NAME.codes.npz`` beside it holds the code prior.
        digest: SHA-256 of the model's bytes and the prior's.
        card: source, licence, what the output means, training data.
        prior: code statistics and bounds.
        image_px: side of its square image.
    """

    path: Path
    digest: str
    card: GeneratorCard
    prior: CodePrior
    image_px: int

    @property
    def code_dim(self) -> int:
        return self.prior.code_dim

    @cached_property
    def _read(self) -> ir.Model:
        return read_model(self.path)

    def model(self, batch: int) -> ir.Model:
        """A copy of the graph with a static batch and static shapes; the file is read once."""
        model = self._read.clone()
        set_batch(model, batch)
        return model


def load_generator(path: Path) -> Generator:
    """Open an ``.onnx`` generator.

    Raises:
        ModelError: missing, corrupt, not a map from a code (N, D) to an image (N, 3, S, S), or statistics of
            another length.
    """
    digest = digest_of(path)
    model = read_model(path)
    text = model.metadata_props.get(CARD_KEY)
    card = parse_card(GeneratorCard, text, path) if text is not None else GeneratorCard(title=path.stem)
    statistics = path.with_suffix(".codes.npz")
    prior = CodePrior.load(statistics)
    set_batch(model, 1)
    if len(model.graph.inputs) != 1:
        raise ModelError(f"{path}: a generator has one input, the code; this one has {len(model.graph.inputs)}")
    code, image = static_shape(model.graph.inputs[0]), static_shape(model.graph.outputs[0])
    if code != (1, prior.code_dim):
        raise ModelError(
            f"{path} takes a code of shape {code}, but {statistics.name} describes codes of {prior.code_dim}"
        )
    if image is None or len(image) != 4 or image[1] != 3 or image[2] != image[3]:
        raise ModelError(f"{path}: a generator's output must be a square RGB image (N, 3, S, S), but is {image}")
    return Generator(path, f"{digest}-{digest_of(statistics)}", card, prior, image[2])


def resolve_generator(source: str, *, cache: Path | None = None) -> Generator:
    """Find the generator that ``source`` names: ``bundled:NAME`` or the path of an ``.onnx`` file.

    Raises:
        ModelError: see :func:`load_generator`.
    """
    kind, _, name = source.partition(":")
    if kind != "bundled":
        return load_generator(Path(source))
    path = ASSETS / f"{name}.onnx"
    if not path.is_file():
        known = sorted(p.name.removesuffix(".codes.npz") for p in ASSETS.glob("*.codes.npz"))
        raise ModelError(f"there is no bundled generator {name!r}; bundled are {', '.join(known)}")
    return load_generator(path)
