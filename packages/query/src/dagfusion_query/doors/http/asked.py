"""What this door asks of the service."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from dagfusion_query.access.caller import Caller
from dagfusion_query.catalog.live import Lag
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.documents.queries import ExplanationDocument, QueryInfo, Stats
from dagfusion_query.errors import QueryError
from dagfusion_query.event_log.history import History
from dagfusion_query.service.query import Query


class ResultStream(Protocol):
    """An encoded result as it comes."""

    @property
    def id(self) -> str:
        """The query's."""

    @property
    def stats(self) -> Stats:
        """What the query cost so far."""

    def __aiter__(self) -> AsyncIterator[memoryview | bytes]: ...

    async def close(self) -> None:
        """Cancel what is not finished."""


class EnvironmentState(Protocol):
    """One environment as a caller sees it."""

    @property
    def name(self) -> str:
        """Begins the names of its schemas."""

    @property
    def snapshot(self) -> Snapshot:
        """The catalog, restricted to what the caller may read."""

    @property
    def trouble(self) -> QueryError | None:
        """Why the environment cannot be read now; what was read before is served."""

    @property
    def lag(self) -> Lag | None:
        """How far behind the catalog may be."""

    @property
    def dagster_url(self) -> str | None:
        """Where Dagster's web interface is."""


class Service(Protocol):
    """The service, for this door."""

    async def run(self, query: Query, caller: Caller) -> ResultStream:
        """Run a statement until its first rows are there."""

    async def explain(self, query: Query, caller: Caller) -> ExplanationDocument:
        """Say what a statement would read."""

    def cancel(self, query_id: str, caller: Caller) -> QueryInfo:
        """End a query."""

    def query(self, query_id: str, caller: Caller) -> QueryInfo:
        """Return what is known of a query."""

    def queries(self, caller: Caller) -> Sequence[QueryInfo]:
        """Return the caller's queries, the newest first."""

    def environments(self, caller: Caller) -> Mapping[str, EnvironmentState]:
        """Return what the caller may read."""

    async def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Say what Dagster did about a table or a partition."""

    def ready(self) -> QueryError | None:
        """Say why no statement can be run now."""

    def metrics(self) -> bytes:
        """Return Prometheus's text."""
