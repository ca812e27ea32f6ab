"""Configurations: one TOML file describes one atlas."""

from __future__ import annotations

from pipeline.config.overrides import Overrides, read_overrides
from pipeline.config.reading import find_config, load_config, parse_config
from pipeline.config.sections import AtlasConfig, LayerSection

__all__ = ["AtlasConfig", "LayerSection", "Overrides", "find_config", "load_config", "parse_config", "read_overrides"]
