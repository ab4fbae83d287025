"""Small HTTP servers of tests, in threads of the test's process."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Quiet:
    """Makes a handler that prints nothing of a class."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server for the length of a `with` block, and give its URL."""
    quiet = type(handler.__name__, (_Quiet, handler), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def etag_of(content: bytes) -> str:
    """Return the etag that S3 gives an object."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
