"""The errors a user can cause.

::

    AtlasError                    anything that goes wrong in a way we foresee; exit code 1
    ├── InputError                what the user gave is wrong; found before work is done; exit code 2
    │   ├── ConfigError           a configuration file: unknown key, wrong type, missing value
    │   ├── ModelError            a network or generator cannot be read or used
    │   │   └── MissingRuleError  the gradient needs operators that have no vjp rule (all of them are listed)
    │   └── StoreError            the store cannot be written or read
    ├── StoreUnavailableError     the store was full or away in the course of the work; what is done is kept
    └── EngineError               a runtime could not build or run an engine

Every message is one clear sentence that says what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AtlasError(Exception):
    """Base of every foreseen error."""

    exit_code = 1


class InputError(AtlasError):
    """The user's input is wrong; nothing has been done yet."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration file is wrong."""


class ModelError(InputError):
    """A network or generator cannot be read or used."""


class MissingRuleError(ModelError):
    """The gradient needs operators that have no vjp rule."""


class StoreError(InputError):
    """The store cannot be written or read."""


class StoreUnavailableError(AtlasError):
    """The store was full or away in the course of the work; what is done is kept, and running again goes on."""


class EngineError(AtlasError):
    """A runtime could not build or run an engine."""


def suggestion(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return ``"; did you mean a, b?"`` for the known names nearest to ``name``, or an empty string."""
    known = list(known)
    near = difflib.get_close_matches(name, known, count, cutoff=0.5)
    near += [k for k in known if k not in near and (k.endswith("." + name) or name.lower() in k.lower())][
        : count - len(near)
    ]
    return f"; did you mean {', '.join(near)}?" if near else ""
