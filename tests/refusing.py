"""An S3 server for a role that may list some folders only: it answers with 403 in place of 404, as S3 does."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.http_servers import answering, etag_of

BUCKET = "lake"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_PAGE = 1000
_MODIFIED = "2024-01-01T00:00:00.000Z"


@dataclass
class Refusing:
    """A bucket.

    Attributes:
        objects: By key.
        denied: The keys of objects that may not be read, though they are there.
        folders: The folders that may be listed.
        listings: The prefix of each listing.
        leaving: Whether an object is deleted just before a HEAD asks for it.
    """

    folders: tuple[str, ...]
    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    listings: list[str] = field(default_factory=list)
    leaving: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of an IO manager that name the bucket."""
        keys = {"access_key_id": "k", "secret_access_key": "s"}
        return {"bucket": BUCKET, "endpoint_url": self.endpoint, "region": "us-east-2", **keys}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: ClassVar[Refusing]

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if "If-Match" in self.headers and self._key not in self.bucket.objects:
            self._answer(403, _DENIED)
            return
        self.bucket.objects[self._key] = content
        self._answer(200, b"", content)

    def do_HEAD(self) -> None:
        if self.bucket.leaving:
            self.bucket.objects.pop(self._key, None)
        self._give()

    def do_GET(self) -> None:
        asked = {name: value for name, (value, *_) in parse_qs(urlsplit(self.path).query).items()}
        if "list-type" in asked:
            self._list(asked.get("prefix", ""), asked.get("continuation-token", asked.get("start-after", "")))
        else:
            self._give()

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").removeprefix("/")

    def _give(self) -> None:
        content = self.bucket.objects.get(self._key)
        if content is None or self._key in self.bucket.denied:
            self._answer(403, _DENIED)
        elif asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            start = int(first) if first else len(content) - int(last)
            end = min(int(last) + 1, len(content)) if first and last else len(content)
            self._answer(206, content[start:end], content, {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})
        else:
            self._answer(200, content, content)

    def _list(self, prefix: str, after: str) -> None:
        self.bucket.listings.append(prefix)
        if not prefix.startswith(self.bucket.folders):
            self._answer(403, _DENIED)
            return
        keys = [key for key in sorted(self.bucket.objects) if key.startswith(prefix) and key > after]
        rows = [
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.bucket.objects[key])}</Size>"
            f"<ETag>{etag_of(self.bucket.objects[key])}</ETag><LastModified>{_MODIFIED}</LastModified></Contents>"
            for key in keys[:_PAGE]
        ]
        token = f"<NextContinuationToken>{escape(keys[_PAGE - 1])}</NextContinuationToken>" if keys[_PAGE:] else ""
        more = f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{token}"
        self._answer(200, f"<ListBucketResult>{more}{''.join(rows)}</ListBucketResult>".encode())

    def _answer(
        self, status: int, body: bytes, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        described = {} if content is None else {"ETag": etag_of(content)}
        usual = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Content-Length": str(len(body))}
        for name, value in {**usual, **described, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def refusing(*folders: str) -> Iterator[Refusing]:
    """Run the server for the length of a `with` block, and give its bucket, of which some folders may be listed."""
    bucket = Refusing(folders)
    with answering(type("BucketHandler", (_Handler,), {"bucket": bucket})) as bucket.endpoint:
        yield bucket
