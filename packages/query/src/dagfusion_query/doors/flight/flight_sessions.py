"""Authentication of Flight calls, and the session options of each client."""

import base64
import binascii
import http.cookies
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyarrow import flight

from dagfusion_query.access.authentication import Tokens, identify, is_forwarded
from dagfusion_query.access.grants import Caller
from dagfusion_query.doors.flight import messages
from dagfusion_query.doors.flight.expiring_handles import Handles
from dagfusion_query.doors.flight.flight_errors import failure
from dagfusion_query.doors.flight.metadata import CATALOG
from dagfusion_query.errors import BadRequestError, UnauthenticatedError, UnknownQueryError
from dagfusion_query.service_settings import ServiceSettings

MIDDLEWARE = "dagfusion"
COOKIE = "arrow_flight_session_id"
_MOST = 2**63  # no more bits have room in an answer
_LIFETIME_S = 24 * 3600.0
_INVALID_NAME, _INVALID_VALUE = 1, 2
_CLOSED = 1
_SWITCH = {"true": True, "false": False, "none": True, "": True}  # also as a text; unset is on


@dataclass
class FlightSession:
    """The options that a client has set for later calls.

    Attributes:
        query_timeout_s: Seconds that its queries may take; None for as long as the service allows.
        limit_rows: Rows after which its results are cut; None for all.
        result_cache: Whether its results may be those that were kept for equal queries, and be kept.
    """

    query_timeout_s: float | None = None
    limit_rows: int | None = None
    result_cache: bool = True

    def set(self, name: str, value: Any) -> int | None:
        """Set or, with a value that has nothing set, unset an option; return Flight's number of what is wrong."""
        kind = value.WhichOneof("option_value")
        given = None if kind is None else getattr(value, kind)
        match name:
            case "catalog":
                return None if given in (None, "", CATALOG) else _INVALID_VALUE
            case "query_timeout_s" | "limit_rows":
                try:
                    number = None if given in (None, "") else (float if name == "query_timeout_s" else int)(given)
                except (TypeError, ValueError, OverflowError):
                    return _INVALID_VALUE
                if number is not None and not 0 < number < _MOST:
                    return _INVALID_VALUE
                setattr(self, name, number)
                return None
            case "result_cache":
                text = str(given).lower()
                self.result_cache = _SWITCH.get(text, self.result_cache)
                return None if text in _SWITCH else _INVALID_VALUE
            case _:
                return _INVALID_NAME


class Header(flight.ServerMiddleware):  # type: ignore[misc]
    """The caller of a call, from its headers.

    Attributes:
        bearer: The access token.
        is_forwarded: True if a proxy passed the call on, so that its address is not the client's.
        cookie: The session's.
    """

    def __init__(self, bearer: str | None, *, is_forwarded: bool, cookie: str | None, shake_hands: bool) -> None:
        self.bearer, self.is_forwarded, self.cookie = bearer, is_forwarded, cookie
        self._shake_hands = shake_hands
        self._at_end: Callable[[], None] | None = None

    def sending_headers(self) -> Mapping[str, str]:
        """Return the access token as a bearer's to someone who came with a name and a password."""
        return {"authorization": f"Bearer {self.bearer}"} if self._shake_hands and self.bearer else {}

    def at_end(self, step: Callable[[], None]) -> None:
        """Have something done when the call is over: a stream that its client never began to read ends here only."""
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
        return Header(bearer, is_forwarded=forwarded, cookie=cookie, shake_hands=is_basic)


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


@dataclass
class FlightSessions:
    """Callers and their sessions, by cookie."""

    tokens: Tokens
    settings: ServiceSettings
    _open: Handles[FlightSession] = field(default_factory=lambda: Handles("session", _LIFETIME_S))

    def caller(self, context: flight.ServerCallContext) -> Caller:
        """Return the caller.

        Raises:
            UnauthenticatedError: It has no token, and needs one.
        """
        header = context.get_middleware(MIDDLEWARE)
        peer = None if header.is_forwarded else _address(context.peer())
        return identify(self.tokens, self.settings, bearer=header.bearer, peer=peer, door="flight")

    def of(self, context: flight.ServerCallContext, caller: Caller) -> FlightSession:
        """Return the options that hold for a call: nothing is set where there is no session."""
        cookie = context.get_middleware(MIDDLEWARE).cookie
        if cookie is None:
            return FlightSession()
        try:
            return self._open.get(caller.owner, _handle(cookie))
        except UnknownQueryError as error:
            raise BadRequestError("the session has expired: drop its cookie, and set its options again") from error

    def set_options(self, context: flight.ServerCallContext, caller: Caller, body: bytes) -> bytes:
        """Answer `SetSessionOptions`; a caller without a session gets one, and its cookie."""
        request = messages.decode("SetSessionOptionsRequest", body)
        header = context.get_middleware(MIDDLEWARE)
        session = self.of(context, caller)
        result = messages.make("SetSessionOptionsResult")
        for name, value in request.session_options.items():
            if (wrong := session.set(name, value)) is not None:
                result.errors[name].value = wrong
        if header.cookie is None:
            handle = self._open.add(caller.owner, session, 0)
            context.add_header("set-cookie", f"{COOKIE}={handle.hex()}; HttpOnly; SameSite=Strict")
        encoded: bytes = result.SerializeToString()
        return encoded

    def get_options(self, context: flight.ServerCallContext, caller: Caller) -> bytes:
        """Answer `GetSessionOptions`."""
        session = self.of(context, caller)
        result = messages.make("GetSessionOptionsResult")
        result.session_options["catalog"].string_value = CATALOG
        if session.query_timeout_s is not None:
            result.session_options["query_timeout_s"].double_value = session.query_timeout_s
        if session.limit_rows is not None:
            result.session_options["limit_rows"].int64_value = session.limit_rows
        if not session.result_cache:
            result.session_options["result_cache"].bool_value = False
        encoded: bytes = result.SerializeToString()
        return encoded

    def close(self, context: flight.ServerCallContext, caller: Caller) -> bytes:
        """Answer `CloseSession`. It succeeds if there is no session, too."""
        cookie = context.get_middleware(MIDDLEWARE).cookie
        if cookie is not None:
            self._open.pop(caller.owner, _handle(cookie))
        return messages.encoded("CloseSessionResult", status=_CLOSED)


def _handle(cookie: str) -> bytes:
    try:
        return bytes.fromhex(cookie)
    except ValueError:
        return b""


def _address(peer: str) -> str | None:
    """Return the IP address of gRPC's name for the other end, such as `ipv4:127.0.0.1:4711` or `ipv6:[::1]:4711`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host = rest.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]")
    return host.removeprefix("[").removesuffix("]").partition("%")[0]
