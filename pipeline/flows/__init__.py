"""The Prefect flows: thin shells over :mod:`pipeline.build` and :mod:`pipeline.work`.

``atlas`` builds and publishes one atlas; ``shards`` is a helper that makes shards of it on another worker. What is done
is decided by the store, and who does it by claims in the store; Prefect starts the runs and shows them.
"""

from __future__ import annotations

from pipeline.flows.atlas import atlas
from pipeline.flows.shards import shards

__all__ = ["atlas", "shards"]
