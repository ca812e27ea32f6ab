"""What listens where, and where secrets are not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.pipeline.models import write_tiny
from tests.pipeline.prefect_site import Site, children
from tests.pipeline.s3 import S3Server

LISTENING = "0A"
OWN_LINE = "making layer fc"
"""One that the pipeline logs itself."""
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1 and ::1, as the kernel writes them."""


def listening(pid: int) -> set[str]:
    """Addresses at which a process and those it started listen, of either family."""
    found = set()
    for process in [pid, *children(pid)]:
        folder = Path(f"/proc/{process}")
        inodes = set()
        for descriptor in (folder / "fd").glob("*"):
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
        for table in ("tcp", "tcp6"):
            for line in (folder / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and fields[9] in inodes:
                    found.add(fields[1].partition(":")[0])
    return found


def whole_log(site: Site, flow_run: str) -> list[dict[str, Any]]:
    """What a run logged. Its lines are sent in the background and may come in after its end."""
    deadline = time.monotonic() + 30
    while True:
        lines: list[dict[str, Any]] = site.post("logs/filter", logs={"flow_run_id": {"any_": [flow_run]}})
        if any(OWN_LINE in line["message"] for line in lines) or time.monotonic() > deadline:
            return lines
        time.sleep(0.5)


def test_the_server_listens_on_loopback_alone_and_workers_do_not_listen(site: Site) -> None:
    site.run(layers=["fc"], units="0:1", seeds=1)  # so that both have been at work
    server, *workers = site.processes
    assert listening(server.pid) == {"0100007F"}
    assert len(workers) == 2
    for worker in workers:
        assert listening(worker.pid) <= LOOPBACK


def test_credentials_of_a_secret_block_open_the_store_and_are_told_nowhere(
    site: Site, s3_server: S3Server, tmp_path: Path, monkeypatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)  # of this process, which looks afterwards; the workers have none
    bucket = s3_server.make_bucket("atlas-secret-block")
    secret = "the-secret-of-a-block"
    options = {"key": "a-key", "secret": secret, "endpoint_url": s3_server.endpoint}
    code = (
        "import json, os; from prefect.blocks.system import Secret;"
        "Secret(value=json.loads(os.environ['OPTIONS'])).save('atlas-store')"
    )
    saved = site.python("-c", code, OPTIONS=json.dumps(options))
    assert saved.returncode == 0, saved.stderr
    config = write_tiny(tmp_path / "models")
    config.write_text(config.read_text().replace("[run]\n", f'[store]\nurl = "{bucket}/store"\n\n[run]\n'))
    run = site.run(
        config=str(config),
        layers=["fc"],
        units="0:2",
        out=str(tmp_path / "out"),
        credentials="atlas-store",
        fan_out={"helpers": 1, "shards_each": 1},
    )
    assert run["state_type"] == "COMPLETED", run["state"]["message"]

    told = {path: site.post(f"{path}/filter") for path in ("flow_runs", "task_runs", "artifacts", "events")}
    told["logs"] = whole_log(site, run["id"])
    assert any(OWN_LINE in log["message"] for log in told["logs"]), "the pipeline's own lines are not there"
    assert all(told.values()), [path for path, found in told.items() if not found]
    for path, found in told.items():
        assert secret not in json.dumps(found), path
    for folder in (tmp_path / "out", site.project):
        for path in folder.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    from tests.pipeline.test_together import shards_in

    stored = shards_in(f"{bucket}/store")
    assert len(stored) >= 2
    assert all(secret.encode() not in data for data in stored.values())
