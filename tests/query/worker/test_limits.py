"""What the kernel counts is what a server got: over connections new and kept, with and without TLS."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trustme

from dagfusion_query.worker.limits import SentRequests

# Asks for objects, some at once, in three rounds; prints what was counted in each.
CLIENT = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import obstore
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings
from dagfusion_query.worker.limits import SentRequests

endpoint = sys.argv[1]
settings = Settings(endpoint_url=endpoint, region="us-east-1", access_key_id="a", secret_access_key="b")
store = open_store("s3://bucket/", settings, connect_timeout="10s", timeout="30s")
sent, counted = SentRequests([endpoint]), []
for at_once, times in ((1, 3), (8, 100), (2, 7)):
    sent.restart()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda number: obstore.get_range(store, f"{number}.parquet", start=0, length=10), range(times)))
    counted.append(sent.count())
print(json.dumps(counted))
"""


class Objects(BaseHTTPRequestHandler):
    """Answers each request for a range with ten bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(206)
        self.send_header("Content-Range", "bytes 0-9/100")
        self.send_header("Content-Length", "10")
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class LateServer(ThreadingHTTPServer):
    """Accepts a connection every 0.4 s and lets one wait: the others' first segments are sent again."""

    request_queue_size = 1

    def get_request(self) -> tuple[socket.socket, Any]:
        time.sleep(0.4)
        return super().get_request()


@contextmanager
def serving(server: ThreadingHTTPServer, context: ssl.SSLContext | None) -> Iterator[int]:
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize(
    ("scheme", "kind"), [("http", ThreadingHTTPServer), ("https", ThreadingHTTPServer), ("http", LateServer)]
)
@pytest.mark.usefixtures("processes")
def test_as_many_as_were_sent(scheme: str, kind: type[ThreadingHTTPServer], tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = kind(("127.0.0.1", 0), Objects)
    with serving(server, context if scheme == "https" else None) as port:
        found = subprocess.run(  # noqa: S603  # our own script
            [sys.executable, "-c", CLIENT, f"{scheme}://localhost:{port}"],
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "authority.pem")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == [3, 100, 7]


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> NoReturn:
        raise FileNotFoundError(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        assert SentRequests([None]).count() is None
