"""The workspace: a configuration with everything it names opened and checked. Nothing is compiled."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.host import chosen_precision
from engine.loop import spaced_steps
from engine.protocol import Builder
from engine.runtimes import get_builder
from engine.slots import StopRule
from export.errors import ConfigError
from export.generator import Declared, Generator, resolve_generator
from export.network import LayerInfo, Network, resolve_network
from export.step import compile_decode
from export.update import Ascent
from export.view import NO_ZOOM, ZOOM_OF_CLASSES
from pipeline.config import AtlasConfig
from pipeline.config.sections import STEPS_PER_FRAME
from pipeline.recipe import Recipe, prior_digest
from pipeline.store import Store
from pipeline.tuning import tuned_batch

CACHE = Path("build") / "networks"
"""Where networks exported from PyTorch are kept."""


@dataclass(frozen=True)
class Workspace:
    """What a build works with.

    Attributes:
        config: what was asked for.
        out: folder of the store, the table and the site.
        network: what is explained.
        generator: the image prior.
        builder: the runtime; it can run here.
        store: where shards are kept.
        labels: names of the network's classes, None when they have none.
        store_options: for the file systems of the store and the site; they may hold secrets, and stay in memory.
    """

    config: AtlasConfig
    out: Path
    network: Network
    generator: Generator
    builder: Builder
    store: Store
    labels: tuple[str, ...] | None
    store_options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def runtime_version(self) -> str:
        """The version with which :meth:`Builder.availability` begins its detail."""
        return self.builder.availability().detail.partition(",")[0].strip()

    @property
    def engine_options(self) -> Mapping[str, object]:
        return {"threads": self.config.run.threads, "precision": self.config.run.precision}

    @cached_property
    def batch(self) -> int:
        """Slots of a lane; measured first where configuration and store leave it open, see :mod:`pipeline.tuning`."""
        return tuned_batch(self)

    def decode(self, batch: int) -> bytes:
        """The graph that makes images of codes, see :func:`export.step.compile_decode`.

        The same for every layer, and as large as the generator: that of the last batch is kept.
        """
        if batch not in self._decodes:
            self._decodes.clear()
            self._decodes[batch] = compile_decode(self.generator, batch)
        return self._decodes[batch]

    @cached_property
    def _decodes(self) -> dict[int, bytes]:
        return {}

    @property
    def num_candidates(self) -> int:
        """Codes that are tried as starts: as many as were asked for, or as the generator brings."""
        asked, brought = self.config.start.candidates, self.generator.candidates
        if brought is None:
            return asked or 0
        return len(brought) if asked is None else min(asked, len(brought))

    def ascent(self, layer: str) -> Ascent:
        """How the units of a layer are climbed."""
        section = self.config.ascent
        nearer = section.kind == "adam" and len(self.network.layer(layer).shape) == 1
        return Ascent(
            kind=section.kind,
            steps=section.steps,
            lr=section.lr,
            lr_end=section.lr_end,
            warmup=section.warmup,
            beta1=section.beta1,
            beta2=section.beta2,
            jitter_px=section.jitter_px,
            zoom=section.zoom or (ZOOM_OF_CLASSES if nearer else NO_ZOOM),
            rotate_deg=section.rotate_deg,
            fit=section.fit,
        )

    @property
    def stop_rule(self) -> StopRule:
        section = self.config.stop
        return StopRule(
            max_steps=self.config.ascent.steps,
            tolerance=section.tolerance,
            patience=section.patience,
            minimum=section.minimum,
            dead_after=section.dead_after,
        )

    @property
    def trial_steps(self) -> int:
        """After how many steps the best of several attempts goes on alone; 0 where there is one."""
        start, polls = self.config.start, self.config.run.poll_every
        if start.attempts == 1:
            return 0
        return start.trial_steps or max(1, self.config.ascent.steps // 4 // polls) * polls

    def labels_of(self, layer: LayerInfo) -> tuple[str, ...] | None:
        """Names of a layer's units: the classes, if it is a vector of that many components."""
        return self.labels if self.labels and layer.shape == (len(self.labels),) else None

    def recipe(self, layer: LayerInfo, seed: int) -> Recipe:
        """The recipe of one (layer, seed)."""
        run, start, ascent = self.config.run, self.config.start, self.ascent(layer.name)
        return Recipe(
            network=self.network.digest,
            generator=self.generator.digest,
            prior=self._prior_digest,
            layer=layer.name,
            target=layer.tensor,
            fallback=layer.pre_activation,
            ascent=asdict(ascent)
            | {"zoom": list(ascent.zoom)},  # as JSON reads it: recipes are compared with stored ones
            stop=asdict(self.stop_rule),
            poll_every=run.poll_every,
            start_scale=self.config.ascent.start_scale,
            candidates=self.num_candidates or None,
            attempts={"count": start.attempts, "trial_steps": self.trial_steps} if start.attempts > 1 else None,
            runtime=self.builder.name,
            runtime_version=self.runtime_version,
            precision=run.precision,
            batch=self.batch,
            seed=seed,
            film=self.film(seed) if layer.sign > 0 else None,
        )

    def film(self, seed: int) -> dict[str, Any] | None:
        """Steps and size of the frames that are kept of this seed's climbs, as a recipe tells them; None for none."""
        section, num_steps = self.config.film, self.config.ascent.steps
        count = min(8, num_steps // STEPS_PER_FRAME) if section.frames is None else section.frames
        steps = spaced_steps(count, num_steps, self.config.run.poll_every)
        return {"steps": list(steps), "px": section.px} if steps and seed < section.seeds else None

    @cached_property
    def _prior_digest(self) -> str:
        return prior_digest(self.generator.prior, self.config.generator.decay)


def open_workspace(config: AtlasConfig, out: Path, store_options: Mapping[str, Any] | None = None) -> Workspace:
    """Open what a configuration names.

    Args:
        config: what is asked for.
        out: folder of the build.
        store_options: for the store's file system: ``endpoint_url``, ``key``, ``secret``; by default the environment
            tells. Kept in memory only.

    Raises:
        InputError: the network, the generator or the labels cannot be read, or the runtime or precision cannot run
            here.
        StoreError: no installed file system reads the store's URL.
    """
    builder = get_builder(config.run.runtime)
    chosen_precision({"precision": config.run.precision}, builder.precisions(), builder.name)
    network = open_network(config)
    generator = open_generator(config)
    labels = _read_labels(config) or network.labels
    return Workspace(
        config,
        out,
        network,
        generator,
        builder,
        open_store(config, out, store_options),
        labels,
        dict(store_options or {}),
    )


def open_store(config: AtlasConfig, out: Path, options: Mapping[str, Any] | None = None) -> Store:
    """The configured store; a relative path starts at the configuration's folder.

    Raises:
        StoreError: no installed file system reads its URL.
    """
    section = config.store
    url = section.url or str(out / "store")
    if section.url and "://" not in section.url:
        url = str(config.path(section.url))
    return Store(url, options, section.patience_s)


def open_network(config: AtlasConfig) -> Network:
    """The configured network; see :func:`export.network.resolve_network`."""
    weights = config.path(config.network.weights) if config.network.weights else None
    return network_of(located(config, config.network.source), weights)


def open_generator(config: AtlasConfig) -> Generator:
    """The configured generator; see :func:`export.generator.resolve_generator`."""
    section = config.generator
    _import_from_here(section.source)
    return resolve_generator(
        located(config, section.source),
        weights=config.path(section.weights) if section.weights else None,
        declared=Declared(section.prior, section.range, section.channels, Path(config.folder)),
        cache=CACHE,
    )


def network_of(source: str, weights: Path | None = None) -> Network:
    """The network that ``source`` names; factories of the working directory can be imported."""
    _import_from_here(source)
    return resolve_network(source, weights=weights, cache=CACHE)


def _import_from_here(source: str) -> None:
    if source.startswith("python:") and "" not in sys.path:
        sys.path.insert(0, "")


def located(config: AtlasConfig, source: str) -> str:
    """A source in which the path of a file starts at the configuration's folder."""
    return str(config.path(source)) if source.endswith(".onnx") else source


def _read_labels(config: AtlasConfig) -> tuple[str, ...] | None:
    labels: Any = config.network.labels
    if not isinstance(labels, str):
        return labels if labels is None else tuple(labels)
    path = config.path(labels)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"network.labels: {path} cannot be read: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ConfigError(f"network.labels: {path} is empty; give one name a line")
    return names
