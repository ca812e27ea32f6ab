"""`make gpu-check` on fake GPUs: what it prints, and that each of its checks sees what it is there for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from engine.protocol import Availability, Builder, Runner
from engine.runtimes import builders
from engine.runtimes.onnxruntime import OnnxRuntimeBuilder
from engine.runtimes.onnxruntime_cuda import OnnxRuntimeCudaBuilder
from export.errors import EngineError
from export.manifest import StepGraph
from export.projection import Load
from tests.bench import gpu_check
from tests.bench.gpu_check import Subject, check, page
from tests.bench.gpu_page import WIDTH, Row, speed_of, verdict
from tests.engine.conftest import make_prior
from tests.engine.cuda.test_builder import Machine, machine  # noqa: F401
from tests.engine.fake_ort import FakeOrt
from tests.engine.graphs import conv_graph


class Reference(OnnxRuntimeBuilder):
    """Whatever packages the fakes pretend to."""

    def availability(self) -> Availability:
        return Availability(True, "for tests")


GRAPH = conv_graph(batch=3, code_dim=64, side=16, channels=4)
SUBJECT = Subject(GRAPH, make_prior(64), Reference())


def ticking() -> Callable[[], float]:
    """A clock that says 1, 2, 3, ... seconds."""
    return itertools.count(1).__next__


class Bent:
    """A builder of which one thing is wrong."""

    device, rank = "gpu", 0

    def __init__(
        self, builder: Builder, bend: Callable[[Runner, Mapping[str, object]], None] = lambda *_: None
    ) -> None:
        self.name, self._builder, self._bend = builder.name, builder, bend

    def availability(self) -> Availability:
        return self._builder.availability()

    def precisions(self) -> Sequence[str]:
        return ("fp32",)

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        runner = self._builder.build(graph, options)
        self._bend(runner, options)
        return runner


def ort() -> Builder:
    return OnnxRuntimeCudaBuilder(
        load=lambda name: FakeOrt(), installed=lambda: {"onnxruntime-gpu": "1.31.1"}, no_gpu=lambda: ""
    )


def test_all_is_well(machine: Machine, tmp_path: Path) -> None:  # noqa: F811
    runtimes = {b.name: b for b in (Bent(machine.builder), Bent(ort()))}
    text, status = page("SM89 NVIDIA L4", runtimes, {"small conv": SUBJECT}, tmp_path, (True, "12 passed"), ticking())
    lines = text.splitlines()
    assert status == 0, text
    assert lines[0] == "neuron-atlas on SM89 NVIDIA L4"
    assert lines[1].startswith("tensorrt 11.4.0.106, GPU (")
    assert lines[2] == "tests passed: 12 passed"
    assert lines[-1] == "gpu-check: passed 13, failed 0"
    assert max(map(len, lines)) <= WIDTH
    for name in ("tensorrt", "onnxruntime_cuda"):
        [at] = [i for i, line in enumerate(lines) if line.startswith(f"{name:<17}fp32 ")]
        assert " same " in lines[at]
        assert "follows" in lines[at]
        assert "50.00 ms a step, 3,600 units an hour at 60 steps; " in lines[at + 1]
        assert "% of roofline (" in lines[at + 1]
    assert "FAILED" not in text


def codes_off(runner: Any, options: Mapping[str, object]) -> None:
    codes = runner.codes
    runner.codes = lambda slots: codes(slots) * np.float32(1.3)


def graphs_off(runner: Any, options: Mapping[str, object]) -> None:
    if options["graphs"]:
        best = runner.best_codes
        runner.best_codes = lambda slots: np.nextafter(best(slots), np.float32(9))


def slot_matters(runner: Any, options: Mapping[str, object]) -> None:
    decode = runner.decode
    runner.decode = lambda codes: decode(codes) + np.float32(1e-7) * np.arange(len(codes))[:, None, None, None]


def second_differs() -> Callable[[Any, Mapping[str, object]], None]:
    """From its fourth engine on (first, with and without graphs, slots) the last bit is another."""
    count = itertools.count()

    def bend(runner: Any, options: Mapping[str, object]) -> None:
        if next(count) > 3:
            best = runner.best_codes
            runner.best_codes = lambda slots: np.nextafter(best(slots), np.float32(9))

    return bend


def cannot_step(runner: Any, options: Mapping[str, object]) -> None:
    def step(count: int) -> None:
        if count == 20:
            raise EngineError("the GPU\nis on fire")
        plain(count)

    plain, runner.step = runner.step, step


@pytest.mark.parametrize(
    ("bend", "failed"),
    [
        (codes_off, ["parity", "rebuild"]),
        (graphs_off, ["capture"]),
        (slot_matters, ["slots"]),
        (second_differs, ["cache"]),
        (cannot_step, ["speed"]),
    ],
    ids=["parity", "capture", "slots", "cache", "speed"],
)
def test_a_fault_is_seen(bend: Any, failed: list[str], tmp_path: Path) -> None:
    fresh = bend if bend is not second_differs else second_differs()
    row = check(SUBJECT, Bent(ort(), fresh), "fp32", tmp_path, ticking())
    assert row.failed == failed
    builder = Bent(ort(), bend if bend is not second_differs else second_differs())
    text, status = page("SM89 NVIDIA L4", {builder.name: builder}, {"small": SUBJECT}, tmp_path, None, ticking())
    assert status == 1
    assert f"{failed[0]} FAILED: " in text
    assert "failed: onnxruntime_cuda fp32: " in text
    if failed == ["speed"]:
        assert "speed FAILED: EngineError: the GPU is on fire" in text
        assert "not measured" in text


def test_an_engine_of_last_night_is_seen(
    machine: Machine,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cache whose key forgets the weights."""
    from engine import plan_cache

    of = plan_cache.PlanKey.of.__func__  # type: ignore[attr-defined]
    forgetful = lambda cls, model, *rest: of(cls, str(len(model)).encode(), *rest)  # noqa: E731
    monkeypatch.setattr(plan_cache.PlanKey, "of", classmethod(forgetful))
    row = check(SUBJECT, Bent(machine.builder), "fp32", tmp_path, ticking())
    assert row.failed == ["rebuild"]
    assert row.results["rebuild"][1].startswith("stale")


def test_the_cache_is_used(machine: Machine, tmp_path: Path) -> None:  # noqa: F811
    row = check(SUBJECT, Bent(machine.builder), "fp32", tmp_path, ticking())
    assert row.failed == []
    assert len(machine.trt.builds) == 4  # step and decode, and both once more with other weights


def test_share_of_the_roofline() -> None:
    """1e12 operations in fp32 at 30.3e12 a second are 33 ms, a third of 99 ms."""
    row = Row("x", "fp32", {}, 0.099)
    text = speed_of(row, 4, Load(1e12, 1e6, 3), "NVIDIA L4")
    assert text == "99.00 ms a step, 2,424 units an hour at 60 steps; 33 % of roofline (arithmetic, 33.00 ms)"
    assert "peaks of NVIDIA T4 are not in" in speed_of(row, 4, Load(1e12, 1e6, 3), "NVIDIA T4")


def test_failed_tests_fail_the_page() -> None:
    lines, status = verdict([Row("x", "fp32", {"parity": (True, "")}, 1.0)], (False, "1 failed"))
    assert (lines[-1], status) == ("gpu-check: passed 1, failed 1", 1)


def test_the_marked_tests_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> Any:
        asked.append(command)
        return SimpleNamespace(returncode=1, stdout="...\n1 failed, 3 passed in 2s\n", stderr="")

    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    assert gpu_check.marked_tests(tmp_path) == (False, f"1 failed, 3 passed in 2s ({tmp_path / 'tests.txt'})")
    assert (tmp_path / "tests.txt").read_text().startswith("...")
    assert all(Path(part).exists() for part in asked[0] if part.startswith("tests/"))


def test_without_a_gpu_it_says_why() -> None:
    if any(b.device == "gpu" and b.availability().ok for b in builders().values()):
        pytest.skip("there is a GPU")
    done = CliRunner().invoke(gpu_check.main, [])
    assert done.exit_code == 2
    assert {line.split()[0] for line in done.output.splitlines()} == {"tensorrt", "tensorrt_rtx", "onnxruntime_cuda"}
    assert "is left out: " in done.output
