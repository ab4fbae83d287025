"""The client over Arrow Flight SQL, with the same interface as the embedded connection."""

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson
import pyarrow as pa
from pyarrow import flight

from dagfusion_client.as_of import Given, read_as_of
from dagfusion_client.commands_and_tickets import (
    AS_OF,
    DIFF,
    ENGINE,
    ERROR_TRAILER,
    EXPLAIN,
    GENERATIONS,
    NAMED,
    QUERY,
    QUERY_HEADER,
    STATS_TRAILER,
    TABLES,
    packed,
    unpack,
)
from dagfusion_client.documents import codec
from dagfusion_client.documents.catalog_documents import (
    DiffRequest,
    GenerationsDocument,
    GenerationsRequest,
    TablesDocument,
)
from dagfusion_client.documents.query_documents import Failure, QueryInfo, Stats
from dagfusion_client.engine_choice import read_engine
from dagfusion_client.errors import (
    ConnectionClosedError,
    QueryError,
    ServiceUnreachableError,
    SettingsError,
    UnauthenticatedError,
)
from dagfusion_client.parameters import Params, row, scalars
from dagfusion_client.remote import ALIGNED, RemoteConnection, RemoteResult, authorization
from dagfusion_client.returned_values import Explanation, TableDiff
from dagfusion_client.sql_text import check_text
from dagfusion_contract.naming import TableName

T = TypeVar("T")
_NOTHING: Mapping[str, str] = MappingProxyType({})
FAILURES = (pa.ArrowException, flight.FlightError, OSError, KeyError)
# A service that was away is found soon after it has come back; gRPC would wait up to two minutes.
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
_NOISE = (". Detail: ", ". gRPC client debug context: ")


class FlightCall(flight.ClientMiddleware):  # type: ignore[misc]
    """One call: listens to what the service says of an error."""

    def __init__(self) -> None:
        self._failure: bytes | None = None
        self.query_id = ""  # of a statement, when its first rows have come
        self.stats: Stats | None = None  # of a result, when it came to its end

    def received_headers(self, headers: Mapping[str, Any]) -> None:
        """Keep the error, or the stats, which come with the call's trailers."""
        if trailer := headers.get(ERROR_TRAILER):
            self._failure = trailer[0]
        if query := headers.get(QUERY_HEADER):
            self.query_id = query[0]
        if stats := headers.get(STATS_TRAILER):
            self.stats = codec.read(Stats, orjson.loads(stats[0]))

    def error(self, raised: BaseException, shown: str) -> QueryError:
        """Return what went wrong.

        Args:
            raised: What pyarrow makes of it.
            shown: The service's URL.
        """
        if self._failure is not None:
            return codec.read(Failure, orjson.loads(self._failure)).error()
        text = str(raised.args[0]) if raised.args else str(raised)
        for noise in _NOISE:
            text = text.partition(noise)[0]
        if isinstance(raised, flight.FlightUnauthenticatedError):
            return UnauthenticatedError(text)
        if isinstance(raised, flight.FlightUnavailableError | flight.FlightTimedOutError):
            why = text.rpartition("with message: ")[2].rpartition("remote host: ")[2]
            return ServiceUnreachableError(
                f"the query service at {shown} does not answer ({why}): is `dagfusion serve` running, is this its "
                "Flight address, and is its certificate trusted here?"
            )
        return QueryError(text)


class FlightCalls(flight.ClientMiddlewareFactory):  # type: ignore[misc]
    """Calls a service. Thread-safe.

    Args:
        url: `grpc://host:port` or `grpc+tls://host:port`.
        token: The access token; None where the service wants none.

    Raises:
        SettingsError: The URL or the token is malformed.
    """

    def __init__(self, url: str, token: str | None) -> None:
        address, self.shown = _checked(url)
        self._token = token
        authorization(token)
        self._last = threading.local()
        self._closed = False
        roots = {"tls_root_certs": _authorities()} if address.startswith("grpc+tls") else {}
        self.client = flight.connect(address, middleware=[self], generic_options=_RECONNECT, **roots)

    def start_call(self, _info: flight.CallInfo) -> FlightCall:
        """Listen to a call; it begins on the thread that makes it."""
        call = self._last.call = FlightCall()
        return call

    def options(self, chosen: Mapping[str, str] = _NOTHING) -> flight.FlightCallOptions:
        """Return the options of a call; `chosen` are headers of its statement."""
        headers = {"authorization": authorization(self._token), **chosen}
        sent = [(name.encode(), value.encode()) for name, value in headers.items() if value]
        return flight.FlightCallOptions(headers=sent, read_options=ALIGNED)

    def make(
        self,
        step: Callable[[flight.FlightClient, flight.FlightCallOptions], T],
        chosen: Mapping[str, str] = _NOTHING,
    ) -> T:
        """Make a call.

        Args:
            step: Makes it.
            chosen: Headers of its statement, see `_chosen`.

        Raises:
            QueryError: The service returned an error, or cannot be reached.
        """
        return self.listened(step, chosen)[0]

    def listened(
        self,
        step: Callable[[flight.FlightClient, flight.FlightCallOptions], T],
        chosen: Mapping[str, str] = _NOTHING,
    ) -> tuple[T, FlightCall]:
        """Make a call that goes on; return its result and the `FlightCall` with its errors. Raises as `make`."""
        if self._closed:
            raise ConnectionClosedError(f"this connection to {self.shown} is closed: connect again")
        self._last.call = FlightCall()
        try:
            answer = step(self.client, self.options(chosen))
        except FAILURES as error:
            raise self._last.call.error(error, self.shown) from error
        return answer, self._last.call

    def act(self, action: str, body: bytes = b"", chosen: Mapping[str, str] = _NOTHING) -> list[bytes]:
        """Do one of Flight's actions and return its results; raises as `make`."""
        return self.make(
            lambda client, options: [
                answer.body.to_pybytes() for answer in client.do_action(flight.Action(action, body), options)
            ],
            chosen,
        )

    def document(self, kind: type[T], action: str, body: bytes, chosen: Mapping[str, str] = _NOTHING) -> T:
        """Do an action that is answered with a JSON document, and return the value; raises as `make`."""
        try:
            return codec.read(kind, orjson.loads(b"".join(self.act(action, body, chosen))))
        except (orjson.JSONDecodeError, codec.DocumentError) as error:
            raise ServiceUnreachableError(
                f"the server at {self.shown} is not a DagFusion query service: unexpected response ({error})"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self.client.close()


class FlightResult(RemoteResult):
    """The result of a query at a service. Its first batch is on its way, or the query is at its end, when it is made.

    Args:
        calls: To the service.
        command: The statement.
        chosen: Headers of the statement, see `_chosen`.
        started: When it was sent (`time.perf_counter`).

    Raises:
        QueryError: The statement cannot run, or failed.
    """

    def __init__(self, calls: FlightCalls, command: bytes, chosen: Mapping[str, str], started: float) -> None:
        def get(client: flight.FlightClient, options: flight.FlightCallOptions) -> flight.FlightStreamReader:
            reader = client.do_get(flight.Ticket(command), options)  # whose service takes a command for a ticket
            self.schema: pa.Schema = reader.schema
            return reader

        self._calls = calls
        self._reader, self._call = calls.listened(get, chosen)
        super().__init__(self._call.query_id, started)
        self._cancelled = threading.Event()
        self._seconds = time.perf_counter() - started

    def cancel(self) -> None:
        """Cancel the query, also while another thread reads its rows."""
        self._cancelled.set()
        self._end()

    def _request_stats(self) -> Stats:
        return self._calls.document(QueryInfo, QUERY, self.id.encode()).stats

    def _next(self) -> pa.RecordBatch | None:
        if self._cancelled.is_set():
            return None
        try:
            batch = self._reader.read_chunk().data
        except StopIteration:
            batch, self._is_over, self._final = None, True, self._call.stats
            self._warn(() if self._final is None else self._final.warnings, 4)
        except FAILURES as error:
            if self._cancelled.is_set():
                return None
            raise self._call.error(error, self._calls.shown) from error
        return batch

    def _end(self) -> None:
        """Cancel what is left of the stream."""
        with self._lock:
            is_over, self._is_over = self._is_over, True
        if not is_over:
            self._reader.cancel()


class FlightConnection(RemoteConnection):
    """SQL at a query service. Thread-safe; a context manager.

    Args:
        url: `grpc://host:port` or `grpc+tls://host:port`.
        token: The access token; None where the service wants none.

    Raises:
        SettingsError: The URL or the token is malformed.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._calls = FlightCalls(url, token)
        super().__init__(self._calls.shown)

    def sql(
        self, query: str, params: Params = None, *, as_of: Given | None = None, engine: str | None = None
    ) -> FlightResult:
        """Run a query; see `Connection.sql`."""
        started, chosen = time.perf_counter(), _chosen(as_of, engine)
        with self._command(query, params, chosen) as command:
            result = FlightResult(self._calls, command, chosen, started)
        self._opened(result)
        return result

    def explain(self, query: str, params: Params = None, *, as_of: Given | None = None) -> Explanation:
        """Return the files that a query would read, why it skips the others, and DataFusion's plans."""
        chosen = _chosen(as_of)
        with self._command(query, params, chosen) as command:
            return self._calls.document(Explanation, EXPLAIN, command, chosen)

    def _catalog(self, tables: str) -> TablesDocument:
        return self._calls.document(TablesDocument, TABLES, tables.encode())

    def _revisions(self, name: TableName, limit: int) -> GenerationsDocument:
        body = codec.encode(GenerationsRequest(str(name), limit))
        return self._calls.document(GenerationsDocument, GENERATIONS, body)

    def _diff(self, name: TableName, before: str, after: str | None) -> TableDiff:
        return self._calls.document(TableDiff, DIFF, codec.encode(DiffRequest(str(name), before, after)))

    def _disconnect(self) -> None:
        self._calls.close()

    @contextmanager
    def _command(self, query: str, params: Params, chosen: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the Flight SQL command of a statement; with parameters, it is prepared until the block ends."""
        check_text(query)  # before it is encoded, so that the error is the same as the service's
        if not params:
            yield packed("CommandStatementQuery", query=query)
            return
        bound = row(scalars(params)).replace_schema_metadata(NAMED)
        request = packed("ActionCreatePreparedStatementRequest", query=query)
        _, made = unpack(b"".join(self._calls.act("CreatePreparedStatement", request, chosen)))
        handle = made.prepared_statement_handle
        try:
            command = packed("CommandPreparedStatementQuery", prepared_statement_handle=handle)
            self._bind(flight.FlightDescriptor.for_command(command), bound)
            yield command
        finally:
            request = packed("ActionClosePreparedStatementRequest", prepared_statement_handle=handle)
            self._calls.act("ClosePreparedStatement", request)

    def _bind(self, descriptor: flight.FlightDescriptor, row: pa.RecordBatch) -> None:
        def bind(client: flight.FlightClient, options: flight.FlightCallOptions) -> None:
            writer, answers = client.do_put(descriptor, row.schema, options)
            with writer:
                writer.write_batch(row)
                writer.done_writing()
                answers.read()

        self._calls.make(bind)


def _chosen(as_of: Given | None, engine: str | None = None) -> Mapping[str, str]:
    """Return the headers of a statement: what it reads the tables as of, and its engine."""
    past = {} if as_of is None else {AS_OF: str(read_as_of(as_of))}
    return past if engine is None else {**past, ENGINE: read_engine(engine)}


def _checked(url: str) -> tuple[str, str]:
    """Return the URL as Flight wants it, and as it is shown.

    Raises:
        SettingsError: The URL is malformed.
    """
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("grpc", "grpc+tcp", "grpc+tls") and parts.hostname and parts.port
    except ValueError:
        usable = None
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        raise SettingsError(f"a Flight service's URL must be grpc://host:port or grpc+tls://host:port, got {url!r}")
    if "@" in parts.netloc:
        raise SettingsError("a service's URL must have no user or token in it: give the token as `token`")
    address = f"{parts.scheme}://{parts.netloc}"
    return address, address


def _authorities() -> bytes:
    """Return the certificates that the other libraries of this process trust; gRPC has its own list else."""
    paths = ssl.get_default_verify_paths()
    for name in (os.environ.get(paths.openssl_cafile_env), paths.cafile, paths.openssl_cafile):
        if name and Path(name).is_file():
            return Path(name).read_bytes()
    return b""
