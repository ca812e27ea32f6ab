"""A lock is waited for, and a killed holder holds none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from export.errors import StoreError
from pipeline.gate import FOLDER_VARIABLE, device_gate, gpu_of
from pipeline.lock import FileLock

HOLD = """
import sys, time
from pathlib import Path
from pipeline.lock import FileLock
with FileLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


class GpuBuilder:
    """All that the gate asks of a builder."""

    device = "gpu"


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_the_gpu_of_a_killed_holder_is_free_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert gpu_of(GpuBuilder()) == "gpu-1"  # type: ignore[arg-type]
    process = hold(tmp_path / "gpu-1.lock")
    entered = threading.Event()

    def enter() -> None:
        with device_gate(GpuBuilder()):  # type: ignore[arg-type]
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    try:
        assert not entered.wait(1.5), "two engines on one GPU"
    finally:
        killed = time.monotonic()
        kill(process)
    assert entered.wait(5)
    assert time.monotonic() - killed < 5
    waiting.join()


def test_who_waits_is_told_for_whom(tmp_path: Path) -> None:
    process, told = hold(tmp_path / "lock"), list[str]()
    timer = threading.Timer(1.0, kill, [process])
    timer.start()
    with FileLock(tmp_path / "lock", told.append):
        pass
    timer.join()
    assert len(told) == 1
    assert told[0].startswith(f"process {process.pid} on ")


def test_a_cpu_has_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runtimes import builders

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with device_gate(builders()["onnxruntime"]), device_gate(builders()["onnxruntime"]):
        assert list(tmp_path.iterdir()) == []


def test_the_lock_is_free_after_use_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FileLock(tmp_path / "new" / "lock"):
        1 / 0  # noqa: B018
    with FileLock(tmp_path / "new" / "lock"):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), FileLock(tmp_path / "file" / "out"):
        pass
