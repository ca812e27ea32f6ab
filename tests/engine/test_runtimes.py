from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import engine.runtimes
from engine.host import chosen_precision, num_threads
from engine.memory import ALIGNMENT_BYTES, aligned_zeros
from engine.protocol import Availability, Runner
from engine.runtimes import builders, get_builder, onnxruntime, openvino
from export.errors import EngineError, InputError
from export.manifest import StepGraph
from tests.engine.graphs import Mlp

GRAPH = Mlp.random(code_dim=8, num_units=2).graph(2)


class Absent:
    """A runtime that cannot run here."""

    name = "tensorrt"

    def availability(self) -> Availability:
        return Availability(False, "no GPU")

    def precisions(self) -> Sequence[str]:
        return ("fp32",)

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        raise NotImplementedError


class TestDiscovery:
    def test_finds_the_modules_of_the_folder(self) -> None:
        assert {"onnxruntime", "openvino"} <= set(builders())
        assert list(builders()) == sorted(builders())
        assert get_builder("openvino") is openvino.BUILDER

    def test_a_new_module_is_all_it_takes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "abacus.py").write_text("class B:\n    name = 'abacus'\nBUILDER = B()\n")
        (tmp_path / "helper.py").write_text("VALUE = 1\n")
        monkeypatch.setattr(engine.runtimes, "__path__", [*engine.runtimes.__path__, str(tmp_path)])
        assert "abacus" in builders()
        assert "helper" not in builders()
        for name in ("abacus", "helper"):
            sys.modules.pop(f"engine.runtimes.{name}")
            delattr(engine.runtimes, name)

    def test_loads_no_library(self) -> None:
        program = (
            "import sys; from engine.runtimes import builders; [b.availability() for b in builders().values()];"
            "print(sorted({'onnxruntime', 'openvino', 'tensorrt', 'torch', 'onnx'} & set(sys.modules)))"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == "[]"

    def test_unknown_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        everything = {**builders(), "tensorrt": Absent()}
        monkeypatch.setattr(engine.runtimes, "builders", lambda: everything)
        with pytest.raises(InputError, match=r"did you mean openvino.*use one of: .*openvino.*tensorrt .*no GPU"):
            get_builder("openvno")

    def test_a_runtime_that_cannot_run_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        everything = {**builders(), "tensorrt": Absent()}
        monkeypatch.setattr(engine.runtimes, "builders", lambda: everything)
        with pytest.raises(InputError, match="tensorrt cannot run here: no GPU; use one of"):
            get_builder("tensorrt")

    def test_none_can_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine.runtimes, "builders", lambda: {"tensorrt": Absent()})
        with pytest.raises(InputError, match="no runtime can run here"):
            get_builder("onnxruntime")


def fake_versions(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    def version(package: str) -> str:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(metadata, "version", version)


class TestOnnxRuntime:
    def test_refuses_two_packages_in_one_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_versions(monkeypatch, {"onnxruntime": "1.20", "onnxruntime-gpu": "1.21"})
        state = onnxruntime.BUILDER.availability()
        assert not state.ok
        assert "pip uninstall onnxruntime onnxruntime-gpu" in state.detail
        with pytest.raises(EngineError, match="overwrite each other"):
            onnxruntime.BUILDER.build(GRAPH, {})

    def test_the_gpu_package_alone_serves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_versions(monkeypatch, {"onnxruntime-gpu": "1.21"})
        assert onnxruntime.BUILDER.availability() == Availability(True, "1.21, CPU")

    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_versions(monkeypatch, {})
        assert "pip install" in onnxruntime.BUILDER.availability().detail
        with pytest.raises(EngineError, match="not installed"):
            onnxruntime.BUILDER.build(GRAPH, {})


class TestOpenVino:
    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_versions(monkeypatch, {})
        assert "pip install" in openvino.BUILDER.availability().detail
        with pytest.raises(EngineError, match="not installed"):
            openvino.BUILDER.build(GRAPH, {})

    def test_bf16_only_where_the_processor_has_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cpuinfo = tmp_path / "cpuinfo"
        monkeypatch.setattr(openvino, "CPUINFO", cpuinfo)
        assert openvino.BUILDER.precisions() == ("fp32",)
        cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f\n")
        assert openvino.BUILDER.precisions() == ("fp32",)
        with pytest.raises(InputError, match="bf16 here; choose one of: fp32"):
            openvino.BUILDER.build(GRAPH, {"precision": "bf16"})
        cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 amx_bf16 amx_tile\n")
        assert openvino.BUILDER.precisions() == ("fp32", "bf16")


class TestOptions:
    def test_threads(self) -> None:
        assert num_threads({"threads": 3}) == 3
        assert num_threads({}) == num_threads({"threads": 0}) >= 1
        for wrong in (-1, 1.5, "2", True):
            with pytest.raises(InputError, match="threads"):
                num_threads({"threads": wrong})

    def test_precision(self) -> None:
        assert chosen_precision({}, ("fp32", "bf16"), "x") == "fp32"
        assert chosen_precision({"precision": "bf16"}, ("fp32", "bf16"), "x") == "bf16"
        with pytest.raises(InputError, match="x cannot run fp16 here"):
            chosen_precision({"precision": "fp16"}, ("fp32", "bf16"), "x")


@pytest.mark.parametrize("shape", [(), (3,), (2, 77)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_buffers_are_aligned(shape: tuple[int, ...], dtype: str) -> None:
    buffer = aligned_zeros(shape, dtype)
    assert (buffer.shape, buffer.dtype) == (shape, np.dtype(dtype))
    assert buffer.ctypes.data % ALIGNMENT_BYTES == 0
    assert not buffer.any()


SIGNALLED = """
import os, signal
from engine.runtimes import builders
from tests.engine.graphs import Mlp
with builders()["RUNTIME"].build(Mlp.random(code_dim=4, num_units=2).graph(1), {"threads": 1}) as runner:
    runner.step(1)
del runner
signal.signal(signal.SIGINT, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_signal_after_an_engine_is_closed_is_handled(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED.replace("RUNTIME", name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
