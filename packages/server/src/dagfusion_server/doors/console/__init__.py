"""The web console: serves the files that `packages/server/console` builds; they are read and compressed once."""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Its own files and its own service are all that the console needs. Styles that a script sets are not held by it.
_SOURCES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
POLICY = "; ".join(f"{directive} {source}" for directive, source in _SOURCES.items())
ASSETS = "/assets/"
INDEX = "index.html"
_FOR_EVER = "public, max-age=31536000, immutable"  # the names have their contents' hashes
_ASK_FIRST = "no-cache"


@dataclass(frozen=True)
class Page:
    """One file of the console.

    Attributes:
        path: The path of its URL.
    """

    path: str
    content: bytes
    zipped: bytes
    headers: dict[str, str]

    @classmethod
    def make(cls, name: str, content: bytes) -> "Page":
        """Prepare the responses for a file; `name` is its path in the folder."""
        path = "/" if name == INDEX else f"/{name}"
        headers = {
            "Content-Type": MEDIA_TYPES[PurePosixPath(name).suffix],
            "Content-Security-Policy": POLICY,
            "Cache-Control": _FOR_EVER if path.startswith(ASSETS) else _ASK_FIRST,
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:20]}"',
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Encoding",
        }
        return cls(path, content, gzip.compress(content, mtime=0), headers)

    async def respond(self, request: Request) -> Response:
        """Respond with the file, or with status 304 if the client already has it."""
        if request.headers.get("if-none-match", "").removeprefix("W/") == self.headers["ETag"]:
            return Response(status_code=304, headers=self.headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.zipped, headers=self.headers | {"Content-Encoding": "gzip"})
        return Response(self.content, headers=self.headers)


def routes() -> list[BaseRoute]:
    """Return the routes of the console: `/`, its assets and its icon."""
    return [Route(page.path, page.respond, methods=["GET"]) for page in pages()]


def pages() -> Iterator[Page]:
    """Read the files that the wheel ships."""
    folder = files("dagfusion_server.doors.console") / "static"
    for name, file in _found(folder):
        yield Page.make(name, file.read_bytes())


def _found(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _found(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry
