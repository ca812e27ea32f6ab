"""Other atlases beside this one: those that the configuration names, and the nights before that are still kept.

The Compare page shows the same unit or layer in several of them: two models, two generators, checkpoints of a training
as a film strip, two nights. It loads their ``data.js`` from where they lie; nothing is copied.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from export.errors import ConfigError
from pipeline import versions
from pipeline.config import AtlasConfig
from pipeline.config.sections import CompareSection
from pipeline.site.incremental import MARKER
from pipeline.site.model import Other

_NIGHT = re.compile(rb'data-href="\.\./versions/([^/"]+)/site"')


def other_atlases(config: AtlasConfig, out: Path) -> tuple[Other, ...]:
    """Every other atlas: the configured ones in their order, then the versions before this one, latest first.

    Args:
        config: of this atlas.
        out: folder of its build; links start at the folder ``site`` in it.

    Raises:
        ConfigError: a folder holds no site, or two atlases have one name.
    """
    found = [*_configured(config, out), *_nights(config, out)]
    names = [other.name for other in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"compare: two atlases are named {twice!r}; give one of them another name")
    return tuple(found)


def hosted(page: bytes) -> bytes:
    """The Compare page as it must be where versions lie side by side: on S3, or in the folder a site is copied to."""
    return _NIGHT.sub(rb'data-href="../\1"', page)


def _configured(config: AtlasConfig, out: Path) -> Iterator[Other]:
    for section in config.compare:
        if section.href is not None:
            name = str(section.name)
            yield Other(name, section.title or name, section.href.rstrip("/"))
            continue
        site = _site(config, section)
        name = section.name or _slug(site.parent.name if site.name == "site" else site.name)
        place = os.path.relpath(site, out.absolute() / "site")
        yield Other(name, section.title or _title(site), quote(Path(place).as_posix()))


def _site(config: AtlasConfig, section: CompareSection) -> Path:
    """The site's folder, without looking through links: what a build shows is switched by one."""
    folder = Path(os.path.abspath(config.path(str(section.build))))
    for site in (folder / "site", folder):
        if (site / MARKER).is_file():
            return site
    raise ConfigError(f"compare: {folder} holds no atlas (no {MARKER}); build it first, or name another folder")


def _title(site: Path) -> str:
    try:
        facts = json.loads((site / MARKER).read_text(encoding="ascii"))
        return str(facts["title"] or facts["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"compare: {site / MARKER} cannot be read ({error}); build that atlas again") from error


def _nights(config: AtlasConfig, out: Path) -> Iterator[Other]:
    """Versions that are kept once another one is there."""
    keep = config.publish.keep - 1
    before = versions.kept(out)[-keep:] if keep else []
    for version, folder in reversed(before):
        yield Other(
            f"version-{version.number}",
            f"Version {version.number}, of {version.date[:10]}",
            f"../{versions.FOLDER}/{quote(folder.name)}/site",
        )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-") or "other"
