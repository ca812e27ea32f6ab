"""Generators: an ONNX file that maps a code to an image, its card, and its code prior."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from export.cards import CARD_KEY, GeneratorCard, GeneratorOutput, parse_card
from export.declared_prior import Declaration, make_prior
from export.errors import InputError, ModelError, suggestion
from export.models import ASSETS, digest_of, read_model
from export.output_range import check_output
from export.passes.batch import set_batch
from export.passes.flat_code import flatten_code
from export.passes.shapes import static_shape
from export.prior import CodePrior, Matrix, Vector, read_candidates, read_pace

FROM_TORCH = ("deepsim", "diffusers", "python")
"""Kinds of source that need PyTorch: modules of :mod:`export.generators.sources`."""
PARAMETRISED = ("fourier", "pixels")
"""Kinds of source that are written as a graph: modules of :mod:`export.generators`."""


@dataclass(frozen=True)
class Generator:
    """A generator on disk.

    Attributes:
        path: the ``.onnx`` file; ``NAME.codes.npz`` beside it holds the code prior, unless one is declared.
        digest: SHA-256 of the model's bytes, of the prior's and of what else was declared.
        card: source, licence, what the output means, training data.
        prior: code statistics and what keeps a code plausible.
        image_px: side of its square image.
        pace: (code_dim,) what Adam's step along a component of the code is multiplied by, None for 1.
        candidates: (K, code_dim) plausible codes that an ascent may start from, None where it brings none.
    """

    path: Path
    digest: str
    card: GeneratorCard
    prior: CodePrior
    image_px: int
    pace: Vector | None = None
    candidates: Matrix | None = None

    @property
    def code_dim(self) -> int:
        return self.prior.code_dim

    @cached_property
    def _read(self) -> ir.Model:
        return read_model(self.path)

    def model(self, batch: int) -> ir.Model:
        """A copy of the graph, code (batch, code_dim) in, with static shapes; the file is read once."""
        model = self._read.clone()
        set_batch(model, batch)
        flatten_code(model)
        return model


@dataclass(frozen=True)
class Declared:
    """What a user says about a generator that its files do not say, or say otherwise.

    Attributes:
        prior: see :func:`export.declared_prior.make_prior`; None for what the generator came with.
        range: values of black and white in the output; None for what the card says, [0, 1] without a card.
        channels: order of the output's channels; None for what the card says.
        folder: where relative paths start.
    """

    prior: Declaration | None = None
    range: tuple[float, float] | None = None
    channels: Literal["RGB", "BGR"] | None = None
    folder: Path = Path()

    def output(self, known: GeneratorOutput) -> GeneratorOutput:
        """``known`` with what is declared in its place."""
        if self.range is not None:
            return GeneratorOutput.of_range(*self.range, channels=self.channels or known.channels)
        return known.model_copy(update={"channels": self.channels}) if self.channels else known


NOTHING = Declared()


def load_generator(path: Path, declared: Declared = NOTHING) -> Generator:
    """Open an ``.onnx`` generator.

    Raises:
        ModelError: missing, corrupt, not a map from a code (N, ...) to an image (N, 3, S, S), statistics of another
            length, or an output outside the declared range.
        InputError: no statistics and no prior declared, or a wrong declaration.
    """
    digest = digest_of(path)
    model = read_model(path)
    text = model.metadata_props.get(CARD_KEY)
    card = parse_card(GeneratorCard, text, path) if text is not None else GeneratorCard(title=path.stem)
    output = declared.output(card.output)
    set_batch(model, 1)
    try:
        parts = flatten_code(model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    codes = _codes(path, parts, declared)
    prior = codes.prior
    code, image = static_shape(model.graph.inputs[0]), static_shape(model.graph.outputs[0])
    if code != (1, prior.code_dim):
        raise ModelError(
            f"{path} takes a code of shape {code}, but {_statistics(path).name} describes codes of {prior.code_dim}"
        )
    if image is None or len(image) != 4 or image[1] != 3 or image[2] != image[3]:
        raise ModelError(f"{path}: a generator's output must be a square RGB image (N, 3, S, S), but is {image}")
    changed = output != card.output
    if changed:
        digest = hashlib.sha256(f"{digest}{output.model_dump_json()}".encode()).hexdigest()
    card = card.model_copy(update={"output": output})
    generator = Generator(path, f"{digest}-{codes.digest}", card, prior, image[2], codes.pace, codes.candidates)
    if text is None or changed:  # nobody has looked yet whether what is said is true
        check_output(generator.model(2), prior, output, str(path))
    return generator


def _statistics(path: Path) -> Path:
    return path.with_suffix(".codes.npz")


@dataclass(frozen=True)
class _Codes:
    """What is known of a generator's codes; ``digest`` is of where it came from. The rest as in :class:`Generator`."""

    prior: CodePrior
    pace: Vector | None
    candidates: Matrix | None
    digest: str


def _codes(path: Path, parts: tuple[int, ...], declared: Declared) -> _Codes:
    statistics = _statistics(path)
    if declared.prior is None:
        try:
            prior = CodePrior.load(statistics)
            pace, candidates = read_pace(statistics, prior.code_dim), read_candidates(statistics, prior)
            return _Codes(prior, pace, candidates, digest_of(statistics))
        except InputError as error:
            if statistics.exists():
                raise
            raise InputError(f'{error}; or declare one: [generator] prior = "gaussian"') from error
    known = CodePrior.load(statistics) if statistics.exists() else None
    if known is not None and known.code_dim != sum(parts):
        raise ModelError(
            f"{path} takes a code of {sum(parts)}, but {statistics.name} describes codes of {known.code_dim}"
        )
    prior = make_prior(declared.prior, parts, known, declared.folder)
    pace = None if known is None else read_pace(statistics, prior.code_dim)
    candidates = None if known is None else read_candidates(statistics, prior)
    more = [array.astype("<f4").tobytes() for array in (pace, candidates) if array is not None]
    digest = prior.digest()
    if more:
        digest = hashlib.sha256(b"".join([digest.encode(), *more])).hexdigest()
    return _Codes(prior, pace, candidates, digest)


def resolve_generator(
    source: str, *, weights: Path | None = None, declared: Declared = NOTHING, cache: Path | None = None
) -> Generator:
    """Find or make the generator that ``source`` names.

    Args:
        source: ``bundled:NAME``, an ``.onnx`` file, ``deepsim:fc6|fc7|pool5``, ``diffusers:FOLDER:IMAGE_PX``,
            ``python:package.module:factory``, ``pixels:IMAGE_PX`` or ``fourier:IMAGE_PX``.
        weights: file of weights, for the kinds that take one.
        declared: what replaces what the generator says of itself.
        cache: folder for generators that are made; ``build/networks`` by default.

    Raises:
        ModelError: see :func:`load_generator`; an unknown source, or PyTorch is needed and missing.
    """
    kind, _, name = source.partition(":")
    cache = cache or Path("build") / "networks"
    if weights is not None and kind not in FROM_TORCH:
        raise ModelError(f"generator {source} takes no weights; they belong to {', '.join(FROM_TORCH)}")
    if kind == "bundled":
        path = ASSETS / f"{name}.onnx"
        if not path.is_file():
            known = sorted(p.name.removesuffix(".codes.npz") for p in ASSETS.glob("*.codes.npz"))
            raise ModelError(f"there is no bundled generator {name!r}; bundled are {', '.join(known)}")
        return load_generator(path, declared)
    if kind in PARAMETRISED:
        made = importlib.import_module(f"export.generators.{kind}").write(name, cache)
        return load_generator(made, declared)
    if kind in FROM_TORCH:
        try:
            from export.generators.sources import export_generator
        except ImportError as error:
            raise ModelError(f"{source} needs PyTorch ({error}); run: pip install 'neuron-atlas[export]'") from error
        return load_generator(export_generator(source, weights, cache, declared.folder), declared)
    if source.endswith(".onnx"):
        return load_generator(Path(source), declared)
    kinds = [f"{k}:..." for k in ("bundled", *PARAMETRISED, *FROM_TORCH)]
    raise ModelError(
        f"unknown generator {source!r}{suggestion(kind, [k[:-4] for k in kinds])}; give an .onnx file or "
        f"{', '.join(kinds)}"
    )
