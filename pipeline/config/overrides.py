"""What the command line replaces in a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from export.errors import ConfigError
from pipeline.config.sections import AtlasConfig, LayerSection, parse_size
from pipeline.units import Units, parse_units_option


@dataclass(frozen=True)
class Overrides:
    """What the command line replaces; None keeps the configuration.

    Attributes:
        layers: these layers instead of the configured ones; those configured keep their settings, others get all
            units with one seed.
        units: for every layer.
        seeds: for every layer.
        runtime: the runtime.
        memory: bytes that a process may take.
    """

    layers: tuple[str, ...] | None = None
    units: Units | None = None
    seeds: int | None = None
    runtime: str | None = None
    memory: int | None = None

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
        told = {"runtime": self.runtime, "memory": self.memory}
        run = config.run.model_copy(update={name: value for name, value in told.items() if value is not None})
        return config.model_copy(
            update={"layers": tuple(layer.model_copy(update=changes) for layer in layers), "run": run}
        )


def read_overrides(
    layers: str | None, units: str | None, seeds: int | None, runtime: str | None, memory: str | None = None
) -> Overrides:
    """The command line's ``--layers a,b --units 0:64 --seeds N --runtime R --memory 4GiB``.

    Raises:
        ConfigError: units or a size that cannot be read.
    """
    names = tuple(name.strip() for name in layers.split(",") if name.strip()) if layers is not None else None
    chosen = parse_units_option(units) if units is not None else None
    return Overrides(names, chosen, seeds, runtime, _size(memory) if memory is not None else None)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise ConfigError(f"--memory takes a size such as 4GiB or 800MB, not {text!r}") from error
