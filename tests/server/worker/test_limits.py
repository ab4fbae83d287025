"""What the kernel counts is what a server got: over connections new and kept, with and without TLS."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import trustme

from dagfusion_server.worker.limits import SentRequests
from tests.waiting import eventually

# Asks for objects, some at once, in three rounds; prints what was counted in each, and which connections were open.
CLIENT = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import obstore, psutil
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings
from dagfusion_server.worker.limits import SentRequests

endpoint = sys.argv[1]
settings = Settings(endpoint_url=endpoint, region="us-east-1", access_key_id="a", secret_access_key="b")
store = open_store("s3://bucket/", settings, connect_timeout="10s", timeout="30s")
sent, counted = SentRequests([endpoint]), []

def open_ports():
    return sorted(found.laddr.port for found in psutil.Process().net_connections("tcp") if found.raddr)

def ask(number):
    obstore.get_range(store, f"{number}.parquet", start=0, length=10)

for at_once, numbers in ((1, range(3)), (8, range(100, 200)), (2, range(200, 207))):
    sent.restart()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(ask, numbers))
    ports = None
    while ports != open_ports():  # one may be about to be closed
        ports, count = open_ports(), sent.count()
    counted.append([count, ports])
print(json.dumps(counted))
"""


class Objects(BaseHTTPRequestHandler):
    """Answers each request for a range with ten bytes, and notes from where each object was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        cast("CountedServer", self.server).ports[int(Path(self.path).stem)] = self.client_address[1]
        self.send_response(206)
        self.send_header("Content-Range", "bytes 0-9/100")
        self.send_header("Content-Length", "10")
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class CountedServer(ThreadingHTTPServer):
    """Knows the client's port of the connection on which each object was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Objects)
        self.ports: dict[int, int] = {}


class LateServer(CountedServer):
    """Accepts those who come at once when its queue was too short for them: their first segments are sent again."""

    request_queue_size = 1

    def __init__(self) -> None:
        super().__init__()
        self._before = overflows()

    def get_request(self) -> tuple[socket.socket, Any]:
        if len(self.ports) >= 3:  # the first round is over, and the next one asks for several objects at once
            assert eventually(lambda: overflows() > self._before)
        return super().get_request()


def overflows() -> int:
    """Return how many connections the kernel did not queue, for all servers."""
    names, values = (line.split() for line in Path("/proc/net/netstat").read_text().splitlines()[:2])
    return int(values[names.index("ListenOverflows")])


@contextmanager
def serving(server: CountedServer, context: ssl.SSLContext | None) -> Iterator[int]:
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
@pytest.mark.parametrize(("scheme", "kind"), [("http", CountedServer), ("https", CountedServer), ("http", LateServer)])
@pytest.mark.usefixtures("processes")
def test_as_many_as_were_sent(scheme: str, kind: type[CountedServer], tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = kind()
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
    sent, kept = (range(3), range(100, 200), range(200, 207)), json.loads(found.stdout)
    for numbers, (counted, ports) in zip(sent, kept, strict=True):
        assert counted == sum(server.ports[number] in ports for number in numbers)
    assert sum(counted for counted, _ in kept) > sum(map(len, sent)) // 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_count_can_begin_where_the_last_one_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        requests = SentRequests([f"http://127.0.0.1:{address[1]}"])
        with ExitStack() as opened:
            others = [opened.enter_context(end) for end in socket.socketpair()]  # whose inodes are remembered
            first = opened.enter_context(socket.create_connection(address))
            first.send(b"GET /")
            assert (requests.count(), requests.count()) == (1, 1)
            requests.restart_after_count()
            assert requests.count() == 0
            for other in others:
                other.close()
            second = opened.enter_context(socket.create_connection(address))  # under a descriptor of theirs
            assert second.fileno() < first.fileno()
            second.send(b"GET /")
            first.send(b"GET /")
            assert requests.count() == 2


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> NoReturn:
        raise FileNotFoundError(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        assert SentRequests([None]).count() is None
