"""One query from its arrival to its end: admission, its worker, first rows, streaming."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from dagfusion_client.documents.query_documents import ExplanationDocument, Stats
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import (
    InternalError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    RemoteEngineError,
    RemoteEngineUnavailableError,
    ServiceUnavailableError,
    StaleObjectError,
)
from dagfusion_query.access.grants import Caller
from dagfusion_query.object_cache import CACHE
from dagfusion_query.object_store import StaleRetries
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.environments import Environments, EnvironmentState
from dagfusion_server.service.admission import Admission, AdmissionPlace
from dagfusion_server.service.metrics import Metrics
from dagfusion_server.service.past_finder import FoundPast, PastFinder
from dagfusion_server.service.query_record import QueryRecord
from dagfusion_server.service.query_registry import Query, Registry, sources_of
from dagfusion_server.service.repeated_statements import KeptResult, RepeatedStatements
from dagfusion_server.service.spark_tables import SparkTables
from dagfusion_server.service.worker_handle import Handle, NeverStarted
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import End, Kind, Message, Mode, Planned, SparkRun, Statement, encode_parameters

if TYPE_CHECKING:
    from dagfusion_server.service.tracing import Traces  # whose module loads OpenTelemetry, which is optional

_log = logging.getLogger(__name__)

_MORE_TRIES = 2  # than there are workers, each of which may turn out to be at its end
_REFRESH_S = 3.0


@dataclass(frozen=True)
class ServiceParts:
    """The parts of a service that all queries share."""

    settings: ServiceSettings
    environments: Environments
    registry: Registry
    pool: Pool
    admission: Admission
    metrics: Metrics
    past: PastFinder
    spark: SparkTables
    repeated: RepeatedStatements
    traces: "Traces | None" = None


class ActiveQuery:
    """One query, from its arrival to its end; `stop` ends it in whatever state it is.

    `begin` waits for what comes first. Then iterate once over the encoded bytes of the result, as they come from the
    worker, and `close`.

    Attributes:
        id: The query's.
        explanation: What a statement that is explained would read, once it has begun.

    Args:
        shared: The service's parts.
        query: The statement and its own limits.
        caller: The user with its grants.
        mode: What is wanted of it.
    """

    def __init__(self, shared: ServiceParts, query: Query, caller: Caller, mode: Mode) -> None:
        self._shared, self._query, self._caller, self._mode = shared, query, caller, mode
        self._loop = asyncio.get_running_loop()
        self._record = QueryRecord(shared.registry, shared.metrics, query, caller, mode, traces=shared.traces)
        self._record.entry.stop = self.stop
        self.id = self._record.info.id
        self._schema: memoryview | bytes | None = None  # serialized
        self.explanation: ExplanationDocument | None = None
        self._first: memoryview | bytes | None = None  # came with the answer's beginning
        self._error: QueryError | None = None
        self._place: AdmissionPlace | None = None
        self._worker: Handle | None = None  # until its last message was read
        self._past: FoundPast | None = None
        self._spark_run: SparkRun | None = None
        self._result_key: bytes | None = None  # by which the service keeps the result
        self._waiting: asyncio.Task[Any] | None = None  # for what stop has to interrupt
        self._taken_at: float | None = None  # when the client took the last piece, while it has not come for the next
        limit_s = min(shared.settings.query_timeout_s, query.timeout_s or shared.settings.query_timeout_s)
        too_long = QueryTimeoutError(
            f"the query took longer than the {limit_s:g} s that it may take: filter it, or raise its timeout or "
            "DAGFUSION_QUERY_TIMEOUT_S"
        )
        self._timers = [self._loop.call_later(limit_s, self.stop, too_long)]

    @property
    def is_complete(self) -> bool:
        """True if the worker has sent everything, so that the stats are final; what came is still to be taken."""
        return self._record.is_over

    @property
    def schema(self) -> pa.Schema:
        """The result's columns, once it has begun."""
        return pa.schema([]) if self._schema is None else pa.ipc.read_schema(pa.py_buffer(self._schema))

    @property
    def stats(self) -> Stats:
        """The cost of the query so far; final once its last bytes were taken."""
        return self._record.info.stats

    async def begin(self) -> Self:
        """Wait for a worker and what it says first: the schema, and the first bytes unless there are none.

        Raises:
            QueryError: The query cannot run, failed, or was stopped.
        """
        try:
            choice = self._shared.spark.choice(self._query, self._mode)
            if self._mode is Mode.run and choice is EngineChoice.local:
                self._result_key = self._shared.repeated.result_key(self._query, self._caller)
            if (kept := self._shared.repeated.result(self._result_key)) is not None:
                self._answer(kept)
                return self
            await self._admission()
            if self._query.as_of is not None:
                finding = self._shared.past.find(self._query.sql, self._query.as_of, self._caller.grants)
                self._past = await self._interruptible(finding, FoundPast.close)
            await self._start(StaleRetries(), choice)
        except QueryError as error:
            self._close(error)
            raise
        except asyncio.CancelledError:
            self.stop(QueryCancelledError("the client disconnected before the result began"))
            raise
        except Exception as error:
            _log.exception("query %s met a fault of this program", self.id, extra={"fields": {"query_id": self.id}})
            fault = InternalError("internal error: see the service's log")
            self.stop(fault)
            raise fault from error
        return self

    def __aiter__(self) -> AsyncIterator[memoryview | bytes]:
        """Iterate over the bytes; in the Arrow format each piece is whole messages."""
        return self

    async def close(self) -> None:
        """Cancel what is not finished. May be called often."""
        self._first = None
        self.stop(_disconnected())

    async def __anext__(self) -> memoryview | bytes:
        """Return the next bytes.

        Raises:
            QueryError: The query failed, or was stopped. What was taken is no whole result then.
        """
        if (first := self._first) is not None:
            self._first = None
            return first
        self._taken_at = None
        if self._error is not None:
            raise self._error
        if self.is_complete or self._worker is None:
            raise StopAsyncIteration
        try:
            message = await self._worker.next()
        except QueryError as error:
            self._error = error  # for whoever asks again
            self._close(error)
            raise
        except BaseException:
            self.stop(_disconnected())
            raise
        if message.kind is Kind.end:
            self._end(message)
            raise StopAsyncIteration
        self._taken_at = time.perf_counter()
        return message.body

    def stop(self, error: QueryError) -> None:
        """End the query with this error, if it is not over."""
        if self._error is not None or self.is_complete:
            return
        self._error = error
        if self._worker is not None:
            self._worker.stop(error)
        elif self._waiting is not None:
            self._waiting.cancel()
        self._close(error)

    async def _admission(self) -> None:
        """Wait until the query may run, for as long as it may wait."""
        admitted, limit_s = asyncio.Event(), self._shared.settings.queue_timeout_s
        self._place = self._shared.admission.enter(self._caller.user, admitted.set)
        if not admitted.is_set():
            timer = self._loop.call_later(limit_s, lambda: self.stop(self._shared.admission.too_busy(limit_s)))
            try:
                await self._interruptible(admitted.wait())
            finally:
                timer.cancel()
        self._record.admitted()

    async def _interruptible(self, awaitable: Any, undo: Callable[[Any], None] | None = None) -> Any:
        """Wait for something that `stop` may cut short."""
        waiting = self._waiting = asyncio.ensure_future(awaitable)
        try:
            found = await waiting
        except asyncio.CancelledError:
            if undo is not None and waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                undo(waiting.result())  # it came in the moment in which nobody wanted it any more
            if self._error is not None:
                raise self._error from None
            raise
        finally:
            self._waiting = None
        if self._error is not None:
            if undo is not None:
                undo(found)
            raise self._error
        return found

    async def _start(self, retries: StaleRetries, choice: EngineChoice) -> None:
        environments = self._shared.environments
        states, self._spark_run = environments.states, None
        if choice is not EngineChoice.local:
            pinned = environments.states()
            self._spark_run = await self._run_on_spark(choice, pinned)
            states = states if self._spark_run is None else lambda: pinned
        try:
            await self._receive_first(*await self._planned(states, self._mode, EngineChoice.local))
        except RemoteEngineError as error:  # before the first rows
            is_lost = isinstance(error, RemoteEngineUnavailableError)
            if self._error is not None or self._spark_run is None or choice is not EngineChoice.auto or is_lost:
                raise
            self._worker = None
            self._shared.spark.interrupt(self._spark_run)
            await self._start(retries, EngineChoice.local)
        except StaleObjectError:
            self._worker = None
            if self._error is not None or (pause_s := retries.pause_s()) is None:
                raise
            await self._interruptible(asyncio.sleep(pause_s))
            refresh = asyncio.to_thread(self._shared.environments.refresh, _REFRESH_S)
            with contextlib.suppress(QueryError):
                await self._interruptible(refresh)
            if self._error is not None:
                raise self._error from None
            await self._start(retries, choice)

    async def _run_on_spark(self, choice: EngineChoice, states: Mapping[str, EnvironmentState]) -> SparkRun | None:
        """Return how Spark runs the statement, after a worker has planned it; None if a worker runs it."""
        worker, plan = await self._planned(lambda: states, Mode.describe, choice)
        await worker.next()  # the end
        self._worker = None
        finding = self._shared.spark.run(choice, plan.read(Planned), states, self._past, self._caller.grants)
        found: SparkRun | None = await self._interruptible(finding)
        return found

    async def _planned(
        self, states: Callable[[], Mapping[str, EnvironmentState]], mode: Mode, choice: EngineChoice
    ) -> tuple[Handle, Message]:
        """Send the statement to a worker, and return the worker with its first message: the plan.

        The catalogs are taken when there is a worker, not before, so that they are current.
        """
        pool = self._shared.pool
        for _ in range(self._shared.settings.workers + _MORE_TRIES):
            worker: Handle = pool.lease_idle() or await self._interruptible(pool.lease(), Handle.release)
            try:
                statement, parameters = self._statement(states(), mode, choice), encode_parameters(self._query.params)
            except BaseException:
                worker.release()
                raise
            self._worker = worker
            try:
                await worker.begin(statement, parameters)
                return worker, await worker.next()
            except NeverStarted:
                self._worker = None
        raise ServiceUnavailableError("several workers died before they took the statement: try again in a moment")

    async def _receive_first(self, worker: Handle, plan: Message) -> None:
        """Record the plan, and receive the first bytes, or the end if there are none."""
        self._schema, planned = plan.body, plan.read(Planned)
        self._record.planned(planned)
        message = await worker.next()
        if message.kind is Kind.end:
            self._end(message)
            self.explanation = message.read(End).explanation
            return
        self._record.streaming()
        self._taken_at = time.perf_counter()
        self._watch_client()
        self._first = message.body
        if (end := worker.end()) is not None:
            self._end(end)
            self._keep(planned, end)

    def _keep(self, planned: Planned, end: Message) -> None:
        """Keep a result that came at once, if a worker had kept it."""
        if planned.path == CACHE and self._schema is not None and self._first is not None:
            kept = KeptResult(bytes(self._schema), bytes(self._first), planned, end.read(End))
            self._shared.repeated.keep_result(self._result_key, self._query, self._caller, kept)

    def _answer(self, kept: KeptResult) -> None:
        """Answer with a kept result, which needs neither a place nor a worker."""
        self._schema, self._first = kept.schema, kept.body
        self._record.kept(kept.planned, kept.end)
        self._close(None)

    def _watch_client(self) -> None:
        """Cancel the query when its client takes nothing for too long."""
        limit_s = self._shared.settings.client_stall_s
        idle_s = 0.0 if self._taken_at is None else time.perf_counter() - self._taken_at
        if idle_s >= limit_s:
            self.stop(
                QueryCancelledError(
                    f"the client read nothing of its result for {limit_s:g} s (DAGFUSION_CLIENT_STALL_S)"
                )
            )
        elif not self.is_complete:
            self._timers.append(self._loop.call_later(limit_s - idle_s, self._watch_client))
            del self._timers[1:-1]

    def _end(self, message: Message) -> None:
        self._worker = None  # it may run another query from now on
        self._record.sent(message.read(End))
        self._close(None)

    def _close(self, error: QueryError | None) -> None:
        """Record how the query ended, and release its place."""
        if self.is_complete:
            return
        self._worker = None  # it has ended, or it reads on by itself
        for timer in self._timers:
            timer.cancel()
        if self._past is not None:
            self._past.close()
        if self._spark_run is not None and (error is not None or self.stats.truncated):
            self._shared.spark.interrupt(self._spark_run)
        try:
            self._record.close(error)
        finally:
            if self._place is not None:
                self._shared.admission.leave(self._place, self._record.ran_s)

    def _statement(self, states: Mapping[str, EnvironmentState], mode: Mode, choice: EngineChoice) -> Statement:
        query, settings, wanted = self._query, self._shared.settings, self._query.limit_rows
        return Statement(
            id=self.id,
            mode=mode,
            sql=query.sql,
            format=query.format,
            wanted_rows=None if wanted is None else min(wanted, settings.result_limit_rows + 1),  # 64 bits at most
            result_cache=query.result_cache,
            limit_rows=settings.result_limit_rows,
            limit_bytes=settings.result_limit_bytes,
            environments=sources_of(states, self._caller.grants),
            grants=sorted(self._caller.grants.names),
            past=None if self._past is None else self._past.sources,
            engine=choice,
            spark=self._spark_run,
        )


def _disconnected() -> QueryCancelledError:
    return QueryCancelledError("the client disconnected before the end of the result")
