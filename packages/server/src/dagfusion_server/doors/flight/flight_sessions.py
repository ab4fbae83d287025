"""The sessions of Flight clients and their options, and the random handles under which a client's values are kept.

A handle is valid for its owner only, and expires.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from dagfusion_client.as_of import AsOf, read_as_of
from dagfusion_client.commands_and_tickets import decode, encoded, make
from dagfusion_client.engine_choice import EngineChoice, read_engine
from dagfusion_client.errors import AsOfError, BadRequestError, EngineChoiceError, UnknownQueryError
from dagfusion_query.access.authentication import Tokens, identify
from dagfusion_query.access.grants import Caller
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.flight.flight_calls import COOKIE, MIDDLEWARE, Context
from dagfusion_server.doors.flight.flight_metadata import CATALOG

T = TypeVar("T")
_OWNER_COUNT = 2_000
_OWNER_BYTES = 32 << 20
_MOST = 2**63  # the numbers of a response are signed and have 64 bits
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
        as_of: The past event or time that its queries read the tables as of; None for now.
        engine: The engine that its queries choose; None for that of the service.
        trace: The W3C headers `traceparent` and `tracestate` of a call.
    """

    query_timeout_s: float | None = None
    limit_rows: int | None = None
    result_cache: bool = True
    as_of: AsOf | None = None
    engine: EngineChoice | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    def set(self, name: str, value: Any) -> int | None:  # noqa: PLR0911  # a table
        """Set or, with a value that has nothing set, unset an option; return Flight's number of what is wrong."""
        kind = value.WhichOneof("option_value")
        setting = None if kind is None else getattr(value, kind)
        match name:
            case "catalog":
                return None if setting in (None, "", CATALOG) else _INVALID_VALUE
            case "query_timeout_s" | "limit_rows":
                try:
                    number = None if setting in (None, "") else (float if name == "query_timeout_s" else int)(setting)
                except (TypeError, ValueError, OverflowError):
                    return _INVALID_VALUE
                if number is not None and not 0 < number < _MOST:
                    return _INVALID_VALUE
                setattr(self, name, number)
                return None
            case "as_of":
                try:
                    self.as_of = None if setting in (None, "") else read_as_of(setting)
                except AsOfError:
                    return _INVALID_VALUE
                return None
            case "engine":
                try:
                    self.engine = None if setting in (None, "") else read_engine(setting)
                except EngineChoiceError:
                    return _INVALID_VALUE
                return None
            case "result_cache":
                text = str(setting).lower()
                self.result_cache = _SWITCH.get(text, self.result_cache)
                return None if text in _SWITCH else _INVALID_VALUE
            case _:
                return _INVALID_NAME


@dataclass
class _Entry(Generic[T]):
    owner: str
    value: T
    size_bytes: int
    expires: float


class Handles(Generic[T]):
    """Values under random handles. Thread-safe.

    An owner may have 2,000 of them and 32 MiB. Beyond that, those that were used least recently are dropped.

    Args:
        what: The name of a value in errors, such as "ticket".
        lifetime_s: Seconds after which an unused value is dropped.
        dropped: Called with each value that is dropped, from any thread.
        clock: A monotonic clock, seconds.
    """

    def __init__(
        self,
        what: str,
        lifetime_s: float,
        dropped: Callable[[T], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._lifetime_s, self._dropped, self._clock = what, lifetime_s, dropped, clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry[T]] = OrderedDict()  # the one used last is last
        self._usage: dict[str, tuple[int, int]] = {}

    def add(self, owner: str, value: T, size_bytes: int) -> bytes:
        """Keep a value and return its handle."""
        handle = secrets.token_bytes(16)
        with self._lock:
            self._put(handle, _Entry(owner, value, size_bytes, self._clock() + self._lifetime_s))
            gone = self._expired() + self._excess(owner)
        self._notify(gone)
        return handle

    def get(self, owner: str, handle: bytes) -> T:
        """Return a value, and count it as used.

        Raises:
            UnknownQueryError: The handle is unknown, belongs to another owner, or was dropped.
        """
        with self._lock:
            gone = self._expired()
            entry = self._entries.get(handle)
            if entry is not None and entry.owner == owner:
                entry.expires = self._clock() + self._lifetime_s
                self._entries.move_to_end(handle)
            else:
                entry = None
        self._notify(gone)
        if entry is None:
            raise UnknownQueryError(f"unknown or expired {self._what}: make it again")
        return entry.value

    def replace(self, owner: str, handle: bytes, value: T, size_bytes: int) -> None:
        """Replace the value of a handle. Raises as `get` does."""
        self.get(owner, handle)
        with self._lock:
            if handle in self._entries:
                self._remove(handle)
            self._put(handle, _Entry(owner, value, size_bytes, self._clock() + self._lifetime_s))

    def pop(self, owner: str, handle: bytes) -> T | None:
        """Remove a value without calling `dropped`, and return it; None if there is none."""
        with self._lock:
            entry = self._entries.get(handle)
            if entry is None or entry.owner != owner:
                return None
            return self._remove(handle)

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            gone = [self._remove(handle) for handle in list(self._entries)]
        self._notify(gone)

    def _put(self, handle: bytes, entry: _Entry[T]) -> None:
        count, size_bytes = self._usage.get(entry.owner, (0, 0))
        self._usage[entry.owner] = count + 1, size_bytes + entry.size_bytes
        self._entries[handle] = entry

    def _remove(self, handle: bytes) -> T:
        entry = self._entries.pop(handle)
        count, size_bytes = self._usage.pop(entry.owner)
        if count > 1:
            self._usage[entry.owner] = count - 1, size_bytes - entry.size_bytes
        return entry.value

    def _expired(self) -> list[T]:
        now, gone = self._clock(), []
        while self._entries and next(iter(self._entries.values())).expires <= now:
            gone.append(self._remove(next(iter(self._entries))))
        return gone

    def _excess(self, owner: str) -> list[T]:
        if self._is_within(owner):
            return []
        gone = []
        for handle in [handle for handle, entry in self._entries.items() if entry.owner == owner][:-1]:
            if self._is_within(owner):
                break
            gone.append(self._remove(handle))
        return gone

    def _is_within(self, owner: str) -> bool:
        count, size_bytes = self._usage[owner]
        return count <= _OWNER_COUNT and size_bytes <= _OWNER_BYTES

    def _notify(self, gone: list[T]) -> None:
        for value in gone:
            self._dropped(value)


@dataclass
class FlightSessions:
    """Callers and their sessions, by cookie."""

    tokens: Tokens
    settings: ServiceSettings
    _open: Handles[FlightSession] = field(default_factory=lambda: Handles("session", _LIFETIME_S))

    def caller(self, context: Context) -> Caller:
        """Return the caller.

        Raises:
            UnauthenticatedError: The call needs a token and has none.
        """
        header = context.get_middleware(MIDDLEWARE)
        peer = None if header.is_forwarded else _address(context.peer())
        return identify(self.tokens, self.settings, bearer=header.bearer, peer=peer, door="flight")

    def of(self, context: Context, caller: Caller) -> FlightSession:
        """Return the options that hold for a call: those of its session, if it has one, and of its headers.

        Raises:
            BadRequestError: The session has expired.
            AsOfError: The header is no event id and no time.
            EngineChoiceError: The header is no engine.
        """
        session, header = self._session(context, caller), context.get_middleware(MIDDLEWARE)
        if header.trace:
            session = replace(session, trace=header.trace)
        if header.engine:
            session = replace(session, engine=read_engine(header.engine))
        return replace(session, as_of=read_as_of(header.as_of)) if header.as_of else session

    def _session(self, context: Context, caller: Caller) -> FlightSession:
        cookie = context.get_middleware(MIDDLEWARE).cookie
        if cookie is None:
            return FlightSession()
        try:
            return self._open.get(caller.owner, _handle(cookie))
        except UnknownQueryError as error:
            raise BadRequestError("the session has expired: drop its cookie, and set its options again") from error

    def set_options(self, context: Context, caller: Caller, body: bytes) -> bytes:
        """Answer `SetSessionOptions`; a caller without a session gets one, and its cookie."""
        request = decode("SetSessionOptionsRequest", body)
        header = context.get_middleware(MIDDLEWARE)
        session = self._session(context, caller)
        result = make("SetSessionOptionsResult")
        for name, value in request.session_options.items():
            if (wrong := session.set(name, value)) is not None:
                result.errors[name].value = wrong
        if header.cookie is None:
            handle = self._open.add(caller.owner, session, 0)
            context.add_header("set-cookie", f"{COOKIE}={handle.hex()}; HttpOnly; SameSite=Strict")
        encoding: bytes = result.SerializeToString()
        return encoding

    def get_options(self, context: Context, caller: Caller) -> bytes:
        """Answer `GetSessionOptions`."""
        session = self._session(context, caller)
        result = make("GetSessionOptionsResult")
        result.session_options["catalog"].string_value = CATALOG
        if session.query_timeout_s is not None:
            result.session_options["query_timeout_s"].double_value = session.query_timeout_s
        if session.limit_rows is not None:
            result.session_options["limit_rows"].int64_value = session.limit_rows
        if session.as_of is not None:
            result.session_options["as_of"].string_value = str(session.as_of)
        if session.engine is not None:
            result.session_options["engine"].string_value = session.engine
        if not session.result_cache:
            result.session_options["result_cache"].bool_value = False
        encoding: bytes = result.SerializeToString()
        return encoding

    def close(self, context: Context, caller: Caller) -> bytes:
        """Answer `CloseSession`. It succeeds if there is no session, too."""
        cookie = context.get_middleware(MIDDLEWARE).cookie
        if cookie is not None:
            self._open.pop(caller.owner, _handle(cookie))
        return encoded("CloseSessionResult", status=_CLOSED)


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
