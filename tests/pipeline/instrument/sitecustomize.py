"""Put on PYTHONPATH of processes under test: adds the runtime ``waiting``, and writes down which shards are made.

Python imports it at every start. ``ATLAS_TEST_LOG`` names a file that receives one line per event of the pipeline's
loggers, written at once, so that a process that is killed leaves what it had begun.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import engine.runtimes

engine.runtimes.__path__.append(str(Path(__file__).parent / "runtimes"))

if os.environ.get("ATLAS_TEST_LOG"):
    handler = logging.FileHandler(os.environ["ATLAS_TEST_LOG"])
    handler.setFormatter(logging.Formatter("%(process)d %(created).3f %(message)s"))
    logger = logging.getLogger("pipeline")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
