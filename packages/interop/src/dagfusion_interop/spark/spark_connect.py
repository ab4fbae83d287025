"""A client of Spark Connect: runs one statement at a time, and yields the batches of its result.

Spark's own client would import pandas. This client needs only a few fields of a few messages, so it writes them in
protobuf's wire format, and sends them by gRPC. An execution is reattachable, because only then the server marks the end
of the result. Spark ends a stream without this mark after some minutes or bytes, and keeps the rest of the result for a
client that reattaches. If the server has no rest, the result was truncated, which is an error.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

import pyarrow as pa

from dagfusion_client.engine_choice import is_spark_url
from dagfusion_client.errors import RemoteEngineError, RemoteEngineUnavailableError, SettingsError, needs
from dagfusion_client.secrets_manager import resolved
from dagfusion_query.wire import children, fields, message, uint

with needs("spark", "the Spark engine"):
    import grpc

_log = logging.getLogger(__name__)
T = TypeVar("T")

_SERVICE = "/spark.connect.SparkConnectService/"
_PORT = 15002
_CLIENT = b"dagfusion"
_MESSAGE_BYTES = 256 << 20
_CALL_S = 10.0  # of a call that runs nothing
_CONNECT_S = 10.0
_RELEASE_S = 2.0
_SHOWN = 2_000  # characters of an error
# The statements rely on these settings, so each session sets them. With ANSI, a failed cast or a division by zero is an
# error, as in DataFusion, and not NULL. Without loss of precision, decimals keep the same digits as in DataFusion.
_CONFIGURATION = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.groupByOrdinal": "true",
    "spark.sql.orderByOrdinal": "true",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
}
_MOST_EMPTY = 100  # consecutive streams without a response: Spark ends each after two minutes
_SESSION_ENDED = "INVALID_HANDLE.SESSION"
_FORGOTTEN = re.compile(r"operation not found|INVALID_HANDLE", re.IGNORECASE)  # Sail, Spark
_NO_SLOTS = re.compile(r"task region requires (\d+) worker task slots, but the configured maximum is (\d+)")  # Sail
_DETAILS = "grpc-status-details-bin"
_DOMAIN = b"org.apache.spark"
# What a server calls an error. Neither has a word of the statement, of the store or of a value.
_CONDITION = re.compile(r"[A-Z][A-Z0-9_]{0,79}(?:\.[A-Z0-9_]{1,80})?")
_CLASS = re.compile(r"(?:org\.apache|java|scala)(?:\.[a-z0-9]{1,40}){0,9}\.([A-Z][A-Za-z0-9$]{1,79})")
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class SparkAddress(NamedTuple):
    """A Spark Connect server: `sc://host:port/;use_ssl=true;token=...;user_id=...`."""

    target: str
    is_tls: bool
    token: str | None
    user: str

    @classmethod
    def read(cls, url: str) -> "SparkAddress":
        """Read a URL that `is_spark_url` accepts.

        >>> SparkAddress.read("sc://spark/;use_ssl=true;token=t").target
        'spark:15002'
        """
        place, _, options = url.removeprefix("sc://").partition("/")
        pairs = [option.partition("=")[::2] for option in options.split(";") if option]
        values = {key: unquote(value) for key, value in pairs}
        has_port = place.rpartition(":")[2].isdecimal() and not place.endswith("]")
        token = values.get("token")
        is_tls = values.get("use_ssl", "").lower() == "true" or token is not None
        return cls(place if has_port else f"{place}:{_PORT}", is_tls, token, values.get("user_id", "dagfusion"))


@dataclass(frozen=True)
class SparkSession:
    """A session of a server. All workers of a service share it.

    Attributes:
        url: The URL of the server, or a reference to a secret that has the URL.
        id: A UUID.
    """

    url: str
    id: str


def _url(session: SparkSession) -> str:
    """Return the URL of a session's server. A secret is read again each time.

    Raises:
        SecretUnavailableError: The secret cannot be read.
        SettingsError: The secret has no URL of a Spark Connect server.
    """
    url = resolved(session.url) or ""
    if not is_spark_url(url):
        raise SettingsError("the secret that DAGFUSION_SPARK_REMOTE names must be a URL such as sc://host:15002")
    return url


class SparkStatement:
    """One statement of a session. `cancel` may be called on any thread, the other methods on one.

    Attributes:
        is_unread: True if the server refused the statement before it read any object.

    Args:
        session: The session.
        operation: The id of this execution, a UUID.
        sql: The statement in Spark's SQL.
    """

    def __init__(self, session: SparkSession, operation: str, sql: str) -> None:
        self._address, self._operation = SparkAddress.read(_url(session)), operation
        self._session, self._sql = session.id, sql
        self._channel = self._connect()
        self.is_unread = False
        self._is_cancelled = self._is_forgotten = self._has_own_session = False
        self._call: grpc.Call | None = None

    @property
    def server(self) -> str:
        """The server's name in errors. Callers read errors, so the name has no address."""
        return "the Spark engine"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Run the statement, and yield the batches of its result.

        Raises:
            RemoteEngineError: The server refused the statement, or failed while it ran it.
            RemoteEngineUnavailableError: The server does not answer or ended the result early, or the connection was
                lost.
        """
        is_complete = False
        with self._errors():
            self._in_session(self._configure)
            for response in self._responses():
                is_complete = is_complete or _is_last(response)
                for batch in children(response, 2):
                    yield from _decoded(batch)
        if not is_complete:
            raise RemoteEngineUnavailableError(
                f"{self.server} ended the result before its end: the statement was interrupted on the server, or the "
                "server stopped; run it again"
            )
        self._release()

    def cancel(self) -> None:
        """Stop receiving batches. The server continues the statement until `interrupt` is called."""
        self._is_cancelled = True
        if self._call is not None:
            self._call.cancel()

    def interrupt(self) -> bool:
        """Interrupt the statement on the server. Return True if the server was running it.

        Sail ignores the request while it plans the statement, and then runs the statement.

        Raises:
            RemoteEngineError: The server refuses the request, or does not answer.
        """
        with self._errors():
            return self._in_session(self._interrupt)

    def close(self) -> None:
        """Close the connection, and the session if only this statement uses it."""
        if self._has_own_session:
            self._has_own_session = False
            with suppress(grpc.RpcError):  # the server drops it by itself after a while
                self._unary("ReleaseSession", self._named(3), _RELEASE_S)
        self._channel.close()

    def _connect(self) -> grpc.Channel:
        options = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", -1)]
        if self._address.is_tls:
            return grpc.secure_channel(self._address.target, grpc.ssl_channel_credentials(), options)
        return grpc.insecure_channel(self._address.target, options)

    def _in_session(self, call: Callable[[], T]) -> T:
        """Call in the shared session, or in a new one: Spark ends a session that had no statement for an hour."""
        try:
            return call()
        except grpc.RpcError as error:
            if _SESSION_ENDED not in str(error.details()):
                raise
        self._session, self._has_own_session = self._operation, True
        return call()

    def _interrupt(self) -> bool:
        request = self._named(3) + uint(4, 3) + message(6, self._operation.encode())
        answer = self._unary("Interrupt", request, _CALL_S)
        return self._operation.encode() in children(answer, 2)

    def _configure(self) -> None:
        pairs = b"".join(
            message(1, message(1, key.encode()) + message(2, value.encode())) for key, value in _CONFIGURATION.items()
        )
        self._unary("Config", self._named(4) + message(3, message(1, pairs)), _CONNECT_S)

    def _responses(self) -> Iterator[bytes]:
        """Yield all responses. A server ends a stream after some time or bytes, and continues it in `_reattach`.

        After a response that has rows but no id, the stream cannot be continued: the server would begin again.
        """
        last, empty, has_ids, stream = b"", 0, True, self._execute()
        while has_ids and not self._is_forgotten and empty < _MOST_EMPTY:
            empty += 1
            for response in stream:
                yield response
                ids = children(response, 13)
                empty, last = 0, next(iter(ids), last)
                has_ids = has_ids and bool(ids or not children(response, 2))
                if _is_last(response):
                    return
            stream = self._reattach(last)

    def _execute(self) -> Iterator[bytes]:
        plan = message(1, message(10, message(1, self._sql.encode())))
        reattachable = message(1, uint(1, 1))
        request = self._named(4) + message(3, plan) + message(5, reattachable)
        return self._stream("ExecutePlan", request + message(6, self._operation.encode()))

    def _reattach(self, last: bytes) -> Iterator[bytes]:
        """Yield the responses after the one with the id `last`, or all if it is empty; none if the server has none."""
        request = self._named(4) + message(3, self._operation.encode()) + (message(5, last) if last else b"")
        try:
            yield from self._stream("ReattachExecute", request)
        except grpc.RpcError as error:
            if _FORGOTTEN.search(str(error.details())) is None:
                raise
            self._is_forgotten = True
            _log.warning("the Spark engine has no result of %s: %s", self._operation, error.details())

    def _stream(self, method: str, request: bytes) -> Iterator[bytes]:
        call = self._call = self._channel.unary_stream(f"{_SERVICE}{method}")(request, metadata=self._metadata)
        if self._is_cancelled:
            call.cancel()
        responses: Iterator[bytes] = call
        return responses

    def _release(self) -> None:
        """Release the result. The server keeps it for a client that reattaches."""
        request = self._named(4) + message(3, self._operation.encode()) + message(5, b"")
        with suppress(grpc.RpcError):  # the server drops it by itself after a while
            self._unary("ReleaseExecute", request, _CALL_S)

    def _named(self, client: int) -> bytes:
        """Return the fields that all requests have. `client` is the field number of the client's name."""
        context = message(1, self._address.user.encode())
        return message(1, self._session.encode()) + message(2, context) + message(client, _CLIENT)

    def _unary(self, method: str, request: bytes, timeout_s: float) -> bytes:
        call = self._channel.unary_unary(f"{_SERVICE}{method}")
        answer: bytes = call(request, timeout=timeout_s, metadata=self._metadata)
        return answer

    @property
    def _metadata(self) -> Sequence[tuple[str, str]]:
        return () if self._address.token is None else (("authorization", f"Bearer {self._address.token}"),)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            if (slots := _NO_SLOTS.search(str(error.details()))) is not None:
                self.is_unread = True
                raise RemoteEngineError(
                    f"{self.server} needs {slots[1]} task slots for the statement and has {slots[2]}: each partition "
                    "that is read takes one; read fewer partitions, consolidate the tables and let the Iceberg catalog "
                    'name the large objects (DAGFUSION_ICEBERG_CONSOLIDATED), or use engine="local"'
                ) from error
            if self._is_cancelled and error.code() is grpc.StatusCode.CANCELLED:
                raise RemoteEngineError(f"the statement was cancelled on {self.server}") from error
            reference = secrets.token_hex(4)
            text = str(error.details() or "")[:_SHOWN]
            _log.warning("error %s of the Spark engine at %s: %s", reference, self._address.target, text)
            if error.code() in _LOST:
                raise RemoteEngineUnavailableError(
                    f"{self.server} does not answer: DagFusion's log has the reason as error {reference}"
                ) from error
            raise RemoteEngineError(
                f"{self.server} cannot run the statement ({_kind(error)}): DagFusion's log has the reason as error "
                f'{reference}, and engine="local" runs it without Spark'
            ) from error
        except (ValueError, pa.ArrowException) as error:
            raise RemoteEngineError(f"{self.server} sent a malformed result: {error}") from error


def _kind(error: grpc.RpcError) -> str:
    """Return what the server calls an error: the condition, else the class, else the status of the call."""
    for info in _error_infos(error):
        metadata = {_text(entry, 1): _text(entry, 2) for entry in children(info, 3)}
        if _CONDITION.fullmatch(condition := metadata.get("errorClass", "")):
            return condition
        if (name := _CLASS.fullmatch(_text(info, 1))) is not None:
            return name[1]
    return str(error.code().name)


def _error_infos(error: grpc.RpcError) -> Iterator[bytes]:
    """Yield what Spark and Sail say of an error beside its text, as messages `google.rpc.ErrorInfo`."""
    for key, value in error.trailing_metadata() or ():
        for detail in children(value, 3) if key == _DETAILS else ():
            yield from (info for info in children(detail, 2) if _DOMAIN in children(info, 2))


def _text(parent: bytes, number: int) -> str:
    return b"".join(children(parent, number)).decode("utf-8", "replace")


def _is_last(response: bytes) -> bool:
    return any(field.number == 14 for field in fields(response))  # noqa: PLR2004


def _decoded(batch: bytes) -> Iterator[pa.RecordBatch]:
    """Yield the batches of the Arrow stream in one message.

    Raises:
        ValueError: The number of rows is not that in the message's header.
    """
    said = next((field.value for field in fields(batch) if field.number == 1), 0)
    found = [one for stream in children(batch, 2) for one in pa.ipc.open_stream(stream)]
    if (rows := sum(one.num_rows for one in found)) != said:
        raise ValueError(f"a message has {rows} rows, which is not the number in its header")
    yield from found
