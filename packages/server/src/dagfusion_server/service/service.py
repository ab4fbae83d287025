"""The service: the only way from the doors to the workers."""

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from dagfusion_client.as_of import AsOf
from dagfusion_client.documents.query_documents import ExplanationDocument, QueryInfo
from dagfusion_client.errors import (
    QueryCancelledError,
    QueryError,
    ServiceUnavailableError,
    StatementTooLongError,
    TooBusyError,
    UnauthenticatedError,
    UnknownQueryError,
)
from dagfusion_client.returned_values import TableDiff, TableGeneration
from dagfusion_contract.naming import TableName
from dagfusion_contract.secret_reference import is_reference
from dagfusion_interop.iceberg.publisher import open_publishers
from dagfusion_interop.spark import SparkServer, import_client
from dagfusion_query.access.grants import ALL, Caller, restricted
from dagfusion_query.catalog.past_tables import PastTable
from dagfusion_query.config import Config
from dagfusion_query.cost.estimate import query_cost, read_prices
from dagfusion_query.event_log.event_log_interface import History
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_query.settings import NO_STATE, Settings
from dagfusion_server.environments import Environments, EnvironmentState
from dagfusion_server.service.admission import Admission
from dagfusion_server.service.metrics import CloudWatch, Metrics
from dagfusion_server.service.past_finder import PastFinder
from dagfusion_server.service.query_history import QueryHistory, page
from dagfusion_server.service.query_registry import FINISHED, Query, Registry, sources
from dagfusion_server.service.repeated_statements import RepeatedStatements
from dagfusion_server.service.running_query import ActiveQuery, ServiceParts
from dagfusion_server.service.spark_tables import SparkTables
from dagfusion_server.service.warm_up import Budget, QueriedTables, WarmUp
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Configuration, Mode

if TYPE_CHECKING:
    from dagfusion_server.service.tracing import Traces

_log = logging.getLogger(__name__)

_DRAIN_LOOK_S = 0.02
_HISTORIES = 2  # at a time: a database that is slow must not take all threads
_RECORDED_TIMEOUT_S = 5.0
T = TypeVar("T")


class Service:
    """Runs statements of callers in worker processes. All on the event loop that `start` is awaited on.

    Args:
        config: Limits and environments.
        environments: The catalogs; whoever made them closes them.
        traces: Sends traces of queries; None for none.

    Attributes:
        publishers: Write the Iceberg metadata of the environments that have a folder for it.
    """

    def __init__(self, config: Config, environments: Environments, traces: "Traces | None" = None) -> None:
        self._settings = config.service
        self._environments = environments
        s = config.service
        self._history, prices = QueryHistory(config.state_dir, s.history_queries, s.history_bytes), read_prices()
        self._registry = Registry(
            FINISHED, self._history, lambda stats: query_cost(stats, s.worker_memory_bytes, prices)
        )
        self._configured = Configuration(
            folders=[str(config.state_dir)],
            memory_bytes=s.worker_memory_bytes,
            settings={e.name: _store_settings(e.settings) for e in config.environments},
            environments={},
            spark=_spark_server(s),
        )
        secrets = {secret for e in config.environments for secret in _secrets(e.settings)}
        secrets |= {s.spark_remote} if s.spark_remote and not is_reference(s.spark_remote) else set()
        self._pool = Pool(s.workers, self._configuration, s.worker_memory_bytes, s.cancel_grace_s, secrets)
        admission = Admission(s.workers, s.user_queries, s.queue_length, s.user_queue_length)
        self._metrics = Metrics(self._pool, admission, environments)
        self._past = PastFinder(environments)
        self.publishers = open_publishers(config)
        self._spark = SparkTables(s, self._configured.spark, self.publishers)
        base = next((e.settings for e in config.environments), Settings())  # caches are the same in all
        result_bytes = 0 if base.result_cache_dir == NO_STATE else base.result_cache_memory_bytes
        self._repeated = RepeatedStatements(environments, result_bytes)
        self._shared = ServiceParts(
            s,
            environments,
            self._registry,
            self._pool,
            admission,
            self._metrics,
            self._past,
            self._spark,
            self._repeated,
            traces,
        )
        self._histories = asyncio.Semaphore(_HISTORIES)
        self._readers = ThreadPoolExecutor(_HISTORIES, "dagfusion-history")  # of the history of queries
        self._warming_up: asyncio.Task[None] | None = None
        self._stopping = True
        self.loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Start the workers; returns when the first takes statements.

        Raises:
            ServiceUnavailableError: No worker comes up.
        """
        self.loop = asyncio.get_running_loop()
        await self._pool.start()
        self._stopping = False
        if self._settings.warm_up_bytes > 0:
            self._warm_up()

    def _warm_up(self) -> None:
        if all(settings.object_cache_dir == NO_STATE for settings in self._configured.settings.values()):
            _log.warning("DAGFUSION_WARM_UP_BYTES has no effect: DAGFUSION_OBJECT_CACHE_DIR is %s", NO_STATE)
            return
        queried, budget = QueriedTables(self._settings.warm_up_queries), Budget(self._settings.warm_up_bytes)
        self._metrics.watches.append(queried.record)
        warm_up = WarmUp(queried, budget, self._environments, self._pool, self._metrics.warmed_up)
        self._warming_up = asyncio.create_task(warm_up.follow())

    async def close(self) -> None:
        """Refuse new queries, wait for running ones within the grace period, cancel the rest, and stop the workers."""
        self._stopping = True
        if self._warming_up is not None:
            self._warming_up.cancel()
        await self._drained(self._settings.cancel_grace_s)
        for entry in self._registry.running:
            entry.stop(QueryCancelledError("the service is stopping"))
        await self._drained(self._settings.cancel_grace_s + 1.0)
        self._past.close()
        await self._pool.close()
        await self._spark.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._history.close)
        if (traces := self._shared.traces) is not None:
            await asyncio.to_thread(traces.close)

    async def run(self, query: Query, caller: Caller, mode: Mode = Mode.run) -> ActiveQuery:
        """Run a statement; returns with its first rows, or at its end.

        Raises:
            QueryError: The statement, its limits, the service or the object store does not let it run.
        """
        if self._stopping:
            raise _not_running()
        limit, size = self._settings.sql_limit_bytes, len(query.sql.encode())
        if size > limit:
            raise StatementTooLongError(
                f"the statement has {size:,} bytes, more than the {limit:,} that the service takes: shorten it, or "
                "raise DAGFUSION_SQL_LIMIT_BYTES"
            )
        return await ActiveQuery(self._shared, query, caller, mode).begin()

    def described(self, query: Query, caller: Caller) -> pa.Schema | None:
        """Return the columns that a statement's result would have, if they are known. From any thread."""
        return None if self._stopping else self._repeated.schema(query, caller)

    async def describe(self, query: Query, caller: Caller) -> pa.Schema:
        """Return the columns that a statement's result would have.

        Raises:
            QueryError: As `run`.
        """
        if (description := self.described(query, caller)) is not None:
            return description
        key = self._repeated.schema_key(query, caller)
        schema = (await self.run(query, caller, Mode.describe)).schema
        self._repeated.keep_schema(key, query, caller, schema)
        return schema

    async def explain(self, query: Query, caller: Caller) -> ExplanationDocument:
        """Return what a statement would read, why it skips the rest, and its plans.

        Raises:
            QueryError: As `run`.
        """
        explained = await self.run(query, caller, Mode.explain)
        if explained.explanation is None:
            raise QueryError("the worker sent no explanation")
        return explained.explanation

    def cancel(self, query_id: str, caller: Caller) -> QueryInfo:
        """Cancel a query; one that is over stays as it is.

        Raises:
            UnknownQueryError: The caller has no query with this id.
        """
        if (entry := self._registry.entry(query_id, caller)) is not None:
            entry.stop(QueryCancelledError(f"the query was cancelled by {caller.user}"))
        return self._registry.info(query_id, caller)

    def query(self, query_id: str, caller: Caller) -> QueryInfo:
        """Return what is known of a query.

        Raises:
            UnknownQueryError: The caller has no query with this id.
        """
        return self._registry.info(query_id, caller)

    async def recorded_query(self, query_id: str, caller: Caller) -> QueryInfo:
        """Return what is known of a query, also from the history.

        Raises:
            UnknownQueryError: The caller has no query with this id.
            TooBusyError: The history does not answer in time.
        """
        try:
            return self._registry.info(query_id, caller)
        except UnknownQueryError:
            found = await self._recorded(lambda: self._history.info(query_id, _history_of(caller)))
            if found is None:
                raise
            return found

    async def recorded_queries(self, caller: Caller, limit: int, before: datetime | None = None) -> list[QueryInfo]:
        """Return a caller's queries, also from the history: those that run, then the last ended first.

        A caller that may read everything gets the queries of all users.

        Args:
            caller: The caller of the request.
            limit: The most that are over; there are fewer if their texts have many bytes, see `query_history.page`.
            before: Only queries that ended before this time; None for all, with those that run.

        Raises:
            TooBusyError: The history does not answer in time.
        """
        recorded = await self._recorded(lambda: self._history.infos(_history_of(caller), limit, before))
        registered = self._registry.infos(caller)
        running = [info for info in registered if info.ended_at is None and before is None]
        ended = {info.id: info for info in recorded}
        ended |= {info.id: info for info in registered if _ended_before(info, before)}
        return running + page(sorted(ended.values(), key=_end, reverse=True), limit)

    def recheck(self, check: Callable[[Caller], None]) -> None:
        """End the queries of those who may not ask any more.

        Args:
            check: Raises UnauthenticatedError for a caller that is no longer let in.
        """
        for entry in self._registry.running:
            try:
                check(entry.caller)
            except UnauthenticatedError as error:
                entry.stop(error)

    def environments(self, caller: Caller) -> Mapping[str, EnvironmentState]:
        """Return the environments that a caller may know of, with the tables that it may read."""
        return {
            name: dataclasses.replace(state, snapshot=restricted(state.snapshot, caller.grants, name))
            for name, state in self._environments.states().items()
            if caller.grants.allow_environment(name)
        }

    async def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Return what Dagster did about a table that the caller may read, or about one of its partitions.

        Raises:
            EnvironmentUnavailableError: The environment's database does not answer.
        """
        async with self._histories:
            return await asyncio.to_thread(self._environments.history, environment, asset_key, partition_key)

    async def revisions(self, name: TableName, limit: int, caller: Caller) -> Sequence[TableGeneration]:
        """Return what the latest runs wrote of a table; see `Environments.revisions`.

        Raises:
            UnknownTableError: There is none that the caller may read.
            NameCollisionError: Two assets have tables of this name.
            TooBusyError: Many such requests are in progress.
            EnvironmentUnavailableError: The database does not answer.
        """
        return await self._past.revisions(name, limit, caller.grants)

    async def past_table(self, name: TableName, event_id: int, caller: Caller) -> PastTable:
        """Return a table as of an event; see `PastFinder.table`."""
        return await self._past.table(name, event_id, caller.grants)

    async def diff(self, name: TableName, before: AsOf, after: AsOf | None, caller: Caller) -> TableDiff:
        """Compare two states of a table; see `Environments.diff`.

        Raises:
            AsOfError: One is in the future.
            PastError: The event log does not have what the table held.
            UnknownTableError: There is none that the caller may read.
            CatalogError: Two assets have tables of this name, or the table's files have no common schema.
            EventRecordError: A record of one of the states cannot be used.
            UnsupportedTypeError: A column has a type that is not supported.
            TooBusyError: Many such requests are in progress.
            EnvironmentUnavailableError: The database does not answer.
        """
        return await self._past.diff(name, before, after, caller.grants)

    def ready(self) -> QueryError | None:
        """Return why no query can run now, if so."""
        return _not_running() if self._stopping else self._pool.problem()

    def cloudwatch(self, namespace: str) -> CloudWatch:
        """Return the writer of CloudWatch metrics, which measures from now on."""
        cloudwatch = CloudWatch(namespace, self._metrics.collect)
        self._metrics.watches.append(cloudwatch.over)
        return cloudwatch

    def count_connections(self, connections: Callable[[], Mapping[str, int]]) -> None:
        """Add the open connections of each door, by its name, to the metrics."""
        self._metrics.connections = connections

    def metrics(self) -> bytes:
        """Return what is counted, in Prometheus's text format."""
        return self._metrics.text()

    def _configuration(self) -> Configuration:
        return dataclasses.replace(self._configured, environments=sources(self._environments, ALL))

    async def _recorded(self, read: Callable[[], T]) -> T:
        """Ask the history in one of its threads, which are few: its file may be locked or slow."""
        try:
            async with asyncio.timeout(_RECORDED_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._readers, read)
        except TimeoutError:
            raise TooBusyError("the history of queries does not answer in time: try again in a moment") from None

    async def _drained(self, limit_s: float) -> None:
        """Wait for the queries that run, but no longer than this."""
        deadline = self.loop.time() + limit_s
        while (self._registry.running or self._pool.busy) and self.loop.time() < deadline:  # noqa: ASYNC110  # rare
            await asyncio.sleep(_DRAIN_LOOK_S)


def _history_of(caller: Caller) -> str | None:
    """Return whose queries of the history a caller may see; None for everybody's."""
    return None if caller.grants.everything else caller.owner


def _end(info: QueryInfo) -> datetime:
    return info.ended_at or info.submitted_at


def _ended_before(info: QueryInfo, before: datetime | None) -> bool:
    return info.ended_at is not None and (before is None or info.ended_at < before)


def _not_running() -> ServiceUnavailableError:
    return ServiceUnavailableError("the service is starting or stopping: try again in a moment")


def _secrets(settings: Settings) -> set[str]:
    """Return an environment's passwords: `dagfusion.toml` takes them from variables of any name."""
    event_log = settings.event_log if "://" in (settings.event_log or "") else None
    secrets = (event_log, settings.secret_access_key, settings.session_token)
    return {secret for secret in secrets if secret and not is_reference(secret)}


def _spark_server(settings: ServiceSettings) -> SparkServer | None:
    """Return the Spark Connect server.

    Raises:
        MissingExtraError: There is one, and the extra `spark` is not installed.
    """
    if settings.spark_remote is None:
        return None
    import_client()
    return SparkServer(url=settings.spark_remote, catalog=settings.spark_catalog, session=str(uuid.uuid4()))


def _store_settings(settings: Settings) -> Settings:
    """Return an environment's settings without what a worker has no use for: the event log's password is in there."""
    return dataclasses.replace(settings, event_log=None, home="", state_dir=None)
