"""Queries: the request of a door, running queries, the last finished ones, and the catalogs that they read."""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from dagfusion_client.as_of import AsOf
from dagfusion_client.documents.query_documents import Failure, QueryCost, QueryInfo, State, Stats
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import QueryError, UnknownQueryError
from dagfusion_client.formats import Format
from dagfusion_client.sql_text import check_text
from dagfusion_query.access.grants import Caller, Grants
from dagfusion_server.environments import Environments, EnvironmentState
from dagfusion_server.service.query_history import QueryHistory
from dagfusion_server.worker.messages import EnvironmentSource

_log = logging.getLogger(__name__)
TRACE_HEADERS = ("traceparent", "tracestate")  # of the W3C
FINISHED = 1000  # queries that are remembered in memory
_REMEMBERED_SQL = 10_000  # characters of a statement that is over


@dataclass(eq=False)
class RegisteredQuery:
    """One query, as it goes on.

    A query changes about ten times, and is mostly looked at when it is over: so `info` is made when it is asked for.

    Attributes:
        caller: Whose it is.
        state: The query's, which `info` has too.
    """

    _info: QueryInfo
    caller: Caller
    stop: Callable[[QueryError], None] = field(default=lambda _: None)  # ends it, in whatever state it is
    _changes: dict[str, Any] = field(default_factory=dict)
    _stats: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Copy the state."""
        self.state = self._info.state

    @property
    def info(self) -> QueryInfo:
        """The facts about the query."""
        if self._stats:
            self._changes["stats"] = replace(self._info.stats, **self._stats)
            self._stats = {}
        if self._changes:
            self._info, self._changes = replace(self._info, **self._changes), {}
        return self._info

    def update(self, *, state: State | None = None, **changes: Any) -> None:
        """Change what is known of the query."""
        if state is not None:
            self.state = changes["state"] = state
        self._changes |= changes

    def update_stats(self, **changes: Any) -> None:
        """Change what is known of its cost."""
        self._stats |= changes

    def end(self, state: State, failure: Failure | None) -> None:
        """Record how it ended, after the last change of its cost."""
        info = self.info
        ended_at = info.submitted_at + timedelta(seconds=info.stats.total_s)
        self.update(state=state, error=failure, ended_at=ended_at)


@dataclass(frozen=True)
class Query:
    """One statement to run.

    Attributes:
        params: One row; columns are called `1`, `2`, ... for `$1`, `$2`, ..., or by the parameters' names.
        timeout_s: Seconds it may take, if that is less than the service allows.
        limit_rows: Rows after which the result is cut, without an error; None for all.
        result_cache: Whether the result may be one that was kept for an equal query, and be kept.
        as_of: The past event or time that it reads the tables as of; None for now.
        engine: The engine that it chooses; None for that of the service.
        trace: The W3C headers `traceparent` and `tracestate` of its request, if it has them.

    Raises:
        SqlSyntaxError: The statement is no Unicode text, or has a NUL.
    """

    sql: str
    params: pa.RecordBatch | None = None
    format: Format = Format.arrow
    timeout_s: float | None = None
    limit_rows: int | None = None
    result_cache: bool = True
    as_of: AsOf | None = None
    engine: EngineChoice | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the statement's text, for all doors."""
        check_text(self.sql)


class Registry:
    """Queries by their ids.

    Args:
        finished: How many are remembered in memory after their end.
        history: Takes all of them; None for no such history.
        price: Returns the price of a query that is over.
    """

    def __init__(
        self,
        finished: int = FINISHED,
        history: QueryHistory | None = None,
        price: Callable[[Stats], QueryCost | None] = lambda _: None,
    ) -> None:
        self._finished, self._history, self._price = finished, history, price
        self._running: dict[str, RegisteredQuery] = {}
        self._over: OrderedDict[str, RegisteredQuery] = OrderedDict()

    @property
    def running(self) -> list[RegisteredQuery]:
        """The queries that are not over."""
        return list(self._running.values())

    def open(self, query: Query, caller: Caller) -> RegisteredQuery:
        """Begin to keep a query."""
        info = QueryInfo(
            secrets.token_hex(16),
            caller.user,
            caller.door,
            query.sql,
            State.queued,
            datetime.now(UTC),
            Stats(),
            as_of=None if query.as_of is None else str(query.as_of),
        )
        entry = self._running[info.id] = RegisteredQuery(info, caller)
        return entry

    def close(self, entry: RegisteredQuery, *, keep: bool) -> None:
        """Record that a query has ended; it is kept for a while, if it should be."""
        if self._running.pop(entry.info.id, None) is None or not keep:
            return
        stats, sql = entry.info.stats, entry.info.sql
        entry.update(cost=self._price(stats))
        _report(entry.info)
        if len(sql) > _REMEMBERED_SQL:
            entry.update(sql=f"{sql[:_REMEMBERED_SQL]} ... ({len(sql):,} characters)")
        if self._history is not None:
            try:
                self._history.record(entry.info, entry.caller.owner)
            except Exception:  # noqa: BLE001  # the query is over nevertheless
                _log.exception("the query %s is missing in the history", entry.info.id)
        self._over[entry.info.id] = RegisteredQuery(entry.info, entry.caller)
        while len(self._over) > self._finished:
            self._over.popitem(last=False)

    def info(self, query_id: str, caller: Caller) -> QueryInfo:
        """Return what is known of a query.

        Raises:
            UnknownQueryError: There is none with this id that the caller may see.
        """
        entry = self._running.get(query_id) or self._over.get(query_id)
        if entry is None or not _visible(entry, caller):
            raise UnknownQueryError(
                f"there is no query {query_id[:64]!r} of yours: check the id; queries that ended long ago are forgotten"
            )
        return entry.info

    def entry(self, query_id: str, caller: Caller) -> RegisteredQuery | None:
        """Return a query that is not over, None if it is.

        Raises:
            UnknownQueryError: There is none with this id that the caller may see.
        """
        self.info(query_id, caller)
        return self._running.get(query_id)

    def infos(self, caller: Caller) -> list[QueryInfo]:
        """Return the queries that a caller may see, newest first."""
        entries = (*reversed(self._running.values()), *reversed(self._over.values()))
        return [entry.info for entry in entries if _visible(entry, caller)]


def sources(environments: Environments, grants: Grants) -> dict[str, EnvironmentSource]:
    """Return where a worker finds the environments that may be known now, or what is wrong with them."""
    return sources_of(environments.states(), grants)


def sources_of(states: Mapping[str, EnvironmentState], grants: Grants) -> dict[str, EnvironmentSource]:
    """Return the same of catalogs that the caller has."""
    return {name: _source(state) for name, state in states.items() if grants.allow_environment(name)}


def _visible(entry: RegisteredQuery, caller: Caller) -> bool:
    return entry.caller.owner == caller.owner or caller.grants.everything


def _report(info: QueryInfo) -> None:
    """Log one line: neither text nor parameters, which may be secret."""
    outcome = info.state.value if info.error is None else info.error.code
    stats = info.stats
    _log.info(
        "query %s user=%s door=%s outcome=%s ms=%.1f rows=%d files=%d/%d",
        *(
            info.id,
            info.user,
            info.door,
            outcome,
            1000 * stats.total_s,
            stats.rows,
            stats.files_read,
            stats.files_total,
        ),
        extra={
            "fields": {
                "query_id": info.id,
                **({} if info.trace_id is None else {"trace_id": info.trace_id}),
                "user": info.user,
                "door": info.door,
                "outcome": outcome,
                "runs": [*stats.runs],  # of Dagster
                **_cost(stats),
            }
        },
    )


def _cost(stats: Stats) -> dict[str, float | None]:
    """Return what a query has cost, for the service's log."""
    names = (
        "total_s",
        "queued_s",
        "planning_s",
        "rows",
        "files_read",
        "files_total",
        "files_left_out",
        "bytes_read",
        "requests",
    )
    return {name: getattr(stats, name) for name in names}


def _source(state: EnvironmentState) -> EnvironmentSource:
    if state.problem is not None:
        return EnvironmentSource(problem=Failure.of(state.problem))
    return EnvironmentSource(folder=str(state.folder), generation=state.snapshot.generation)
