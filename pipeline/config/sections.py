"""The sections of a configuration, as typed models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from pipeline.units import Units, parse_units

LEAST_ZOOM, MOST_ZOOM = 0.5, 4.0


def _labels(value: object) -> object:
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    if value is None or (isinstance(value, str) and value):
        return value
    raise ValueError("a list of names, or the path of a text file with one name a line")


def _layers(value: object) -> object:
    if isinstance(value, list | tuple) and value:
        return tuple(value)
    raise ValueError("one table [[layers]] or more")


def _prior(value: object) -> object:
    tables = value if isinstance(value, list | tuple) and value else [value]
    if value is None or all(isinstance(t, str) or (isinstance(t, dict) and "kind" in t) for t in tables):
        return value
    raise ValueError('a kind such as "gaussian", a table with a kind, or a list of these')


def _pair(value: object) -> tuple[float, float] | None:
    """Two numbers as such; None of anything else."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(v) in (int, float) for v in value):
        return float(value[0]), float(value[1])
    return None


def _range(value: object) -> object:
    if value is None:
        return None
    if pair := _pair(value):
        return pair
    raise ValueError("two numbers, [black, white]")


def _zoom(value: object) -> object:
    if value is None:
        return None
    pair = _pair(value)
    if pair and LEAST_ZOOM <= pair[0] <= pair[1] <= MOST_ZOOM:
        return pair
    raise ValueError(
        f"two magnifications from {LEAST_ZOOM:g} to {MOST_ZOOM:g}, the smaller one first, such as [0.9, 1.1]"
    )


def parse_size(value: object) -> int:
    """Bytes of a size such as ``4GiB`` or ``800MB``; raises ValueError."""
    try:
        return int(_SIZE.validate_python(value))
    except ValidationError as error:
        raise ValueError('a size such as "4GiB"') from error


def _memory(value: object) -> object:
    return value if value is None or type(value) is int else parse_size(value)


_SIZE = TypeAdapter(ByteSize)
MemoryField = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_memory)]
PriorField = Annotated[Any, BeforeValidator(_prior)]
ZoomField = Annotated[Any, BeforeValidator(_zoom)]
RangeField = Annotated[Any, BeforeValidator(_range)]
UnitsField = Annotated[Any, BeforeValidator(parse_units)]
LabelsField = Annotated[Any, BeforeValidator(_labels)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NetworkSection(_Section):
    """The network to explain.

    Attributes:
        source: ``bundled:NAME``, an ``.onnx`` file, ``torchvision:NAME``, ``timm:NAME`` or ``python:MODULE:FACTORY``.
        weights: file of a state dict for a PyTorch network.
        labels: names of the classes, or a text file with one a line; replaces those of the network's card.
    """

    source: str = Field(min_length=1)
    weights: str | None = None
    labels: LabelsField = None


class GeneratorSection(_Section):
    """The generator that serves as image prior.

    Attributes:
        source: see :func:`export.generator.resolve_generator`.
        weights: file of weights, for a generator whose source takes one.
        prior: keeps a code plausible: a kind, a table with its options, or a list of these, one per part of the code;
            by default what the generator came with.
        range: values of black and white in the generator's output, where its card does not say.
        channels: order of its channels, where its card does not say.
        decay: replaces the decay of every code component per step.
    """

    source: str = Field(default="bundled:lite0-hybrid", min_length=1)
    weights: str | None = None
    prior: PriorField = None
    range: RangeField = None
    channels: Literal["RGB", "BGR"] | None = None
    decay: float | None = Field(default=None, gt=0, le=1)


class AscentSection(_Section):
    """The optimiser and its schedule, see :class:`export.update.Ascent`.

    Attributes:
        zoom: by default :data:`export.view.ZOOM_OF_CLASSES` for layers without positions under Adam, else none: what
            shows a class shows it from nearer too, but an edge is another from nearer.
        start_scale: spreads the start codes.
        negative: also synthesise, once per unit, what lowers it most; it changes no other result.
    """

    kind: Literal["adam", "normalized"] = "adam"
    steps: int = Field(default=60, ge=1)
    lr: float = Field(default=0.25, gt=0)
    lr_end: float = Field(default=0.0, ge=0)
    warmup: int = Field(default=10, ge=0)
    beta1: float = Field(default=0.5, ge=0, lt=1)
    beta2: float = Field(default=0.9, ge=0, lt=1)
    jitter_px: int = Field(default=0, ge=0)
    zoom: ZoomField = None
    rotate_deg: float = Field(default=0.0, ge=0, le=45)
    fit: Literal["resize", "crop"] = "resize"
    start_scale: float = Field(default=0.1, ge=0)
    negative: bool = False


STEPS_PER_FRAME = 10
"""Of ascent, by default. Decoding takes about a quarter of a step that sees the whole picture."""


class FilmSection(_Section):
    """How a climb is shown, see :mod:`pipeline.films`. Changing it makes the seeds that have a film anew.

    Attributes:
        frames: pictures kept on the way, 0 for none; each costs what decoding an image costs. By default one per
            :data:`STEPS_PER_FRAME` steps, 8 at most.
        px: side of a frame.
        seeds: of each unit that get a film, the first ones.
    """

    frames: int | None = Field(default=None, ge=0, le=15)
    px: int = Field(default=64, ge=16, le=256)
    seeds: int = Field(default=1, ge=0)


class StopSection(_Section):
    """When a job ends before its last step, see :class:`engine.slots.StopRule`."""

    patience: int = Field(default=20, ge=1)
    tolerance: float = Field(default=0.0, ge=0)
    minimum: int = Field(default=0, ge=0)
    dead_after: int = Field(default=10, ge=1)


class RunSection(_Section):
    """How the work is run.

    Attributes:
        runtime: one that ``neuron-atlas engines`` lists; ``auto`` is the first of them that can run here.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        threads: 0 for all cores.
        lanes: batches that step side by side on their shares of the threads; 0 measures once what is fastest here. No
            result depends on it.
        batch: slots of a lane, which step together; part of the recipe. 0: the first build of a store measures which is
            fastest, and all later ones keep to it.
        memory: what a process may take at its peak, such as ``4GiB``; fewer lanes are run, and a smaller batch where it
            is 0, to stay below it. By default four fifths of what is free.
        poll_every: steps between looks at the slots; must divide ``ascent.steps``.
        shard_size: units of a shard; what a killed run loses at most, per process.
    """

    runtime: str = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: int = Field(default=0, ge=0)
    lanes: int = Field(default=0, ge=0)
    batch: int = Field(default=16, ge=0)
    memory: MemoryField = None
    poll_every: int = Field(default=5, ge=1)
    shard_size: int = Field(default=64, ge=1)


class StoreSection(_Section):
    """Where results are kept.

    Attributes:
        url: a folder, or ``s3://BUCKET/PREFIX``; by default the folder ``store`` of the build. No credentials in it.
        patience_s: how long it is tried again while the store is away.
        keep_days: results that no kept version shows are removed when they are older than this; 0 keeps all.
    """

    url: str | None = Field(default=None, min_length=1)
    patience_s: float = Field(default=600.0, ge=0)
    keep_days: int = Field(default=30, ge=0)


class StartSection(_Section):
    """Where jobs start.

    Attributes:
        from_last: when the network alone has changed, from the codes published last.
        candidates: else from that one of so many codes which activates the unit most, see :mod:`pipeline.candidates`;
            0 starts at the prior's mean. By default those that the generator brings; where it brings none, so many are
            drawn from its prior.
        attempts: starts of each unit and seed that are climbed from; the one that is highest after ``trial_steps`` goes
            on alone. A job with a code of ``from_last`` has one attempt.
        trial_steps: a multiple of ``run.poll_every``; by default a quarter of the ascent's, in whole polls.
    """

    from_last: bool = True
    candidates: int | None = Field(default=None, ge=0, le=65536)
    attempts: int = Field(default=1, ge=1, le=64)
    trial_steps: int | None = Field(default=None, ge=1)


class PublishSection(_Section):
    """What is done with the site.

    Attributes:
        url: it is copied there too: a folder, or ``s3://BUCKET/PREFIX``.
        keep: versions that are kept, tonight's among them.
    """

    url: str | None = Field(default=None, min_length=1)
    keep: int = Field(default=7, ge=1)


class CompareSection(_Section):
    """Another atlas that the Compare page can show beside this one, see :mod:`pipeline.beside`.

    Attributes:
        build: folder of its build, or of its site; relative to the configuration.
        href: where its site lies, seen from this site's folder; for sites on a host. One of the two is needed.
        name: in addresses: a-z, 0-9, ``.``, ``_`` and ``-``; by default that of the folder.
        title: to be read by people; by default what its site says.
    """

    build: str | None = Field(default=None, min_length=1)
    href: str | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, pattern=r"^[a-z0-9._-]+$")
    title: str | None = None

    @model_validator(mode="after")
    def _check_place(self) -> CompareSection:
        if (self.build is None) == (self.href is None):
            raise ValueError("give either build, the other atlas's folder, or href, its address seen from this site")
        if self.href is not None and self.name is None:
            raise ValueError('give a name with href, such as "epoch-10"')
        return self


class LayerSection(_Section):
    """A layer, its units, and how many seeds (start codes) each of them gets."""

    name: str = Field(min_length=1)
    title: str | None = None
    units: UnitsField = "all"
    seeds: int = Field(default=1, ge=1)

    @property
    def selection(self) -> Units:
        """The units asked for."""
        units: Units = self.units
        return units


PathsField = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]


class DatasetSection(_Section):
    """The dataset pass, see :class:`pipeline.dataset.passes.PassSettings`.

    Attributes:
        images: folder, ``.tar`` or ``.txt`` list of pictures.
        publish: patterns of paths within it whose pixels may be published; the others are only pointed to.
        top: pictures kept per unit.
        bins: of the histograms.
        sample: pictures of the random sample.
        batch: pictures at a time.
    """

    images: str | None = None
    publish: PathsField = ()
    top: int = Field(default=9, ge=1)
    bins: int = Field(default=64, ge=8)
    sample: int = Field(default=1024, ge=1)
    batch: int = Field(default=32, ge=1)


class StudiesSection(_Section):
    """What studies need besides the data set, see :class:`pipeline.studies.base.context.Inputs`."""

    judge: str | None = None
    judge_layer: str | None = None
    training: PathsField = ()
    held_out: PathsField = ()
    compare: PathsField = ()
    checkpoints: PathsField = ()
    classes: str | None = None


class AtlasConfig(_Section):
    """All of a configuration; ``folder`` is where its relative paths start."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    network: NetworkSection
    generator: GeneratorSection = GeneratorSection()
    ascent: AscentSection = AscentSection()
    stop: StopSection = StopSection()
    film: FilmSection = FilmSection()
    run: RunSection = RunSection()
    store: StoreSection = StoreSection()
    start: StartSection = StartSection()
    publish: PublishSection = PublishSection()
    dataset: DatasetSection = DatasetSection()
    studies: StudiesSection = StudiesSection()
    compare: Annotated[
        tuple[CompareSection, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
    ] = ()
    layers: Annotated[tuple[LayerSection, ...], BeforeValidator(_layers)]
    folder: str = ""

    @model_validator(mode="after")
    def _check_polls(self) -> AtlasConfig:
        if self.ascent.steps % self.run.poll_every:
            raise ValueError(
                f"run.poll_every: {self.run.poll_every} must divide ascent.steps, {self.ascent.steps}; "
                "change one of them"
            )
        trial = self.start.trial_steps
        if trial is not None and (trial % self.run.poll_every or trial > self.ascent.steps):
            raise ValueError(
                f"start.trial_steps: {trial} must be a multiple of run.poll_every, {self.run.poll_every}, and at most "
                f"ascent.steps, {self.ascent.steps}"
            )
        return self

    def beside(self, folders: Sequence[Path]) -> AtlasConfig:
        """The same, with further atlases to compare with, by their builds' folders."""
        more = tuple(CompareSection(build=str(folder.absolute())) for folder in folders)
        return self.model_copy(update={"compare": (*self.compare, *more)})

    @property
    def default_out(self) -> Path:
        return Path("build") / self.name

    def path(self, text: str) -> Path:
        """A path of the configuration; relative ones start at its folder."""
        return Path(self.folder) / text
