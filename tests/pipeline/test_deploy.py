"""What is in ``deploy/`` for containers: no root, no secret, nothing beyond loopback, and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline.cli import cli

ROOT = Path(__file__).parents[2]
IMAGES = ("server", "worker")
SECRET = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of every stage of the Containerfile by its name: (word, rest)."""
    text = (ROOT / "deploy" / "Containerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found[rest.split(" AS ")[1].strip()] = []
        else:
            found[list(found)[-1]].append((word, rest.strip()))
    return found


def compose() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_gives_up_root_before_anything_runs(image: str) -> None:
    words = [word for word, _ in stages()[image]]
    users = [rest for word, rest in stages()[image] if word == "USER"]
    assert users == ["10001:10001"]
    assert words.index("USER") > max(words.index(word) for word in ("RUN", "COPY") if word in words)
    assert words[-1] == "CMD"


def test_what_images_copy_is_there_and_not_ignored() -> None:
    ignore = (ROOT / "deploy" / "Containerfile.dockerignore").read_text().split()
    assert ignore[0] == "*"
    sources = {
        source
        for stage in stages().values()
        for word, rest in stage
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert sources >= {"pyproject.toml", "engine", "export", "pipeline", "deploy"}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore


def test_no_secret_is_baked_in() -> None:
    for name, stage in stages().items():
        for word, rest in stage:
            assert word not in ("ENV", "ARG") or not SECRET.search(rest), (name, rest)
    for name, service in compose().items():
        for variable, value in (service.get("environment") or {}).items():
            assert value is None or not SECRET.search(variable), (name, variable)  # None: from the caller's environment


def test_services_have_no_root_no_privilege_and_are_published_on_loopback_alone() -> None:
    for name, service in compose().items():
        assert service["user"] == "10001:10001", name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert "ports" not in compose()["worker"]


def test_the_extras_of_a_worker_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (given,) = [rest for word, rest in stages()["worker"] if word == "ARG"]
    assert set(given.removeprefix("EXTRAS=").split(",")) <= set(extras)


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
        r"`?((?:deploy|tests|pipeline)/[\w/.-]+\.(?:yaml|py|md|toml)|deploy/Containerfile)", runbook()
    ):
        assert "NAME" in path or (ROOT / path).is_file(), path
    for module in re.findall(r"python -m ([\w.]+)", runbook()):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
