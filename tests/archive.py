"""An S3 server that archives at once: it takes objects and describes them, and refuses to give them as S3 does."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

REFUSED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidObjectState</Code><Message>The operation is not valid '
    b"for the object's storage class</Message><StorageClass>GLACIER</StorageClass></Error>"
)


class _Archive(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.objects[self.path] = content
        self._answer(200, {"ETag": _etag(content)})

    def do_HEAD(self) -> None:
        content = self.objects.get(self.path)
        if content is None:
            self._answer(404, {})
        else:
            self._answer(200, {"ETag": _etag(content), "Content-Length": str(len(content))})

    def do_GET(self) -> None:
        self._answer(403, {"Content-Type": "application/xml", "Content-Length": str(len(REFUSED))})
        self.wfile.write(REFUSED)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def archive() -> Iterator[str]:
    """Run the server for the length of a `with` block, and give its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Archive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
