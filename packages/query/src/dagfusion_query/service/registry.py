"""The queries that run, and those that ran last."""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from dagfusion_query.access.grants import Caller
from dagfusion_query.documents.queries import QueryInfo, State, Stats
from dagfusion_query.errors import QueryError, UnknownQueryError
from dagfusion_query.service.query import Query

_log = logging.getLogger(__name__)

_REMEMBERED_SQL = 10_000  # characters of a statement that is over


@dataclass(eq=False)
class Entry:
    """One query, as it goes on.

    Attributes:
        caller: Whose it is.
    """

    info: QueryInfo
    caller: Caller
    stop: Callable[[QueryError], None] = field(default=lambda _: None)  # ends it, in whatever state it is

    def update(self, **changes: object) -> None:
        """Change what is known of the query."""
        self.info = replace(self.info, **changes)  # type: ignore[arg-type]

    def update_stats(self, **changes: object) -> None:
        """Change what is known of its cost."""
        self.info = replace(self.info, stats=replace(self.info.stats, **changes))  # type: ignore[arg-type]


class Registry:
    """Queries by their ids.

    Args:
        finished: How many are remembered after their end.
    """

    def __init__(self, finished: int) -> None:
        self._finished = finished
        self._running: dict[str, Entry] = {}
        self._over: OrderedDict[str, Entry] = OrderedDict()

    @property
    def running(self) -> list[Entry]:
        """The queries that are not over."""
        return list(self._running.values())

    def open(self, query: Query, caller: Caller) -> Entry:
        """Begin to keep a query."""
        info = QueryInfo(
            secrets.token_hex(16), caller.user, caller.door, query.sql, State.queued, datetime.now(UTC), Stats()
        )
        entry = self._running[info.id] = Entry(info, caller)
        return entry

    def close(self, entry: Entry, *, keep: bool) -> None:
        """Note that a query is over; it is kept for a while, if it shall be."""
        if self._running.pop(entry.info.id, None) is None or not keep:
            return
        _report(entry.info)
        sql = entry.info.sql
        if len(sql) > _REMEMBERED_SQL:
            entry.update(sql=f"{sql[:_REMEMBERED_SQL]} ... ({len(sql):,} characters)")
        self._over[entry.info.id] = Entry(entry.info, entry.caller)
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

    def entry(self, query_id: str, caller: Caller) -> Entry | None:
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


def _visible(entry: Entry, caller: Caller) -> bool:
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
    )
