"""The runbook's notification, on a real server: a nightly atlas that fails is told; the address is a secret."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipeline.flows.notify import NAME, VARIABLE
from tests.pipeline.prefect_site import Site

NOTIFY = ("-m", "pipeline.flows.notify")
PATIENCE_S = 60.0


class Webhook:
    """Listens on 127.0.0.1 for JSON."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        texts = self.texts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.end()


def test_a_nightly_atlas_that_fails_is_told_once_and_the_address_stays_secret(site: Site, webhook: Webhook) -> None:
    secret = f"{webhook.url}/a-secret-token"
    for _ in range(2):  # the second changes what the first made
        done = site.python(*NOTIFY, **{VARIABLE: secret})
        assert done.returncode == 0, done.stderr
        assert "told at 127.0.0.1" in done.stdout
    automations = [found for found in site.post("automations/filter") if found["name"] == NAME]
    assert len(automations) == 1
    run = site.run(layers=["reelu1"])
    assert run["state_type"] == "FAILED"
    deadline = time.monotonic() + PATIENCE_S
    while not webhook.texts:
        assert time.monotonic() < deadline, "nobody was told"
        time.sleep(0.2)
    (text,) = webhook.texts
    assert text.startswith(f"{run['name']} of tiny is Failed\n")
    assert "has no layer 'reelu1'; did you mean relu1" in text
    assert "prefect deployment run atlas/tiny" in text
    blocks = site.post("block_documents/filter")
    logs = "".join(path.read_text() for path in site.project.glob("*.log"))
    assert "atlas-failed" in {block["name"] for block in blocks}
    for told in (done.stdout, done.stderr, json.dumps(automations), json.dumps(blocks), logs):
        assert "a-secret-token" not in told


@pytest.mark.parametrize(("url", "sentence"), [("", f"set {VARIABLE}"), ("hooks.example", "must hold the address")])
def test_an_address_that_is_none_is_refused(site: Site, url: str, sentence: str) -> None:
    done = site.python(*NOTIFY, **{VARIABLE: url})
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
