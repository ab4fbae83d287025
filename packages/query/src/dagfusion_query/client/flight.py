"""A query service over Arrow Flight SQL, asked as the embedded engine is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from pyarrow import flight

from dagfusion_query.answers import Explanation
from dagfusion_query.client.flight_calls import Calls
from dagfusion_query.client.flight_result import FlightResult
from dagfusion_query.client.remote import RemoteConnection
from dagfusion_query.documents.catalog import TablesDocument
from dagfusion_query.doors.flight import messages
from dagfusion_query.parameters import Params, row, scalars
from dagfusion_query.sql_text import check_text


class FlightConnection(RemoteConnection):
    """SQL at a query service. Thread-safe; a context manager.

    Args:
        url: `grpc://host:port` or `grpc+tls://host:port`.
        token: The access token; None where the service wants none.

    Raises:
        SettingsError: The URL or the token is none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._calls = Calls(url, token)
        super().__init__(self._calls.shown)

    def sql(self, query: str, params: Params = None) -> FlightResult:
        """Run a query; see `Connection.sql`."""
        started = time.perf_counter()
        with self._command(query, params) as command:
            descriptor = flight.FlightDescriptor.for_command(command)
            info = self._calls.make(lambda client, options: client.get_flight_info(descriptor, options))
        result = FlightResult(self._calls, info, started)
        self._opened(result)
        return result

    def explain(self, query: str, params: Params = None) -> Explanation:
        """Say which files a query would read, why it skips the others, and how DataFusion would run it."""
        with self._command(query, params) as command:
            return self._calls.document(Explanation, messages.EXPLAIN, command)

    def _catalog(self, tables: str) -> TablesDocument:
        return self._calls.document(TablesDocument, messages.TABLES, tables.encode())

    def _disconnect(self) -> None:
        self._calls.close()

    @contextmanager
    def _command(self, query: str, params: Params) -> Iterator[bytes]:
        """Give the Flight SQL command of a statement; with parameters, of one that is prepared meanwhile."""
        check_text(query)
        if not params:
            yield messages.packed("CommandStatementQuery", query=query)
            return
        bound = row(scalars(params))
        request = messages.packed("ActionCreatePreparedStatementRequest", query=query)
        _, made = messages.unpack(b"".join(self._calls.act("CreatePreparedStatement", request)))
        handle = made.prepared_statement_handle
        try:
            command = messages.packed("CommandPreparedStatementQuery", prepared_statement_handle=handle)
            self._bind(flight.FlightDescriptor.for_command(command), bound)
            yield command
        finally:
            request = messages.packed("ActionClosePreparedStatementRequest", prepared_statement_handle=handle)
            self._calls.act("ClosePreparedStatement", request)

    def _bind(self, descriptor: flight.FlightDescriptor, row: pa.RecordBatch) -> None:
        def bind(client: flight.FlightClient, options: flight.FlightCallOptions) -> None:
            writer, answers = client.do_put(descriptor, row.schema, options)
            with writer:
                writer.write_batch(row)
                writer.done_writing()
                answers.read()

        self._calls.make(bind)
