"""What all commands share: exit codes, interrupts, help, what is imported."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from export.errors import EngineError
from pipeline import build as building
from pipeline import cli
from tests.pipeline import commands
from tests.pipeline.commands import call
from tests.pipeline.models import write_tiny

INTERRUPTED = "interrupted; run the same command again to resume"


def test_an_unforeseen_error_keeps_its_traceback(tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(building, "make_shard", fail)
    code, _, err = call(capsys, "build", tiny, "--out", tmp_path / "out")
    assert code == 1
    assert "Traceback" in err
    assert "ZeroDivisionError: boom" in err


def test_interrupting_is_clean_and_the_build_can_be_resumed(tmp_path: Path) -> None:
    config = write_tiny(tmp_path / "models", steps=4000, shard_size=1)
    with commands.start("build", config, "--out", tmp_path / "out") as process:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "out").rglob("0*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip() == INTERRUPTED
    assert list((tmp_path / "out").rglob("*.tmp")) == []


@pytest.mark.parametrize(
    "error", [EngineError("openvino failed in a step: unknown"), SystemError("with an exception set")]
)
def test_what_a_library_makes_of_an_interrupt_is_an_interrupt(
    error: Exception, tiny: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr(building, "make_shard", fail)
    code, _, err = call(capsys, "build", tiny, "--out", tmp_path / "out")
    assert (code, err.strip()) == (130, INTERRUPTED)


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline import cli; cli.run(['--help']);"
        "heavy = {'prefect', 'onnx', 'onnx_ir', 'numpy', 'pyarrow', 'torch', 'pydantic', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    times = []
    for _ in range(3):
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        times.append(time.monotonic() - start)
        assert done.returncode == 0, done.stderr
    assert min(times) < 0.6


def test_a_build_imports_neither_prefect_nor_torch(tiny: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline import cli; code = cli.run(sys.argv[1:]);"
        "heavy = {'prefect', 'torch', 'fastapi'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    arguments = ["build", str(tiny), "--out", str(tmp_path / "out"), "--layers", "fc", "--units", "0"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_says_what_it_does() -> None:
    for name, command in cli.cli.commands.items():
        assert command.help, name
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, (name, parameter.name)
