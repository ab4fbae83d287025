"""What this package's own client asks beyond Flight SQL: answers are the HTTP door's JSON documents."""

from collections.abc import Sequence

from dagfusion_query.access.grants import Caller
from dagfusion_query.catalog.environments import EnvironmentState
from dagfusion_query.documents.catalog import TablesDocument
from dagfusion_query.documents.codec import encode
from dagfusion_query.documents.queries import QueryInfo
from dagfusion_query.doors.flight import messages
from dagfusion_query.doors.flight.bridge import Bridge, Call
from dagfusion_query.doors.flight.messages import EXPLAIN, QUERY, TABLES
from dagfusion_query.doors.flight.statements import Statements
from dagfusion_query.doors.summaries import details_document, environment_document
from dagfusion_query.errors import BadRequestError
from dagfusion_query.service.service import Service

ACTIONS = {
    EXPLAIN: "Return what a statement would read, in JSON; the body is its Flight SQL command.",
    QUERY: "Return what is known of a query, in JSON; the body is its id, which a FlightInfo's app_metadata has.",
    TABLES: "Return environments and tables, in JSON; only the environments where the body is `none`.",
}


class Extras:
    """Answers the actions.

    Args:
        service: Behind this door.
        bridge: To its loop.
        statements: The prepared ones, too.
    """

    def __init__(self, service: Service, bridge: Bridge, statements: Statements) -> None:
        self._service, self._bridge, self._statements = service, bridge, statements

    def answer(self, action: str, body: bytes, caller: Caller, call: Call) -> bytes:
        """Answer one of `ACTIONS`.

        Raises:
            BadRequestError: The body is not what the action wants.
            QueryError: The statement cannot be planned, or there is no such query.
        """
        if action == TABLES:
            return encode(_tables(self._bridge.call(self._states(caller), call), with_tables=body != b"none"))
        if action == QUERY:
            return encode(self._bridge.call(self._query(body.decode("utf-8", "replace"), caller), call))
        name, command = messages.unpack(body)
        if name == "CommandStatementQuery":
            query = self._statements.unbound(command.query)
        elif name == "CommandPreparedStatementQuery":
            query = self._statements.bound(command.prepared_statement_handle, caller)
        else:
            raise BadRequestError(f"only statements are explained, got {name}")
        return encode(self._bridge.call(self._service.explain(query, caller), call))

    async def _states(self, caller: Caller) -> Sequence[EnvironmentState]:
        return list(self._service.environments(caller).values())

    async def _query(self, query_id: str, caller: Caller) -> QueryInfo:
        return self._service.query(query_id, caller)


def _tables(states: Sequence[EnvironmentState], *, with_tables: bool) -> TablesDocument:
    tables = [(state, table) for state in states for table in state.snapshot.tables.values() if with_tables]
    return TablesDocument(
        [environment_document(state) for state in states], [details_document(state, table) for state, table in tables]
    )
