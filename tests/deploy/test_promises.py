"""What deploy/ promises: nobody is root, only this machine is listened to, no secrets, versions that agree."""

from __future__ import annotations

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.deploy.conftest import DEPLOY, ROOT, manifests

CONTAINERS = DEPLOY / "containers"
SECRET = re.compile(r"password|passwd|secret|token|auth_string|access_key|api_key|credential", re.IGNORECASE)
ENDS = {"setup"}
"""Services that do their work and end; all others run, and say whether they are well."""


def pods() -> list[tuple[str, dict[str, Any]]]:
    """(name, pod) of everything that runs in Kubernetes."""
    return [
        (m["metadata"]["name"], m["spec"]["template"]["spec"]) for m in manifests() if "template" in m.get("spec", {})
    ]


def requirements(project: dict[str, Any], extra: str = "") -> dict[str, SpecifierSet]:
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {r.name: r.specifier for r in map(Requirement, listed)}


class TestNobodyIsRoot:
    def test_the_image(self, dockerfile: list[tuple[str, str]]) -> None:
        last = max(i for i, (name, _) in enumerate(dockerfile) if name == "FROM")
        users = [rest for name, rest in dockerfile[last:] if name == "USER"]
        assert users == ["10001:10001"]
        after = dockerfile[max(i for i, (name, _) in enumerate(dockerfile) if name == "USER") :]
        assert not {"RUN", "COPY", "ADD"} & {name for name, _ in after}

    def test_compose(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            assert service["image"].startswith("neuron-atlas:") or int(service["user"].split(":")[0]) > 0, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert service["read_only"] is True, name
            assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service), name

    def test_kubernetes(self, dockerfile: list[tuple[str, str]]) -> None:
        image_user = dict(dockerfile)["USER"].split(":")[0]
        assert len(pods()) == 2
        for name, pod in pods():
            assert pod["securityContext"]["runAsNonRoot"] is True, name
            assert str(pod["securityContext"]["runAsUser"]) == image_user, name
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert pod["automountServiceAccountToken"] is False, name
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
            for container in pod["containers"]:
                context = container["securityContext"]
                assert context["allowPrivilegeEscalation"] is False, name
                assert context["readOnlyRootFilesystem"] is True, name
                assert context["capabilities"] == {"drop": ["ALL"]}, name

    def test_one_gpu_each(self, compose: dict[str, Any]) -> None:
        for name, pod in pods():
            assert [c["resources"]["limits"]["nvidia.com/gpu"] for c in pod["containers"]] == ["1"], name
        devices = compose["services"]["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
        assert [(d["driver"], len(d["device_ids"]), d["capabilities"]) for d in devices] == [("nvidia", 1, ["gpu"])]

    def test_what_is_written_to_is_a_volume(self, dockerfile: list[tuple[str, str]], compose: dict[str, Any]) -> None:
        environment = " ".join(rest for name, rest in dockerfile if name == "ENV")
        paths = re.findall(r"(?:HOME|GATES|DIRECTORY)=(\S+)", environment)
        assert len(paths) == 4
        assert all(path.startswith(("/tmp", "/atlas/build")) for path in paths)
        for name in ("worker", "worker-gpu"):
            assert compose["services"][name]["volumes"] == ["atlas:/atlas/build"]
            assert compose["services"][name]["tmpfs"] == ["/tmp"]
        for name, pod in pods():
            mounts = {m["mountPath"] for c in pod["containers"] for m in c["volumeMounts"]}
            assert mounts == {"/atlas/build", "/tmp"}, name


class TestNothingListens:
    def test_only_on_this_machine(self, compose: dict[str, Any]) -> None:
        published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
        assert set(published) == {"server", "site"}
        assert all(str(port).startswith("127.0.0.1:") for ports in published.values() for port in ports)
        assert compose["networks"]["database"]["internal"] is True
        assert [n for n, s in compose["services"].items() if "database" in s.get("networks", [])] == [
            "database",
            "server",
        ]

    def test_workers(self, dockerfile: list[tuple[str, str]]) -> None:
        assert "PREFECT_WORKER_WEBSERVER_HOST=127.0.0.1" in " ".join(rest for name, rest in dockerfile if name == "ENV")
        [policy] = [m for m in manifests() if m["kind"] == "NetworkPolicy"]
        assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
        assert not any(m["kind"] in ("Service", "Ingress") for m in manifests())

    def test_all_that_run_say_how_they_are(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            assert ("healthcheck" in service) != (name in ENDS), name
        for name, pod in pods():
            assert name == "build" or all("livenessProbe" in c for c in pod["containers"]), name


class TestNoSecretIsWrittenDown:
    def test_environments_name_files(self, compose: dict[str, Any], dockerfile: list[tuple[str, str]]) -> None:
        for name, service in compose["services"].items():
            for key, value in service.get("environment", {}).items():
                assert not SECRET.search(key) or (key.endswith("_FILE") and value.startswith("/run/secrets/")), name
        for name, rest in dockerfile:
            assert name not in ("ENV", "ARG") or not SECRET.search(rest)
        for manifest in manifests():
            assert manifest["kind"] != "Secret"
            assert not any(SECRET.search(key) for key in manifest.get("data", {}))

    def test_secret_files_stay_out(self) -> None:
        assert "deploy/secrets" in (ROOT / ".dockerignore").read_text().splitlines()
        assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()

    def test_every_file_in_compose_is_known_to_the_entry_point(self, compose: dict[str, Any]) -> None:
        known = (CONTAINERS / "entrypoint.sh").read_text()
        ours = [s for s in compose["services"].values() if s["image"].startswith("neuron-atlas:")]
        files = [key for s in ours for key in s.get("environment", {}) if key.endswith("_FILE")]
        assert files
        assert all(key.removesuffix("_FILE") in known for key in files)


class TestEntryPoint:
    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [
            str(CONTAINERS / "entrypoint.sh"),
            "sh",
            "-c",
            'echo "$AWS_SECRET_ACCESS_KEY|${AWS_SECRET_ACCESS_KEY_FILE-gone}|$1"',
        ]
        return subprocess.run(
            [*command, "x", "a b"],
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_file_becomes_a_variable(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("p$(touch bad)a'ss w\"ord\n")
        done = self.run(AWS_SECRET_ACCESS_KEY_FILE=str(tmp_path / "key"))
        assert (done.returncode, done.stdout) == (0, "p$(touch bad)a'ss w\"ord|gone|a b\n")

    def test_without_one_nothing_changes(self) -> None:
        done = self.run(AWS_SECRET_ACCESS_KEY="from the environment")
        assert done.stdout == "from the environment|gone|a b\n"

    def test_a_missing_file_stops_it(self, tmp_path: Path) -> None:
        done = self.run(AWS_SECRET_ACCESS_KEY_FILE=str(tmp_path / "absent"))
        assert done.returncode == 2
        assert "AWS_SECRET_ACCESS_KEY_FILE names" in done.stderr


class TestHealthy:
    @pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
    def test_tells(self, status: int, code: int) -> None:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments: object) -> None: ...

        with HTTPServer(("127.0.0.1", 0), Answer) as server:
            Thread(target=server.handle_request, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/health"
            done = subprocess.run(
                [sys.executable, str(CONTAINERS / "healthy.py"), url], capture_output=True, check=False
            )
        assert done.returncode == code

    def test_nobody_there(self) -> None:
        with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
            port = server.server_port
        url = f"http://127.0.0.1:{port}/"
        done = subprocess.run([sys.executable, str(CONTAINERS / "healthy.py"), url], capture_output=True, check=False)
        assert done.returncode == 1


class TestVersionsAgree:
    def test_base_images_are_pinned(self, dockerfile: list[tuple[str, str]], compose: dict[str, Any]) -> None:
        bases = [rest.split()[0] for name, rest in dockerfile if name == "FROM" and not rest.startswith("$")]
        images = bases + [s["image"] for s in compose["services"].values()]
        images += [c["image"] for _, pod in pods() for c in pod["containers"]]
        assert len(bases) == 2
        for image in images:
            assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z0-9.-]+)?", image), image

    def test_python(self, dockerfile: list[tuple[str, str]], project: dict[str, Any]) -> None:
        [image] = [rest for name, rest in dockerfile if name == "FROM" and rest.startswith("python:")]
        version = image.removeprefix("python:").partition("-")[0]
        assert SpecifierSet(project["requires-python"]).contains(version)
        assert SpecifierSet(project["requires-python"]).contains("3.12")  # of Ubuntu 24.04, under the GPU image

    def test_cuda(self, dockerfile: list[tuple[str, str]], project: dict[str, Any]) -> None:
        """One major: of the base image, of cuda-python in both extras, and of the bindings the tests look at."""
        [image] = [rest for name, rest in dockerfile if name == "FROM" and rest.startswith("nvidia/cuda:")]
        major = re.match(r"nvidia/cuda:(\d+)\.", image)
        assert major
        for extra in ("tensorrt", "tensorrt-rtx", "gpu"):
            assert str(requirements(project, extra)["cuda-python"]) == f">={major.group(1)}"
        bindings = [name for name in requirements(project, "test") if name.startswith("tensorrt-cu")]
        assert bindings == [f"tensorrt-cu{major.group(1)}-bindings"]

    def test_prefect(self, project: dict[str, Any]) -> None:
        declared = yaml.safe_load((DEPLOY / "prefect.yaml").read_text(encoding="utf-8"))["prefect-version"]
        assert requirements(project)["prefect"].contains(declared)

    def test_ours(self, compose: dict[str, Any], project: dict[str, Any]) -> None:
        tags = [s["image"] for s in compose["services"].values() if s["image"].startswith("neuron-atlas:")]
        tags += [c["image"] for _, pod in pods() for c in pod["containers"]]
        assert set(tags) == {f"neuron-atlas:{project['version']}", f"neuron-atlas:{project['version']}-gpu"}

    def test_extras_exist(
        self, dockerfile: list[tuple[str, str]], compose: dict[str, Any], project: dict[str, Any]
    ) -> None:
        asked = [rest.removeprefix("EXTRAS=") for name, rest in dockerfile if rest.startswith("EXTRAS=")]
        gpu = compose["services"]["worker-gpu"]["build"]["args"]
        assert gpu["KIND"] in [rest.split()[-1] for name, rest in dockerfile if name == "FROM"]
        for extras in [*asked, gpu["EXTRAS"]]:
            chosen = set(extras.split(","))
            assert chosen <= set(project["optional-dependencies"])
            assert len(chosen & {"cpu", "gpu"}) == 1  # the reference; both at once overwrite each other

    def test_what_is_copied_exists(self, dockerfile: list[tuple[str, str]]) -> None:
        allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        for name, rest in dockerfile:
            if name == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists()
                    assert source in allowed


def test_the_automation_is_looked_for_by_its_name() -> None:
    [automation] = yaml.safe_load((DEPLOY / "automations.yaml").read_text(encoding="utf-8"))["automations"]
    assert f'prefect automation inspect "{automation["name"]}"' in (CONTAINERS / "setup.sh").read_text()


def test_commands_are_those_of_the_readme(compose: dict[str, Any]) -> None:
    """One way to start a worker: pool and limit as in deploy/README.md, plus the page for the health check."""
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    [worker] = [c["args"] for _, pod in pods() for c in pod["containers"] if "worker" in c["args"]]
    for command in (worker, compose["services"]["worker"]["command"], compose["services"]["worker-gpu"]["command"]):
        assert command[-1] == "--with-healthcheck"
        assert " ".join(command[:-1]) in readme
