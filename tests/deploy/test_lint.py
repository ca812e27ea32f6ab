"""The files of deploy/ against the schemas and linters of their formats, offline. That each sees a fault is shown."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, manifests

KUBERNETES = ("1.30", "1.37")
"""Versions whose schemas must take the manifests: the oldest that we mean, and a new one."""
SCRIPTS = sorted((DEPLOY / "containers").glob("*.sh"))


def tool(name: str) -> str:
    """A program of the environment that runs the tests."""
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f"{name} is not installed; run `pip install neuron-atlas[test]`")
    return path


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("hadolint"), "--no-color", str(path)], capture_output=True, text=True, check=False)


class TestDockerfile:
    def test_is_clean(self) -> None:
        done = hadolint(DEPLOY / "containers" / "Dockerfile")
        assert (done.returncode, done.stdout) == (0, "")

    @pytest.mark.parametrize(
        ("right", "wrong", "rule"),
        [
            ("USER 10001:10001", "USER root", "DL3002"),
            ("3.12.12-slim-bookworm", "latest", "DL3007"),
            ("--no-install-recommends ", "", "DL3015"),
            ("WORKDIR /atlas", "WORKDIR atlas", "DL3000"),
        ],
    )
    def test_a_fault_is_seen(self, tmp_path: Path, right: str, wrong: str, rule: str) -> None:
        text = (DEPLOY / "containers" / "Dockerfile").read_text(encoding="utf-8")
        assert right in text
        (tmp_path / "Dockerfile").write_text(text.replace(right, wrong))
        done = hadolint(tmp_path / "Dockerfile")
        assert done.returncode == 1
        assert rule in done.stdout


class TestCompose:
    def check(self, path: Path) -> subprocess.CompletedProcess[str]:
        schema = ["--builtin-schema", "vendor.compose-spec"]
        return subprocess.run(
            [tool("check-jsonschema"), *schema, str(path)], capture_output=True, text=True, check=False
        )

    def test_follows_the_specification(self) -> None:
        done = self.check(DEPLOY / "compose.yaml")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_a_fault_is_seen(self, tmp_path: Path, compose: dict[str, Any]) -> None:
        for service, change in (("server", {"heathcheck": {}}), ("worker", {"cap_drop": "ALL"})):
            wrong = copy.deepcopy(compose)
            wrong["services"][service].update(change)
            (tmp_path / "compose.yaml").write_text(yaml.safe_dump(wrong))
            done = self.check(tmp_path / "compose.yaml")
            assert done.returncode == 1
            assert next(iter(change)) in done.stdout

    def test_what_is_named_exists(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            assert set(service.get("depends_on", {})) <= set(compose["services"]), name
            assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
            assert set(service.get("networks", [])) <= set(compose["networks"]), name
            volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
            assert volumes <= set(compose["volumes"]), name
            if "build" in service:
                context = DEPLOY / service["build"]["context"]
                assert (context / service["build"]["dockerfile"]).is_file(), name


class TestKubernetes:
    @pytest.mark.parametrize("version", KUBERNETES)
    def test_follows_the_schemas(self, version: str) -> None:
        validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
        found = manifests()
        assert {m["kind"] for m in found} >= {"Job", "StatefulSet", "NetworkPolicy", "Namespace"}
        for manifest in found:
            validate(manifest, version, strict=True)

    def test_a_fault_is_seen(self) -> None:
        library = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
        for key, value in (("runAsUsr", 1), ("runAsUser", "somebody")):
            job = copy.deepcopy(next(m for m in manifests() if m["kind"] == "Job"))
            job["spec"]["template"]["spec"]["securityContext"][key] = value
            with pytest.raises(library.ValidationError, match=key if key == "runAsUsr" else "somebody"):
                library.validate(job, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_sound(script: Path) -> None:
    done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
