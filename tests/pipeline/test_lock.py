"""One build at a time in a folder, whatever became of the last one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.errors import AtlasError, StoreError
from pipeline.lock import BuildLock

HOLD = """
import sys, time
from pathlib import Path
from pipeline.lock import BuildLock
with BuildLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_build_is_told_who_holds_the_lock_and_a_killed_one_holds_none(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(AtlasError, match=f"is being built by process {process.pid} on") as caught,
            BuildLock(tmp_path),
        ):
            pass
        assert caught.value.exit_code == 1
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with BuildLock(tmp_path):
        pass


def test_the_lock_is_free_after_use_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), BuildLock(tmp_path / "new"):
        1 / 0  # noqa: B018
    with BuildLock(tmp_path / "new"):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), BuildLock(tmp_path / "file" / "out"):
        pass
