"""The engines of a build: compiled, tuned to this machine, compared with the reference, then handed out.

What was measured and compared is kept in :data:`CACHE`, so that a machine does it once.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.host import num_threads
from engine.parity import compare
from engine.protocol import Builder, Runner
from engine.runtimes import builders
from engine.tuning import fastest_lanes, lane_choices
from export.errors import EngineError
from export.manifest import GRAPH_REVISION, StepGraph
from export.step import compile_step
from pipeline.recipe import canonical_json
from pipeline.table import replace_file
from pipeline.warm import Codes, read_codes
from pipeline.workspace import Workspace

CACHE = Path("build") / "engines"
"""What is known of engines on this machine: ``tuning-KEY.json``, ``parity-KEY.json``."""

REFERENCE = "onnxruntime"
"""The runtime that others are compared with, in fp32."""

TOLERANCE = {"fp32": (2e-2, 0.05), "bf16": (0.15, 0.5), "fp16": (0.05, 0.3)}
"""Largest relative differences to the reference that are accepted: of values and gradients, and of one step's move.

Sound engines differ by 1e-6 to 4e-3 in fp32 (a ReLU6 that falls the other way); wrong ones that were met, by 0.13 and
more.
"""


class Engines:
    """The engines of one layer at a time; asking for another layer releases them. Use as a context manager."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._layer = ""
        self._runners: dict[bool, Runner] = {}
        self._codes: tuple[str | None, Codes] | None = None

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
        workspace, config = self._workspace, self._workspace.config
        graph = compile_step(
            workspace.network,
            workspace.generator,
            layer,
            batch=config.run.batch,
            ascent=workspace.ascent,
            decay=config.generator.decay,
            pre_activation=pre_activation,
        )
        identity = self._identity(graph)
        options = dict(workspace.engine_options)
        options["lanes"] = config.run.lanes or self._tuned(graph, options, identity)
        runner = workspace.builder.build(graph, options).__enter__()
        try:
            self._verify(runner, graph, options, identity)
        except BaseException:
            runner.__exit__(None, None, None)
            raise
        return runner

    def _identity(self, graph: StepGraph) -> dict[str, Any]:
        """What a measurement of this engine holds for."""
        workspace = self._workspace
        return {
            "runtime": workspace.builder.name,
            "version": workspace.runtime_version,
            "options": dict(workspace.engine_options),
            "machine": [platform.node(), platform.machine(), num_threads({})],
            "network": workspace.network.digest,
            "generator": workspace.generator.digest,
            "batch": graph.manifest.batch,
            "revision": GRAPH_REVISION,
        }

    def _tuned(self, graph: StepGraph, options: Mapping[str, object], identity: dict[str, Any]) -> int:
        """The number of lanes for this network, measured on the first of its layers that is built here."""
        if self._workspace.builder.device == "gpu":
            return 1  # it has the one batch
        choices = lane_choices(num_threads(options))
        if len(choices) == 1:
            return choices[0]
        file = _file("tuning", identity)
        known = _read(file).get("lanes")
        if isinstance(known, int) and known in choices:
            return known
        builder: Builder = self._workspace.builder
        best, speeds = fastest_lanes(lambda lanes: builder.build(graph, {**options, "lanes": lanes}), choices)
        _write(file, {"lanes": best, "image_steps_per_s": speeds, "layer": graph.manifest.layer, **identity})
        return best

    def _verify(
        self, runner: Runner, graph: StepGraph, options: Mapping[str, object], identity: dict[str, Any]
    ) -> None:
        """Compare with the reference, once per graph and machine.

        Raises:
            EngineError: they differ by more than TOLERANCE; the figures are named.
        """
        workspace = self._workspace
        reference = builders().get(REFERENCE)
        if workspace.builder.name == REFERENCE or reference is None or not reference.availability().ok:
            return
        manifest = graph.manifest
        graph_facts = {"target": manifest.target, "ascent": asdict(workspace.ascent), "steps": manifest.steps}
        file = _file("parity", {**identity, **graph_facts, "decay": workspace.config.generator.decay})
        if _read(file).get("ok"):
            return
        limit = TOLERANCE[workspace.config.run.precision]
        lanes = runner.num_slots // manifest.batch
        with reference.build(graph, {"threads": options.get("threads", 0), "lanes": lanes}) as other:
            report = compare(runner, other, workspace.generator.prior)
        if not report.ok(*limit):
            raise EngineError(
                f"{workspace.builder.name} {workspace.runtime_version} computes layer {manifest.layer} wrongly: "
                f"against {REFERENCE} {report}; at most {limit[0]:g} is accepted, {limit[1]:g} of a move. "
                f'Nothing was stored; set run.runtime to "{REFERENCE}" and report the network'
            )
        _write(file, {"ok": True, **asdict(report), "limit": limit, "layer": manifest.layer, **identity})


def _file(kind: str, identity: Mapping[str, Any]) -> Path:
    return CACHE / f"{kind}-{hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:20]}.json"


def _read(path: Path) -> dict[str, Any]:
    """A kept measurement; empty if there is none or it cannot be read: it is then made again."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, facts: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    except OSError:
        return  # a read-only folder: measured again next time
