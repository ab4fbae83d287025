"""HTTP connections to one service, reused by later requests."""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

import orjson

from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import ProblemDocument
from dagfusion_client.errors import ConnectionClosedError, ServiceUnreachableError, SettingsError
from dagfusion_client.remote import authorization

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 10.0
_MAX_IDLE = 8
_PROBLEM = "application/problem+json"
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_GONE = (
    *(ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected),
    *(ssl.SSLEOFError, ssl.SSLZeroReturnError),
)


class _Connection(http.client.HTTPConnection):
    """A connection that sends the head of a request together with its body.

    http.client sends them one after the other, and the service would wake up for each.
    """

    _parts: list[bytes] | None = None

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request."""
        self._parts = []
        try:
            super().request(*args, **options)
            parts = self._parts
        finally:
            self._parts = None
        self.send(b"".join(parts))

    def send(self, data: Any) -> None:
        """Send bytes, or keep those of a request until all of it is there."""
        if self._parts is None:
            super().send(data)
        else:
            self._parts.append(data)


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    """The same with TLS."""


class ConnectionPool:
    """The connections to a service. Thread-safe.

    Args:
        url: `http://host:port` or `https://host:port`, with the path of a proxy if there is one.
        token: The access token, sent in a header; or a reference to the secret that has it.

    Raises:
        SettingsError: The URL or the token is malformed.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = _checked(url)
        self.shown = f"{self._url.scheme}://{self._url.netloc}"
        self._token = token
        authorization(token)
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> "HttpResponse":
        """Send a request, and return the response when its headers are there.

        Raises:
            ServiceUnreachableError: Nobody answers, or it is no such service.
            QueryError: What the service says is wrong.
        """
        content = None if body is None else codec.encode(body)
        own = {"Authorization": authorization(self._token), "Content-Type": content and "application/json"}
        sent = {**{name: value for name, value in own.items() if value is not None}, **(headers or {})}
        while True:
            connection, is_new = self._connected()
            try:
                connection.request(method, f"{self._url.path.rstrip('/')}{path}", content, sent)
                response = HttpResponse(self, connection, connection.getresponse())
            except _GONE as error:
                connection.close()
                if is_new:
                    raise self._unreachable(error) from error  # an old one may well have been closed meanwhile
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise self._unreachable(error) from error
            except BaseException:
                connection.close()
                raise
            else:
                response.check()
                return response

    def document(self, kind: type[T], method: str, path: str, body: object = None) -> T:
        """Return the value whose JSON document answers a request.

        Raises:
            QueryError: As `request`.
        """
        with self.request(method, path, body) as response:
            return response.document(kind)

    def release(self, connection: http.client.HTTPConnection) -> None:
        """Return a connection to the pool after its response was read completely."""
        with self._lock:
            if not self._closed and len(self._idle) < _MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle, and ask no more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def unreachable(self, why: str) -> ServiceUnreachableError:
        """Return the error of a service that does not do what one does."""
        return ServiceUnreachableError(f"the query service at {self.shown} {why}")

    def _connected(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._closed:
                raise ConnectionClosedError(f"this connection to {self.shown} is closed: connect again")
            if self._idle:
                return self._idle.pop(), False
        host, port = self._url.hostname or "", self._url.port
        connection = (
            _Connection(host, port, timeout=_CONNECT_TIMEOUT_S)
            if self._tls is None
            else _TlsConnection(host, port, timeout=_CONNECT_TIMEOUT_S, context=self._tls)
        )
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from error
        _set_socket_options(connection.sock)
        return connection, True

    def _unreachable(self, error: Exception) -> ServiceUnreachableError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self.unreachable(
                f"has a certificate that is not trusted here ({error.verify_message}): SSL_CERT_FILE names the "
                "authorities to trust"
            )
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return self.unreachable(f"does not answer ({why}): is `dagfusion serve` running, and is this its address?")


class HttpResponse:
    """A response whose body is still to be read. A context manager."""

    def __init__(
        self, pool: ConnectionPool, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        self._pool, self._connection, self._response = pool, connection, response
        self._socket = connection.sock
        self._is_broken = False
        self.headers = response.headers

    @property
    def length(self) -> int | None:
        """The bytes of the body that are left, if its headers say that."""
        return self._response.length

    @property
    def has_end(self) -> bool:
        """True if the end of the body is marked, so that a cut body is noticed."""
        return self._response.chunked or self._response.length is not None

    def check(self) -> None:
        """Raise the error of a response without status 200.

        Raises:
            QueryError: The response has an error.
        """
        if self._response.status == http.client.OK:
            return
        with self:
            if self.headers.get_content_type() != _PROBLEM:
                raise self._pool.unreachable(
                    f"answered {self._response.status}: check that it is a DagFusion query service"
                )
            raise self.document(ProblemDocument).error()

    def require(self, media_type: str) -> None:
        """Check the media type of the body.

        Raises:
            ServiceUnreachableError: The body has another media type.
        """
        if self.headers.get_content_type() != media_type:
            raise self._pool.unreachable(f"answered without {media_type}: check that it is a DagFusion query service")

    def document(self, kind: type[T]) -> T:
        """Return the body as the value whose document it is.

        Raises:
            ServiceUnreachableError: The body is another document, or not JSON.
        """
        try:
            return codec.read(kind, orjson.loads(self.read()))
        except orjson.JSONDecodeError as error:
            raise self._pool.unreachable(
                "sent a response that is not JSON: check that it is a DagFusion query service"
            ) from error
        except codec.DocumentError as error:
            raise self._pool.unreachable(
                f"sent an unexpected response ({error}): check that it is a DagFusion query service"
            ) from error

    def read(self, size: int | None = None) -> bytes:
        """Read so many bytes, or all.

        Raises:
            ServiceUnreachableError: The response has no end.
        """
        try:
            return self._response.read(size)
        except (OSError, http.client.HTTPException) as error:
            self._is_broken = True
            raise self._pool.unreachable("broke off its response") from error

    def read_into(self, room: memoryview) -> int:
        """Read as many bytes as there is room for, or fewer at the end.

        Raises:
            OSError: The connection broke.
            HTTPException: The response has no end.
        """
        try:
            count = self._response.readinto(room)
        except BaseException:
            self._is_broken = True
            raise
        if not count and len(room) and (left := self._response.length):  # which `readinto` takes for the end
            self._is_broken = True
            raise http.client.IncompleteRead(b"", left)
        return count

    def cut(self) -> None:
        """End the connection, also while another thread reads from it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is gone already

    def close(self) -> None:
        """Keep the connection for the next request, if this response was read to its end."""
        if self._response.isclosed() and not (self._response.will_close or self._is_broken):
            self._pool.release(self._connection)
        else:
            self._response.close()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SettingsError(f"a service's URL must be http://host:port or https://host:port, got {url!r}")
    if "@" in parts.netloc:
        raise SettingsError("a service's URL must have no user or token in it: give the token as `token`")
    return parts


def _set_socket_options(connection: socket.socket) -> None:
    """Wait for responses as long as they take, and find out when the other machine is gone."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
