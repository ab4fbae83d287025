"""An S3 server that archives at once: it takes objects and describes them, and refuses to give them as S3 does."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

from tests.http_servers import answering, etag_of

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
        self._answer(200, {"ETag": etag_of(content)})

    def do_HEAD(self) -> None:
        content = self.objects.get(self.path)
        if content is None:
            self._answer(404, {})
        else:
            self._answer(200, {"ETag": etag_of(content), "Content-Length": str(len(content))})

    def do_GET(self) -> None:
        self._answer(403, {"Content-Type": "application/xml", "Content-Length": str(len(REFUSED))})
        self.wfile.write(REFUSED)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def archive() -> Iterator[str]:
    """Run the server for the length of a `with` block, and give its URL."""
    with answering(_Archive) as url:
        yield url
