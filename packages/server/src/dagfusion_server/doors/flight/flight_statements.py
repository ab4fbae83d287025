"""Statements that live longer than one call: those that run until their ticket is redeemed, and prepared ones.

A prepared statement's `?` becomes DataFusion's `$1`, and its values are one row under the parameters' names.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from dagfusion_client.commands_and_tickets import NAMED
from dagfusion_client.errors import ParameterError, PlanError, StatementTooLongError
from dagfusion_client.parameters import MOST, check_count
from dagfusion_client.sql_text import TokenKind, tokens
from dagfusion_query.access.grants import Caller
from dagfusion_server.doors.flight.flight_calls import Bridge, Context
from dagfusion_server.doors.flight.flight_results import Rows
from dagfusion_server.doors.flight.flight_sessions import FlightSession, Handles
from dagfusion_server.doors.flight.sql_info import HANDLE_TIMEOUT_S
from dagfusion_server.service.query_registry import Query
from dagfusion_server.service.service import Service

_TICKET_LIFETIME_S = 600.0
_HOLD_S = 5.0  # how long a worker waits for the client to fetch the rows; a client usually does so immediately


class _Ticketed:
    """A statement that runs for a client, which then redeems its ticket.

    Attributes:
        id: The query that ran for it last.
    """

    def __init__(self, query: Query, rows: Rows) -> None:
        self.query, self.id = query, rows.id
        self._rows: Rows | None = rows
        self._lock = threading.Lock()

    def take(self) -> Rows | None:
        """Return the rows to the first caller, and None to later ones."""
        with self._lock:
            rows, self._rows = self._rows, None
        return rows

    def release(self) -> None:
        """Close the rows unless they were taken."""
        if (rows := self.take()) is not None:
            rows.close()


@dataclass(frozen=True)
class Parameters:
    """A statement and what its parameters are called.

    Attributes:
        sql: With `$1`, `$2`, ... for each `?`, unless it has parameters of DataFusion's own kind.
        names: `1`, `2`, ... or names, in order, each once.
    """

    sql: str
    names: Sequence[str]

    def row(self, values: pa.RecordBatch) -> pa.RecordBatch | None:
        """Return one row of values under the parameters' names, None when there is nothing to set.

        Args:
            values: One row; columns with exactly the parameters' names, else in their order. A row of DagFusion's own
                client has names always, and is checked by the engine, as the parameters of every other door.

        Raises:
            ParameterError: The number of rows or columns is not right.
        """
        if values.num_rows > 1:
            raise ParameterError(
                f"a statement runs with one row of parameters, got {values.num_rows}: execute it once for each row"
            )
        if NAMED.keys() <= (values.schema.metadata or {}).keys():
            check_count(values.num_columns)
            return values.replace_schema_metadata(None)
        if values.num_columns != len(self.names) or (values.num_rows == 0 and self.names):
            got = values.num_columns if values.num_rows else 0
            raise ParameterError(f"the statement has {len(self.names)} parameters, got values for {got}")
        if not self.names:
            return None
        names = values.schema.names
        return values if set(names) == set(self.names) else values.rename_columns(list(self.names))

    @property
    def schema(self) -> pa.Schema:
        """The parameters as Flight SQL describes them: types are not known before there are values."""
        return pa.schema([pa.field(name, pa.null()) for name in self.names])

    @property
    def nulls(self) -> pa.RecordBatch | None:
        """One row of NULLs: a statement can be described with it."""
        if not self.names:
            return None
        return pa.RecordBatch.from_arrays([pa.nulls(1)] * len(self.names), schema=self.schema)


@dataclass(frozen=True)
class _Prepared:
    """A prepared statement; `row` is what was bound last."""

    statement: Parameters
    row: pa.RecordBatch | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.statement.sql) + (self.row.nbytes if self.row is not None else 0)


class FlightStatements:
    """The statements of all clients. Thread-safe.

    Args:
        service: Runs them.
        bridge: To its loop.
        sql_limit_bytes: Length of a statement, and of its parameters.
    """

    def __init__(self, service: Service, bridge: Bridge, sql_limit_bytes: int) -> None:
        self._service, self._bridge, self._sql_limit_bytes = service, bridge, sql_limit_bytes
        self._tickets: Handles[_Ticketed] = Handles("ticket", _TICKET_LIFETIME_S, _Ticketed.release)
        self._prepared: Handles[_Prepared] = Handles("prepared statement", HANDLE_TIMEOUT_S)

    def execute(
        self, sql: str, caller: Caller, session: FlightSession, context: Context
    ) -> tuple[pa.Schema, bytes, str]:
        """Start a statement; return its result's columns, the ticket's handle, and the query's id.

        Raises:
            QueryError: It does not run.
        """
        return self._started(_query(self._parameters(sql).sql, None, session), caller, context)

    def execute_prepared(
        self, handle: bytes, caller: Caller, session: FlightSession, context: Context
    ) -> tuple[pa.Schema, bytes, str]:
        """Start a prepared statement with what was bound to it last; as `execute`."""
        prepared = self._prepared.get(caller.owner, handle)
        return self._started(_query(prepared.statement.sql, prepared.row, session), caller, context)

    def _started(self, query: Query, caller: Caller, context: Context) -> tuple[pa.Schema, bytes, str]:
        rows = Rows(self._service, query, caller, self._bridge)
        ticketed = _Ticketed(query, rows)
        schema = rows.start(context, _HOLD_S, ticketed.release)
        ticketed.id = rows.id
        handle = self._tickets.add(caller.owner, ticketed, len(query.sql))
        return schema, handle, rows.id

    def run(self, sql: str, caller: Caller, session: FlightSession, context: Context) -> Rows:
        """Run a statement up to its first rows; as `execute`, without a ticket."""
        return self._running(_query(self._parameters(sql).sql, None, session), caller, context)

    def run_prepared(self, handle: bytes, caller: Caller, session: FlightSession, context: Context) -> Rows:
        """Run a prepared statement up to its first rows; as `execute_prepared`, without a ticket."""
        prepared = self._prepared.get(caller.owner, handle)
        return self._running(_query(prepared.statement.sql, prepared.row, session), caller, context)

    def _running(self, query: Query, caller: Caller, context: Context) -> Rows:
        rows = Rows(self._service, query, caller, self._bridge)
        rows.start(context)
        return rows

    def redeem(self, handle: bytes, caller: Caller, context: Context) -> Rows:
        """Return the rows of a ticket. The statement runs again if they were taken, or not fetched in time.

        Raises:
            UnknownQueryError: The ticket is not one of the caller's, or has expired.
        """
        ticketed = self._tickets.get(caller.owner, handle)
        if (rows := ticketed.take()) is not None:
            return rows
        rows = self._running(ticketed.query, caller, context)
        ticketed.id = rows.id
        return rows

    def cancel(self, handle: bytes, caller: Caller, context: Context) -> None:
        """Cancel the query behind a ticket, and the ticket.

        Raises:
            UnknownQueryError: The ticket is not one of the caller's, or has expired.
        """
        ticketed = self._tickets.get(caller.owner, handle)
        self._tickets.pop(caller.owner, handle)
        self._bridge.call(self._cancelled(ticketed.id, caller), context)

    async def _cancelled(self, query_id: str, caller: Caller) -> None:
        self._service.cancel(query_id, caller)

    def describe(self, sql: str, caller: Caller, session: FlightSession, context: Context) -> pa.Schema:
        """Return the columns of a statement's result.

        Raises:
            QueryError: It cannot be planned.
        """
        statement = self._parameters(sql)
        return self._described(_query(statement.sql, statement.nulls, session), caller, context)

    def describe_prepared(self, handle: bytes, caller: Caller, session: FlightSession, context: Context) -> pa.Schema:
        """Return the columns of a prepared statement's result; as `describe`."""
        prepared = self._prepared.get(caller.owner, handle)
        row = prepared.statement.nulls if prepared.row is None else prepared.row
        return self._described(_query(prepared.statement.sql, row, session), caller, context)

    def _described(self, query: Query, caller: Caller, context: Context) -> pa.Schema:
        description = self._service.described(query, caller)  # which needs no turn of the service's loop
        return (
            description
            if description is not None
            else self._bridge.call(self._service.describe(query, caller), context)
        )

    def unbound(self, sql: str, session: FlightSession) -> Query:
        """Return a statement without parameters, as the service takes it."""
        return Query(self._parameters(sql).sql, as_of=session.as_of, trace=session.trace)

    def bound(self, handle: bytes, caller: Caller, session: FlightSession) -> Query:
        """Return a prepared statement with what was bound to it last, as the service takes it."""
        prepared = self._prepared.get(caller.owner, handle)
        return Query(prepared.statement.sql, prepared.row, as_of=session.as_of, trace=session.trace)

    def prepare(
        self, sql: str, caller: Caller, session: FlightSession, context: Context
    ) -> tuple[bytes, pa.Schema | None, pa.Schema]:
        """Keep a statement; return its handle, its result's columns where they can be known yet, and its parameters.

        Raises:
            QueryError: It cannot be planned.
        """
        statement = self._parameters(sql)
        columns = None
        try:
            columns = self._described(_query(statement.sql, statement.nulls, session), caller, context)
        except PlanError:
            if not statement.names:
                raise
            # It may make sense with values; without, it does not.
        prepared = _Prepared(statement)
        return self._prepared.add(caller.owner, prepared, prepared.size_bytes), columns, statement.schema

    def bind(self, handle: bytes, values: pa.RecordBatch, caller: Caller) -> None:
        """Set the parameters of a prepared statement.

        Raises:
            ParameterError: The parameters are not one row with a column for each.
            StatementTooLongError: The parameters are longer than a statement may be.
        """
        if values.nbytes > self._sql_limit_bytes:
            raise StatementTooLongError(
                f"the parameters have {values.nbytes:,} bytes, more than the {self._sql_limit_bytes:,} that the "
                "service takes: shorten them, or raise DAGFUSION_SQL_LIMIT_BYTES"
            )
        statement = self._prepared.get(caller.owner, handle).statement
        prepared = _Prepared(statement, statement.row(values))
        self._prepared.replace(caller.owner, handle, prepared, prepared.size_bytes)

    def close_prepared(self, handle: bytes, caller: Caller) -> None:
        """Forget a prepared statement, if it is there."""
        self._prepared.pop(caller.owner, handle)

    def _parameters(self, sql: str) -> Parameters:
        """Find a statement's parameters; the service refuses one that is too long, which is not looked into here."""
        return Parameters(sql, ()) if len(sql) > self._sql_limit_bytes else parameters(sql)

    def close(self) -> None:
        """Release all handles."""
        self._tickets.clear()
        self._prepared.clear()


def parameters(sql: str) -> Parameters:
    """Find the parameters of a statement.

    Raises:
        ParameterError: There are more than 4,096.

    >>> parameters("select ? from t where a = '?' and b = ?")
    Parameters(sql="select $1 from t where a = '?' and b = $2", names=('1', '2'))
    >>> parameters("select $b, $a, $b").names
    ('b', 'a')
    """
    if "?" not in sql and "$" not in sql:
        return Parameters(sql, ())
    names: dict[str, None] = {}
    marks = 0
    for token in tokens(sql):
        if token.kind is TokenKind.parameter:
            names[token.text[1:]] = None
        marks += token.text == "?"
        check_count(max(marks, len(names)))
    if not names:
        return Parameters(_numbered(sql) if marks else sql, _up_to(marks))
    if all(name.isascii() and name.isdecimal() for name in names):
        # Python refuses to read very long numbers.
        return Parameters(
            sql, _up_to(max(int(name) if len(name) <= len(str(MOST)) else 10 ** len(str(MOST)) for name in names))
        )
    return Parameters(sql, tuple(names))


def _query(sql: str, row: pa.RecordBatch | None, session: FlightSession) -> Query:
    return Query(
        sql,
        row,
        timeout_s=session.query_timeout_s,
        limit_rows=session.limit_rows,
        result_cache=session.result_cache,
        as_of=session.as_of,
        engine=session.engine,
        trace=session.trace,
    )


def _numbered(sql: str) -> str:
    """Return a statement with `$1`, `$2`, ... for each `?`."""
    pieces, end = [], 0
    marks = (token.start for token in tokens(sql) if token.text == "?")
    for number, start in enumerate(marks, 1):
        pieces += [sql[end:start], f"${number}"]
        end = start + 1
    return "".join([*pieces, sql[end:]])


def _up_to(count: int) -> tuple[str, ...]:
    check_count(count)
    return tuple(str(number) for number in range(1, count + 1))
