"""The state and cost of one query, from its arrival to its end, for the registry, metrics and traces."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagfusion_client.documents.query_documents import Failure, QueryInfo, State
from dagfusion_client.errors import QueryCancelledError, QueryError
from dagfusion_query.access.grants import Caller
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_server.service.metrics import Metrics
from dagfusion_server.service.query_registry import Query, Registry
from dagfusion_server.worker.messages import End, Mode, Planned

if TYPE_CHECKING:
    from dagfusion_server.service.tracing import Traces  # whose module loads OpenTelemetry, which is optional

_log = logging.getLogger(__name__)


class QueryRecord:
    """The state and the cost of one query. It is in the registry from the beginning.

    Args:
        registry: Where it is found by its id.
        metrics: Count it.
        query: The statement.
        caller: Whose it is.
        mode: What is wanted of it.
        traces: Get its trace; None for none.
    """

    def __init__(
        self, registry: Registry, metrics: Metrics, query: Query, caller: Caller, mode: Mode, *, traces: "Traces | None"
    ) -> None:
        self._registry, self._metrics, self._traces = registry, metrics, traces
        self._query, self._mode = query, mode
        self.entry = registry.open(query, caller)
        self._arrived = time.perf_counter()
        self._admitted: float | None = None
        self._planned_s: float | None = None  # from its arrival
        self._fetches: Sequence[TableFetch] = ()
        self.ran_s: float | None = None  # from its admission to its end; None before the end or without admission

    @property
    def info(self) -> QueryInfo:
        """The facts about the query."""
        return self.entry.info

    @property
    def is_over(self) -> bool:
        """True if the query has ended, so that nothing changes any more."""
        return self.entry.state.is_over

    def admitted(self) -> None:
        """Record that the query may run."""
        self._admitted = time.perf_counter()
        self.entry.update(state=State.running)
        self.entry.update_stats(queued_s=self._admitted - self._arrived)

    def planned(self, plan: Planned) -> None:
        """Record what the query will read."""
        self._planned_s = time.perf_counter() - self._arrived
        total, read = sum(scan.files_total for scan in plan.scans), sum(scan.files_read for scan in plan.scans)
        self.entry.update_stats(
            files_total=total,
            files_read=read,
            files_skipped=total - read,
            planning_s=plan.planning_s,
            generations=plan.generations,
            path=plan.path,
            scans=plan.scans,
            runs=plan.runs,
            files_left_out=sum(scan.files_left_out for scan in plan.scans),
            warnings=plan.warnings,
        )
        self._metrics.planned(cached=plan.cached)

    def streaming(self) -> None:
        """Record that the first rows have come."""
        self.entry.update(state=State.streaming)

    def kept(self, plan: Planned, end: End) -> None:
        """Record a kept result, which is there at once."""
        self.admitted()
        self.planned(plan)
        self.streaming()
        self.sent(end)

    def sent(self, end: End) -> None:
        """Record the cost of a result of which the worker has sent everything."""
        self._fetches = end.fetches
        if end.cost is not None:
            skipped = self.info.stats.files_total - end.cost.files_read
            self.entry.update_stats(**vars(end.cost), files_skipped=skipped)

    def close(self, error: QueryError | None) -> None:
        """Record how the query ended: with an error, or without.

        The registry, metrics and traces get it at once after an error. Else they get it in the loop's next turn: the
        answer is sent first, and what its client asks next finds it there.
        """
        now = time.perf_counter()
        self.ran_s = None if self._admitted is None else now - self._admitted
        self.entry.update_stats(total_s=now - self._arrived)
        state, failure = State.finished, None
        if error is not None:
            state = State.cancelled if isinstance(error, QueryCancelledError) else State.failed
            failure = Failure.of(error)
        self.entry.end(state, failure)
        if error is None and self._mode is Mode.run:
            asyncio.get_running_loop().call_soon(self._account)
        else:
            self._account()

    def _account(self) -> None:
        """Add the query, which is over, to the registry, metrics and traces."""
        self._trace()
        is_run = self._mode is Mode.run  # what only plans is kept when it failed
        self._registry.close(self.entry, keep=is_run or self.info.error is not None)
        if is_run:
            self._metrics.over(self.info)

    def _trace(self) -> None:
        """Send the query's trace; a fault costs the trace only."""
        if self._traces is not None:
            try:
                trace_id = self._traces.over(
                    self.info, self._query.trace, self._mode.value, self._planned_s, self._fetches
                )
            except Exception:  # noqa: BLE001  # of a library
                _log.exception("the query %s has no trace", self.info.id)
            else:
                self.entry.update(trace_id=trace_id)
