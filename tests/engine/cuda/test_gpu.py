"""What only a GPU can show, by the checks of `make gpu-check`. Not yet run on one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.runtimes import builders
from pipeline.engines import REFERENCE
from tests.bench.gpu_check import Subject, check
from tests.engine.conftest import make_prior
from tests.engine.graphs import conv_graph

PAIRS = [(n, precision) for n, b in builders().items() if b.device == "gpu" for precision in b.precisions()]


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_a_small_graph(name: str, precision: str, tmp_path: Path) -> None:
    """Parity, capture, slots, cache, rebuild and speed."""
    builder = builders()[name]
    state = builder.availability()
    if not state.ok:
        pytest.skip(f"{name}: {state.detail}")
    subject = Subject(conv_graph(batch=4, code_dim=64, side=32), make_prior(64), builders()[REFERENCE])
    row = check(subject, builder, precision, tmp_path, time.perf_counter)
    print(row)
    assert not row.failed, {failed: row.results[failed] for failed in row.failed}
