"""Configurations: one TOML file describes one atlas."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from export.errors import ConfigError, suggestion
from pipeline.units import Units, parse_units, parse_units_option

ATLASES = Path("deploy") / "atlases"
"""Where a configuration given by its bare name is looked for."""


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


def _range(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(v) in (int, float) for v in value):
        return tuple(float(v) for v in value)
    raise ValueError("two numbers, [black, white]")


PriorField = Annotated[Any, BeforeValidator(_prior)]
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
    """The optimiser and its schedule, see :class:`export.update.Ascent`; ``start_scale`` spreads the start codes."""

    kind: Literal["adam", "normalized"] = "adam"
    steps: int = Field(default=100, ge=1)
    lr: float = Field(default=0.12, gt=0)
    lr_end: float = Field(default=0.0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    jitter_px: int = Field(default=0, ge=0)
    zoom: float = Field(default=0.0, ge=0, le=0.5)
    rotate_deg: float = Field(default=0.0, ge=0, le=45)
    fit: Literal["resize", "crop"] = "resize"
    start_scale: float = Field(default=0.1, ge=0)


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
        batch: slots of a lane, which step together.
        poll_every: steps between looks at the slots; must divide ``ascent.steps``.
        shard_size: units of a shard; what a killed run loses at most, per process.
    """

    runtime: str = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: int = Field(default=0, ge=0)
    lanes: int = Field(default=0, ge=0)
    batch: int = Field(default=16, ge=1)
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
    """Where jobs start: ``from_last``: when the network alone has changed, from the codes published last."""

    from_last: bool = True


class PublishSection(_Section):
    """What is done with the site.

    Attributes:
        url: it is copied there too: a folder, or ``s3://BUCKET/PREFIX``.
        keep: versions that are kept, tonight's among them.
    """

    url: str | None = Field(default=None, min_length=1)
    keep: int = Field(default=7, ge=1)


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
    run: RunSection = RunSection()
    store: StoreSection = StoreSection()
    start: StartSection = StartSection()
    publish: PublishSection = PublishSection()
    dataset: DatasetSection = DatasetSection()
    studies: StudiesSection = StudiesSection()
    layers: Annotated[tuple[LayerSection, ...], BeforeValidator(_layers)]
    folder: str = ""

    @model_validator(mode="after")
    def _check_polls(self) -> AtlasConfig:
        if self.ascent.steps % self.run.poll_every:
            raise ValueError(
                f"run.poll_every: {self.run.poll_every} must divide ascent.steps, {self.ascent.steps}; "
                "change one of them"
            )
        return self

    @property
    def default_out(self) -> Path:
        return Path("build") / self.name

    def path(self, text: str) -> Path:
        """A path of the configuration; relative ones start at its folder."""
        return Path(self.folder) / text


@dataclass(frozen=True)
class Overrides:
    """What the command line replaces; None keeps the configuration.

    Attributes:
        layers: these layers instead of the configured ones; those configured keep their settings, others get all
            units with one seed.
        units: for every layer.
        seeds: for every layer.
        runtime: the runtime.
    """

    layers: tuple[str, ...] | None = None
    units: Units | None = None
    seeds: int | None = None
    runtime: str | None = None

    def apply(self, config: AtlasConfig) -> AtlasConfig:
        """Return ``config`` with the overrides in place.

        Raises:
            ConfigError: no layer is left, or fewer than one seed.
        """
        if self.layers is not None and not self.layers:
            raise ConfigError("--layers names no layer; give at least one")
        if self.seeds is not None and self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, not {self.seeds}")
        known = {layer.name: layer for layer in config.layers}
        names = self.layers if self.layers is not None else [layer.name for layer in config.layers]
        layers = [known.get(name) or LayerSection(name=name) for name in names]
        changes: dict[str, Any] = {}
        if self.units is not None:
            changes["units"] = self.units
        if self.seeds is not None:
            changes["seeds"] = self.seeds
        run = config.run.model_copy(update={"runtime": self.runtime} if self.runtime else {})
        return config.model_copy(
            update={"layers": tuple(layer.model_copy(update=changes) for layer in layers), "run": run}
        )


def read_overrides(layers: str | None, units: str | None, seeds: int | None, runtime: str | None) -> Overrides:
    """The command line's ``--layers a,b --units 0:64 --seeds N --runtime R``."""
    names = tuple(name.strip() for name in layers.split(",") if name.strip()) if layers is not None else None
    return Overrides(names, parse_units_option(units) if units is not None else None, seeds, runtime)


def load_config(source: str) -> AtlasConfig:
    """Read a configuration.

    Args:
        source: path of a TOML file, or the bare name of one in ``deploy/atlases/``.

    Raises:
        ConfigError: it is missing, is not TOML, or does not fit; every fault is listed, one a line.
    """
    path = find_config(source)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is not TOML: {error}") from error
    if "folder" in raw:
        raise ConfigError(f"configuration {path}: folder: unknown key{suggestion('folder', AtlasConfig.model_fields)}")
    return parse_config(raw, str(path), folder=str(path.parent.resolve()))


def parse_config(raw: dict[str, Any], origin: str, folder: str = "") -> AtlasConfig:
    """Check a configuration that has been read; ``origin`` names it in messages.

    Raises:
        ConfigError: it does not fit; every fault is listed, one a line.
    """
    try:
        return AtlasConfig.model_validate({**raw, "folder": folder})
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors()]
    if len(faults) == 1:
        raise ConfigError(f"configuration {origin}: {faults[0]}")
    raise ConfigError("\n  ".join([f"configuration {origin} has {len(faults)} faults:", *faults]))


def find_config(source: str) -> Path:
    """The file that ``source`` means.

    Raises:
        ConfigError: there is none; configurations with a similar name are suggested.
    """
    path = Path(source)
    if path.is_file():
        return path
    folders = [ATLASES, Path(__file__).resolve().parent.parent / ATLASES]
    if path.name == source and not source.endswith(".toml"):
        for folder in folders:
            if (folder / f"{source}.toml").is_file():
                return folder / f"{source}.toml"
    known = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.toml")})
    raise ConfigError(
        f"configuration not found: {source}{suggestion(path.stem, known)}"
        if known
        else f"configuration not found: {source}; give the path of a TOML file"
    )


def _fault(fault: Any) -> str:
    """One line: the key's full path, what it is and what it should be."""
    where, kind, message, value = fault["loc"], fault["type"], str(fault["msg"]), fault["input"]
    key = _dotted(where)
    if kind == "extra_forbidden":
        known = [name for name in _fields_at(where[:-1]) if name != "folder"]
        return f"{key}: unknown key{suggestion(str(where[-1]), known) or '; known are ' + ', '.join(known)}"
    if kind == "missing":
        return f"{key}: missing; give it a value"
    message = re.sub(r"^(Value error, |Input should be |Input should |String should )", "", message)
    if not key:
        return message
    if key == "name" and kind == "string_pattern_mismatch":
        message = "letters, digits, '.', '_' and '-', since it names a folder"
    wanted = _EXPECTED.get(kind, message)
    if kind == "model_type":
        wanted = f"a table [{key}]"
    return f"{key}: {value!r} is wrong; expected {wanted}"


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "string_too_short": "a text that is not empty",
}


def _dotted(where: Sequence[str | int]) -> str:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fields_at(where: Sequence[str | int]) -> list[str]:
    """Keys of the section at this place."""
    model: type[BaseModel] = AtlasConfig
    for part in where:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
            model = next((a for a in inner if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
