"""An S3 server of our own (moto) that counts requests and can go away and come back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import ThreadedMotoServer

KEY_ID, SECRET = "a-key-id", "a-very-secret-key"


class S3Server:
    """Listens on 127.0.0.1; what it holds outlives :meth:`stop`."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._port = 0
        self._calls: Counter[str] = Counter()
        self.start()

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        _, self._port = self._server.get_host_and_port()
        application = self._server._server.app  # type: ignore[union-attr]
        self._server._server.app = self._counted(application)  # type: ignore[union-attr]

    def stop(self) -> None:
        self._server.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """How a client finds it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket; return its URL."""
        import boto3

        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=name)
        client.close()
        return f"s3://{name}"

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Requests of the block by kind: ``GET``, ``PUT``, ``DELETE``, ``HEAD``, ``LIST``."""
        self._calls.clear()
        yield self._calls

    def _counted(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def count(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            listing = environ["REQUEST_METHOD"] == "GET" and "list-type" in environ.get("QUERY_STRING", "")
            self._calls["LIST" if listing else environ["REQUEST_METHOD"]] += 1
            return application(environ, start_response)

        return count
