"""The Flight SQL server: one method for each call of a client, and the actions of DagFusion's own client."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
import pyarrow as pa
from pyarrow import flight

from dagfusion_client.as_of import read_as_of
from dagfusion_client.commands_and_tickets import (
    DIFF,
    EXPLAIN,
    GENERATIONS,
    QUERY,
    QUERY_HEADER,
    TABLES,
    decode,
    encoded,
    packed,
    unpack,
    unpacked_body,
    unpacked_command,
)
from dagfusion_client.documents import codec
from dagfusion_client.documents.catalog_documents import (
    DiffRequest,
    GenerationsDocument,
    GenerationsRequest,
    TablesDocument,
)
from dagfusion_client.documents.codec import encode
from dagfusion_client.documents.query_documents import QueryInfo
from dagfusion_client.errors import BadRequestError, ParameterError, ReadOnlyError, UnsupportedError
from dagfusion_client.settings import REVISIONS_LIMIT
from dagfusion_client.sql_text import parse_table
from dagfusion_query.access.grants import Caller
from dagfusion_query.catalog.model import Snapshot
from dagfusion_server.doors.flight import flight_metadata
from dagfusion_server.doors.flight.flight_calls import MIDDLEWARE, Bridge, Context, failure
from dagfusion_server.doors.flight.flight_results import Rows
from dagfusion_server.doors.flight.flight_sessions import FlightSession, FlightSessions
from dagfusion_server.doors.flight.flight_statements import FlightStatements
from dagfusion_server.doors.table_documents import details_document, environment_document
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service.service import Service

P = ParamSpec("P")
R = TypeVar("R")
_CANCELLED = 1
_WRITES = frozenset(["CommandStatementUpdate", "CommandPreparedStatementUpdate", "CommandStatementIngest"])
_TRANSACTIONS = frozenset(["BeginTransaction", "BeginSavepoint", "EndTransaction", "EndSavepoint"])
_NO_TRANSACTIONS = "there are no transactions here: each statement sees one state of the catalog"
_OWN_ACTIONS = {
    EXPLAIN: "Return what a statement would read, in JSON; the body is its Flight SQL command.",
    QUERY: "Return what is known of a query, in JSON; the body is its id, which a FlightInfo's app_metadata has.",
    GENERATIONS: 'Return what the latest runs wrote of a table, in JSON; the body is {"table", "limit"}.',
    DIFF: 'Compare two states of a table, in JSON; the body is {"table", "before", "after"}.',
    TABLES: "Return environments and tables, in JSON; only the environments where the body is `none`.",
}
_ACTIONS = {
    "CreatePreparedStatement": "Keep a statement, to be run with parameters.",
    "ClosePreparedStatement": "Forget a prepared statement.",
    "CancelQuery": "Cancel the query of a FlightInfo (the older way).",
    "CancelFlightInfo": "Cancel the query of a FlightInfo.",
    "SetSessionOptions": "Set catalog, query_timeout_s, limit_rows, result_cache, as_of or engine for later calls.",
    "GetSessionOptions": "Return the options that are set.",
    "CloseSession": "Forget the session's options.",
    **_OWN_ACTIONS,
}


def _guarded(
    handler: Callable[Concatenate["FlightSqlServer", Context, P], R],
) -> Callable[Concatenate["FlightSqlServer", Context, P], R]:
    """Turn a handler's errors into Flight's, without facts about this machine."""

    @functools.wraps(handler)
    def guarded(self: "FlightSqlServer", context: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(self, context, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it must not leave as it is
            raise failure(error, context) from None

    return guarded


class FlightSqlServer(flight.FlightServerBase):  # type: ignore[misc]
    """Answers Flight's calls on gRPC's threads. It serves from its construction on.

    Args:
        service: Behind this door.
        sessions: Tell who calls.
        bridge: To the service's loop.
        sql_limit_bytes: Length of a statement.
        options: The options of `pyarrow.flight.FlightServerBase`.
    """

    def __init__(
        self, service: Service, sessions: FlightSessions, bridge: Bridge, sql_limit_bytes: int, **options: Any
    ) -> None:
        self._service, self._sessions, self._bridge = service, sessions, bridge
        self._sql_limit_bytes = sql_limit_bytes
        self.statements = FlightStatements(service, bridge, sql_limit_bytes)
        self._actions = Actions(service, bridge, self.statements)
        super().__init__(**options)

    @_guarded
    def get_flight_info(self, context: Context, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        """Start a statement, or return the schema of the result of a metadata command."""
        name, command, caller, session = self._command(context, descriptor)
        match name:
            case "CommandStatementQuery":
                started = self.statements.execute(command.query, caller, session, context)
            case "CommandPreparedStatementQuery":
                handle = command.prepared_statement_handle
                started = self.statements.execute_prepared(handle, caller, session, context)
            case _:
                return _info(_metadata_schema(name, command), descriptor, descriptor.command, b"")
        schema, handle, query_id = started
        ticket = packed("TicketStatementQuery", statement_handle=handle)
        return _info(schema, descriptor, ticket, query_id.encode())

    @_guarded
    def get_schema(self, context: Context, descriptor: flight.FlightDescriptor) -> flight.SchemaResult:
        """Plan a statement without running it, or return the schema of the result of a metadata command."""
        name, command, caller, session = self._command(context, descriptor)
        match name:
            case "CommandStatementQuery":
                schema = self.statements.describe(command.query, caller, session, context)
            case "CommandPreparedStatementQuery":
                handle = command.prepared_statement_handle
                schema = self.statements.describe_prepared(handle, caller, session, context)
            case _:
                schema = _metadata_schema(name, command)
        return flight.SchemaResult(schema)

    def _command(self, context: Context, descriptor: flight.FlightDescriptor) -> tuple[str, Any, Caller, FlightSession]:
        """Return a call's command with its name, the caller and the session."""
        caller = self._sessions.caller(context)
        name, command = unpacked_command(descriptor.command)
        if name == "CommandStatementQuery":
            _refuse_transaction(command)
        return name, command, caller, self._sessions.of(context, caller)

    @_guarded
    def do_get(self, context: Context, ticket: flight.Ticket) -> flight.FlightDataStream:
        """Send the rows of a ticket. The command of a statement is one, too: so a client needs no other call."""
        caller = self._sessions.caller(context)
        name, command = unpack(ticket.ticket)
        if (rows := self._rows(name, command, caller, context)) is not None:
            context.get_middleware(MIDDLEWARE).at_end(rows.close)
            context.add_header(QUERY_HEADER, rows.id)
            return rows.send(context)
        _metadata_schema(name, command)
        snapshots = self._snapshots(caller, context) if flight_metadata.needs_tables(name) else ()
        return flight.RecordBatchStream(
            flight_metadata.metadata_result(name, command, snapshots, self._sql_limit_bytes)
        )

    def _rows(self, name: str, command: Any, caller: Caller, context: Context) -> Rows | None:
        """Return the rows of a statement that runs, or is to run; None for a metadata command."""
        match name:
            case "TicketStatementQuery":
                return self.statements.redeem(command.statement_handle, caller, context)
            case "CommandStatementQuery":
                _refuse_transaction(command)
                return self.statements.run(command.query, caller, self._sessions.of(context, caller), context)
            case "CommandPreparedStatementQuery":
                handle, session = command.prepared_statement_handle, self._sessions.of(context, caller)
                return self.statements.run_prepared(handle, caller, session, context)
            case _:
                return None

    def _snapshots(self, caller: Caller, context: Context) -> Iterable[Snapshot]:
        async def snapshots() -> list[Snapshot]:
            return [state.snapshot for state in self._service.environments(caller).values()]

        return self._bridge.call(snapshots(), context)

    @_guarded
    def do_put(
        self,
        context: Context,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Bind parameters to a prepared statement; whatever else is put would change something."""
        caller = self._sessions.caller(context)
        name, command = unpacked_command(descriptor.command)
        if name != "CommandPreparedStatementQuery":
            raise _unknown(name)
        handle = command.prepared_statement_handle
        self.statements.bind(handle, _row(reader), caller)
        writer.write(encoded("DoPutPreparedStatementResult", prepared_statement_handle=handle))

    @_guarded
    def do_action(self, context: Context, action: flight.Action) -> list[bytes]:  # noqa: PLR0911  # a table
        """Do one of `list_actions`."""
        caller = self._sessions.caller(context)
        body = action.body.to_pybytes()
        match action.type:
            case "SetSessionOptions":
                return [self._sessions.set_options(context, caller, body)]
            case "GetSessionOptions":
                return [self._sessions.get_options(context, caller)]
            case "CloseSession":
                return [self._sessions.close(context, caller)]
            case "CancelFlightInfo":
                self._cancel(decode("CancelFlightInfoRequest", body).info, caller, context)
                return [encoded("CancelFlightInfoResult", status=_CANCELLED)]
            case "CancelQuery":
                self._cancel(unpacked_body(body, "ActionCancelQueryRequest").info, caller, context)
                return [packed("ActionCancelQueryResult", result=_CANCELLED)]
            case "CreatePreparedStatement":
                return [self._prepare(unpacked_body(body, "ActionCreatePreparedStatementRequest"), caller, context)]
            case "ClosePreparedStatement":
                request = unpacked_body(body, "ActionClosePreparedStatementRequest")
                self.statements.close_prepared(request.prepared_statement_handle, caller)
                return []
            case name if name in _OWN_ACTIONS:
                return [self._actions.run(name, body, caller, self._sessions.of(context, caller), context)]
            case name:
                raise _unknown(name)

    def _prepare(self, request: Any, caller: Caller, context: Context) -> bytes:
        _refuse_transaction(request)
        handle, columns, parameters = self.statements.prepare(
            request.query, caller, self._sessions.of(context, caller), context
        )
        return packed(
            "ActionCreatePreparedStatementResult",
            prepared_statement_handle=handle,
            dataset_schema=b"" if columns is None else columns.serialize().to_pybytes(),
            parameter_schema=parameters.serialize().to_pybytes() if len(parameters) else b"",
        )

    def _cancel(self, info: bytes, caller: Caller, context: Context) -> None:
        try:
            endpoints = flight.FlightInfo.deserialize(info).endpoints
        except pa.ArrowException as error:
            raise BadRequestError("the request to cancel must hold a FlightInfo of this service") from error
        for endpoint in endpoints:
            name, ticket = unpack(endpoint.ticket.ticket)
            if name != "TicketStatementQuery":
                raise BadRequestError("only a statement can be cancelled: this FlightInfo is of a metadata command")
            self.statements.cancel(ticket.statement_handle, caller, context)

    @_guarded
    def list_actions(self, context: Context) -> list[tuple[str, str]]:
        """Return the actions that there are."""
        self._sessions.caller(context)
        return list(_ACTIONS.items())

    @_guarded
    def list_flights(self, context: Context, _criteria: bytes) -> list[flight.FlightInfo]:
        """Return nothing: tables are found by Flight SQL's metadata commands."""
        self._sessions.caller(context)
        return []

    @_guarded
    def do_exchange(self, _context: Context, *_: object) -> None:
        """Refuse: Flight SQL has no use for it."""
        raise UnsupportedError("DoExchange is not part of Flight SQL")


class Actions:
    """Answers the actions.

    Args:
        service: Behind this door.
        bridge: To its loop.
        statements: The prepared ones, too.
    """

    def __init__(self, service: Service, bridge: Bridge, statements: FlightStatements) -> None:
        self._service, self._bridge, self._statements = service, bridge, statements

    def run(self, action: str, body: bytes, caller: Caller, session: FlightSession, context: Context) -> bytes:
        """Run one of `_OWN_ACTIONS`, and return its result.

        Raises:
            BadRequestError: The body is not what the action wants.
            QueryError: The statement cannot be planned, or there is no such query.
        """
        if action == TABLES:
            return encode(_tables(self._bridge.call(self._states(caller), context), with_tables=body != b"none"))
        if action == QUERY:
            return encode(self._bridge.call(self._query(body.decode("utf-8", "replace"), caller), context))
        if action == GENERATIONS:
            request = _request(GenerationsRequest, body)
            limit = min(max(request.limit, 0), REVISIONS_LIMIT)
            listed = self._service.revisions(parse_table(request.table), limit, caller)
            return encode(GenerationsDocument(self._bridge.call(listed, context)))
        if action == DIFF:
            states = _request(DiffRequest, body)
            after = None if states.after is None else read_as_of(states.after)
            compared = self._service.diff(parse_table(states.table), read_as_of(states.before), after, caller)
            return encode(self._bridge.call(compared, context))
        name, command = unpack(body)
        if name == "CommandStatementQuery":
            query = self._statements.unbound(command.query, session)
        elif name == "CommandPreparedStatementQuery":
            query = self._statements.bound(command.prepared_statement_handle, caller, session)
        else:
            raise BadRequestError(f"only statements are explained, got {name}")
        return encode(self._bridge.call(self._service.explain(query, caller), context))

    async def _states(self, caller: Caller) -> Sequence[EnvironmentState]:
        return list(self._service.environments(caller).values())

    async def _query(self, query_id: str, caller: Caller) -> QueryInfo:
        return self._service.query(query_id, caller)


def _request(kind: type[R], body: bytes) -> R:
    try:
        return codec.read(kind, orjson.loads(body))
    except (orjson.JSONDecodeError, codec.DocumentError) as error:
        raise BadRequestError(f"the body of this action cannot be decoded: {error}. See ListActions") from None


def _metadata_schema(name: str, command: Any) -> pa.Schema:
    schema = flight_metadata.metadata_schema(name, command)
    if schema is None:
        raise _unknown(name)
    return schema


def _unknown(name: str) -> Exception:
    if name in _WRITES:
        return ReadOnlyError(f"only queries can be run here, and {name} would change something: use SELECT")
    if name in _TRANSACTIONS:
        return UnsupportedError(_NO_TRANSACTIONS)
    return UnsupportedError(f"this Flight SQL service does not support {name[:100]!r}")


def _refuse_transaction(command: Any) -> None:
    if command.HasField("transaction_id"):
        raise UnsupportedError(_NO_TRANSACTIONS)


def _info(schema: pa.Schema, descriptor: flight.FlightDescriptor, ticket: bytes, query: bytes) -> flight.FlightInfo:
    return flight.FlightInfo(schema, descriptor, [flight.FlightEndpoint(ticket, [])], app_metadata=query)


def _row(reader: flight.MetadataRecordBatchReader) -> pa.RecordBatch:
    """Return one row of parameters, or so many rows that they are refused: no more are read than shows that.

    Raises:
        ParameterError: The stream is damaged.
    """
    try:
        return _read_row(reader)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ParameterError(f"the Arrow stream of the parameters cannot be read: {error}") from error


def _read_row(reader: flight.MetadataRecordBatchReader) -> pa.RecordBatch:
    found = pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in reader.schema.types], schema=reader.schema)
    for chunk in reader:
        if chunk.data is not None and chunk.data.num_rows:
            chunk.data.validate(full=True)  # offsets may point outside of the buffers, and text may not be Unicode
            if found.num_rows or chunk.data.num_rows > 1:
                return pa.concat_batches([found, chunk.data])
            found = chunk.data
    return found


def _tables(states: Sequence[EnvironmentState], *, with_tables: bool) -> TablesDocument:
    tables = [(state, table) for state in states for table in state.snapshot.tables.values() if with_tables]
    return TablesDocument(
        [environment_document(state) for state in states], [details_document(state, table) for state, table in tables]
    )
