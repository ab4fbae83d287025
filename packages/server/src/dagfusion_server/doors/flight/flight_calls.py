"""What all Flight calls share: their headers and caller's token, their waits for the service, and their errors.

gRPC runs calls on threads of its own, and the service is on one event loop. So a call's thread waits for a coroutine of
the loop. An error leaves as a Flight error: the gRPC status of its class and its text, without details of this machine.
"""

import asyncio
import base64
import binascii
import http.cookies
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias, TypeVar

import orjson
import pyarrow as pa
from pyarrow import flight

from dagfusion_client.commands_and_tickets import AS_OF, ENGINE, ERROR_TRAILER
from dagfusion_client.documents.codec import encode
from dagfusion_client.documents.query_documents import Failure
from dagfusion_client.errors import (
    BadRequestError,
    QueryCancelledError,
    QueryError,
    ServiceUnavailableError,
    TooBusyError,
    UnauthenticatedError,
)
from dagfusion_query.access.authentication import Tokens, identify, is_forwarded
from dagfusion_query.redact import for_clients
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.service.query_registry import TRACE_HEADERS

T = TypeVar("T")
Context: TypeAlias = flight.ServerCallContext
MIDDLEWARE = "dagfusion"
COOKIE = "arrow_flight_session_id"
LOOK_S = 0.25  # how often a waiting thread asks whether its client is still there
_STOPPING = "the service is stopping: connect again in a moment"


class Header(flight.ServerMiddleware):  # type: ignore[misc]
    """The caller of a call, from its headers.

    Attributes:
        bearer: The access token.
        is_forwarded: True if a proxy passed the call on, so that its address is not the client's.
        cookie: The session's.
        as_of: The past event or time that the call reads the tables as of; None for the session's.
        engine: The engine that it chooses; None for the session's.
        trace: The W3C headers `traceparent` and `tracestate`.
    """

    def __init__(
        self,
        bearer: str | None,
        *,
        is_forwarded: bool,
        cookie: str | None,
        shake_hands: bool,
        as_of: str | None = None,
        engine: str | None = None,
        trace: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.trace = trace
        self.bearer, self.is_forwarded, self.cookie, self.as_of = bearer, is_forwarded, cookie, as_of
        self.engine = engine
        self._shake_hands = shake_hands
        self._at_end: Callable[[], None] | None = None

    def sending_headers(self) -> Mapping[str, str]:
        """Return the access token as a bearer's to someone who came with a name and a password."""
        return {"authorization": f"Bearer {self.bearer}"} if self._shake_hands and self.bearer else {}

    def at_end(self, step: Callable[[], None]) -> None:
        """Register a callback for the end of the call, the only end of a stream that its client never began to read."""
        self._at_end = step

    def call_completed(self, _exception: Exception | None) -> None:
        """Do what is to be done at the end."""
        if self._at_end is not None:
            self._at_end()


class Headers(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Reads each call's headers. A token that is not valid is refused here, before anything else happens."""

    def __init__(self, tokens: Tokens, settings: ServiceSettings) -> None:
        self._tokens, self._settings = tokens, settings

    def start_call(self, _info: flight.CallInfo, headers: Mapping[str, Any]) -> Header:
        """Read one call's headers."""
        try:
            bearer, is_basic = _credentials(_authorization(headers))
            if bearer is not None:
                identify(self._tokens, self._settings, bearer=bearer, peer=None, door="flight")
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not leave as it is
            raise failure(error) from None
        forwarded = is_forwarded(name.lower() for name in headers)
        cookie = _cookie(next(iter(_values(headers, "cookie")), None))
        as_of, engine = (next(iter(_values(headers, name)), None) for name in (AS_OF, ENGINE))
        trace = {name: value for name in TRACE_HEADERS for value in _values(headers, name)[:1]}
        return Header(
            bearer,
            is_forwarded=forwarded,
            cookie=cookie,
            shake_hands=is_basic,
            as_of=as_of,
            engine=engine,
            trace=trace,
        )


def _authorization(headers: Mapping[str, Any]) -> str | None:
    values = _values(headers, "authorization")
    if len(values) > 1:
        raise BadRequestError(f"the header authorization may come once, got {len(values)}")
    return values[0] if values else None


def _values(headers: Mapping[str, Any], name: str) -> list[str]:
    return [str(value) for value in headers.get(name) or headers.get(name.title()) or ()]


def _credentials(header: str | None) -> tuple[str | None, bool]:
    """Return the access token of an authorization header, and whether it came as the password of basic authentication.

    Raises:
        UnauthenticatedError: The header has something else.
    """
    scheme, _, value = (header or "").partition(" ")
    if not scheme:
        return None, False
    if scheme.lower() == "bearer":
        return value.strip(), False
    if scheme.lower() == "basic":
        try:
            padded = value.strip() + "=" * (-len(value.strip()) % 4)  # Go's clients leave the padding out
            _, _, password = base64.b64decode(padded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise UnauthenticatedError("the header `authorization: Basic` must hold user:password in base64") from None
        if not password:
            raise UnauthenticatedError(
                "the password must be an access token: give one, or neither user nor password where none is needed"
            )
        return password, True
    raise UnauthenticatedError("send an access token as `authorization: Bearer <token>`, or as the password")


def _cookie(header: str | None) -> str | None:
    try:
        found = http.cookies.SimpleCookie(header or "").get(COOKIE)
    except http.cookies.CookieError:
        return None
    return found.value if found is not None and found.value else None


class NoHandshake(flight.ServerAuthHandler):  # type: ignore[misc]
    """Lets Flight's handshake pass: the headers that come with it say who calls."""

    def authenticate(self, _outgoing: object, _incoming: object) -> None:
        """Do nothing: `Headers` has already refused invalid callers."""

    def is_valid(self, _token: bytes) -> str:
        """Accept Flight's own tokens, which are never issued."""
        return ""


class Bridge:
    """Runs coroutines on the service's loop for threads that wait for them.

    Args:
        loop: The service's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closing = threading.Event()

    def call(self, work: Coroutine[Any, Any, T], context: Context) -> T:
        """Run a coroutine and wait for what it returns, as long as the client waits.

        Raises:
            QueryCancelledError: The client went away; the coroutine is cancelled.
            ServiceUnavailableError: The door is closing; likewise. Or the loop is closed.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise ServiceUnavailableError(_STOPPING) from error
        while True:
            try:
                return future.result(LOOK_S)
            except CancelledError:
                raise ServiceUnavailableError(_STOPPING) from None
            except TimeoutError:
                if future.done():
                    raise
                try:
                    self.check(context)
                except BaseException:
                    future.cancel()
                    raise

    def check(self, context: Context) -> None:
        """Raise if the caller is gone or the service is stopping.

        Raises:
            QueryCancelledError: The client went away.
            ServiceUnavailableError: The door is closing.
        """
        if context.is_cancelled():
            raise QueryCancelledError("the query was cancelled: its client disconnected")
        if self._closing.is_set():
            raise ServiceUnavailableError(_STOPPING)

    def close(self) -> None:
        """End every wait."""
        self._closing.set()

    def post(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine without waiting for it. It does not run if the loop is closed."""
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()


class _NoTraceback(Exception):  # noqa: N818  # a mixin
    """An exception that the traceback module cannot format.

    pyarrow sends the formatted traceback of an exception that is no FlightError along with its text, paths and source
    lines included. Where formatting fails, it sends the name of the exception's class instead.
    """

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]  # that it cannot be written is the point
        raise AttributeError("this exception does not show where it was raised")


def _without_traceback(name: str, base: type[Exception]) -> type[Exception]:
    return type(name, (_NoTraceback, base), {"__doc__": f"{name}: clients are shown this name."})


_STATUSES: Mapping[str, type[Exception]] = {
    "INVALID_ARGUMENT": _without_traceback("InvalidArgument", pa.ArrowInvalid),
    "NOT_FOUND": _without_traceback("NotFound", pa.ArrowKeyError),
    "UNIMPLEMENTED": _without_traceback("Unimplemented", pa.ArrowNotImplementedError),
    "UNAUTHENTICATED": _without_traceback("Unauthenticated", flight.FlightUnauthenticatedError),
    "PERMISSION_DENIED": _without_traceback("PermissionDenied", flight.FlightUnauthorizedError),
    "DEADLINE_EXCEEDED": _without_traceback("DeadlineExceeded", flight.FlightTimedOutError),
    "CANCELLED": _without_traceback("Cancelled", flight.FlightCancelledError),
    "UNAVAILABLE": _without_traceback("Unavailable", flight.FlightUnavailableError),
    "INTERNAL": _without_traceback("Internal", flight.FlightInternalError),
    "RESOURCE_EXHAUSTED": _without_traceback("ResourceExhausted", flight.FlightServerError),
    "FAILED_PRECONDITION": _without_traceback("FailedPrecondition", flight.FlightServerError),
}
# pyarrow cannot say these statuses: the text has the name, and the trailer the code.
_NAMED_IN_TEXT = frozenset(name for name, kind in _STATUSES.items() if issubclass(kind, flight.FlightServerError))


def failure(error: BaseException, context: Any = None) -> Exception:
    """Return what a handler raises for an error.

    Args:
        error: Anything that went wrong; the client gets an internal error in place of one that is not for clients.
        context: The call's `ServerCallContext`; with it, the error also travels in the trailer.
    """
    known = for_clients(error)
    if context is not None:
        context.add_trailer(ERROR_TRAILER, encoded(known))
    if isinstance(known, TooBusyError):
        hint = "" if "try again in" in str(known) else f" (try again in {known.retry_after_s:g} s)"
        # On UNAVAILABLE clients try again, which is right here.
        return _STATUSES["UNAVAILABLE"](f"{known}{hint}", orjson.dumps(known.details()))
    text = f"{known.grpc_status}: {known}" if known.grpc_status in _NAMED_IN_TEXT else str(known)
    return _STATUSES[known.grpc_status](text)


def encoded(error: QueryError) -> bytes:
    """Encode an error as the trailer has it."""
    return encode(Failure.of(error))
