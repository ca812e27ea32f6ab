"""The runbook's commands, files and modules exist."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.cli import cli

ROOT = Path(__file__).parents[2]


def runbook() -> str:
    return (ROOT / "deploy" / "README.md").read_text()


def test_commands_of_the_runbook_exist_with_their_options() -> None:
    lines = re.findall(r"^    neuron-atlas (.*?)(?:  #.*)?$", runbook(), re.MULTILINE)
    lines += re.findall(r"`neuron-atlas ([^`]+)`", runbook().replace("\n", " "))
    assert len(lines) >= 6
    for line in lines:
        name, *words = line.split()
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


def test_files_and_modules_that_the_runbook_names_exist() -> None:
    for path in re.findall(
        r"`?((?:deploy|tests|pipeline)/[\w/.-]+\.(?:yaml|py|md|toml)|deploy/containers/Dockerfile)", runbook()
    ):
        assert "NAME" in path or (ROOT / path).is_file(), path
    for module in re.findall(r"python -m ([\w.]+)", runbook()):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
