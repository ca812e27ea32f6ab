"""The engines of a build: compiled, tuned to this machine, compared with the reference, then handed out.

What was measured and compared is kept in :data:`pipeline.tuning.CACHE`, so that a machine does it once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from engine.parity import Probe, compare, probe
from engine.protocol import Runner
from engine.runtimes import builders
from export.errors import EngineError
from export.manifest import StepGraph
from pipeline.candidates import Candidates
from pipeline.facts import read_facts, write_facts
from pipeline.tuning import cache_file, compiled, fitting_lanes, identity, tuned_engine
from pipeline.warm import Codes, read_codes
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)

REFERENCE = "onnxruntime"
"""The runtime that others are compared with, in fp32."""

TOLERANCE = {"fp32": (2e-2, 0.15), "bf16": (0.9, 0.95), "fp16": (0.5, 0.75)}
"""Largest relative differences to the reference that are accepted: of values and gradients, and of one step's move.

Sound engines differ by 1e-6 to 7e-3 in fp32, where the gradient of 1 in 200 codes is off by up to 0.05 (a ReLU6 that
falls the other way), their moves by up to 0.053; wrong ones that were met, by 0.13 and more in value. Rounding alone,
all sums in fp32, puts layers of the demo up to 0.36 and 0.44 off in fp16, 0.61 and 0.71 in bf16
(tests/engine/cuda/test_builder.py): there the gate sees gross errors only.
"""

NUM_PROBED = 32
"""Codes that are compared."""


class Engines:
    """The engines of one layer at a time; asking for another layer releases them. Use as a context manager.

    Args:
        workspace: settings.
        say: told in a sentence what keeps jobs waiting.

    Attributes:
        candidates: where jobs start that have no code of an earlier network.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None] = log.info) -> None:
        self._workspace = workspace
        self._layer = ""
        self._runners: dict[bool, Runner] = {}
        self._codes: tuple[str | None, Codes] | None = None
        self.candidates = Candidates(workspace, say)

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release every engine."""
        runners, self._runners = self._runners, {}
        for runner in runners.values():
            runner.__exit__(None, None, None)

    def start_codes(self, start: str | None) -> Codes:
        """The codes that a recipe starts from, read once for all its shards."""
        if self._codes is None or self._codes[0] != start:
            self._codes = start, read_codes(self._workspace.store, start)
        return self._codes[1]

    def runner(self, layer: str, *, pre_activation: bool) -> Runner:
        """The engine of a layer, built unless it is there.

        Raises:
            ModelError: the layer cannot be compiled.
            EngineError: the runtime cannot build it, or it computes something else than the reference.
        """
        if layer != self._layer:
            self.close()
            self._layer = layer
        if pre_activation not in self._runners:
            self._runners[pre_activation] = self._build(layer, pre_activation=pre_activation)
        return self._runners[pre_activation]

    def _build(self, layer: str, *, pre_activation: bool) -> Runner:
        workspace = self._workspace
        graph = compiled(workspace, layer, workspace.batch, pre_activation=pre_activation)
        lanes = fitting_lanes(workspace, graph.manifest)
        kept = self._parity_file(graph)
        reference = self._reference(graph) if not read_facts(kept).get("ok") else None
        runner = tuned_engine(workspace, graph, lanes, beside=next(iter(self._runners.values()), None))
        try:
            if reference is not None:
                self._verify(runner, reference, kept)
        except BaseException:
            runner.__exit__(None, None, None)
            raise
        return runner

    def _parity_file(self, graph: StepGraph) -> Path:
        workspace, manifest = self._workspace, graph.manifest
        facts = {"target": manifest.target, "ascent": asdict(workspace.ascent(manifest.layer)), "batch": manifest.batch}
        return cache_file("parity", {**identity(workspace), **facts, "decay": workspace.config.generator.decay})

    def _reference(self, graph: StepGraph) -> Probe | None:
        """What the reference makes of some codes; None where there is none to compare with.

        Its engine is gone when the one in question is built, so that memory holds one at a time.
        """
        builder = builders().get(REFERENCE)
        if self._workspace.builder.name == REFERENCE or builder is None or not builder.availability().ok:
            return None
        with builder.build(graph, {"threads": self._workspace.config.run.threads}) as runner:
            return probe(runner, self._workspace.generator.prior, NUM_PROBED)

    def _verify(self, runner: Runner, reference: Probe, kept: Path) -> None:
        """Compare with the reference, once per graph and machine.

        Raises:
            EngineError: they differ by more than TOLERANCE; the figures are named.
        """
        workspace = self._workspace
        limit, layer = TOLERANCE[workspace.config.run.precision], runner.manifest.layer
        report = compare(probe(runner, workspace.generator.prior, NUM_PROBED), reference)
        if not report.ok(*limit):
            raise EngineError(
                f"{workspace.builder.name} {workspace.runtime_version} computes layer {layer} wrongly: "
                f"against {REFERENCE} {report}; at most {limit[0]:g} is accepted, {limit[1]:g} of a move. "
                f'Nothing was stored; set run.runtime to "{REFERENCE}" and report the network'
            )
        write_facts(kept, {"ok": True, **asdict(report), "limit": limit, "layer": layer, **identity(workspace)})
