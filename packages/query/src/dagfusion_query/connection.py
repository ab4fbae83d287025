"""The embedded connection: the engine and the catalog in the caller's process."""

import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.abstract_connection import Connection
from dagfusion_client.as_of import Given, read_as_of
from dagfusion_client.engine_choice import EngineChoice, read_engine
from dagfusion_client.errors import (
    AsOfError,
    EngineChoiceError,
    EventLogUnavailableError,
    QueryError,
    SettingsError,
)
from dagfusion_client.parameters import Params
from dagfusion_client.returned_values import Explanation, TableDiff, TableGeneration, TableInfo
from dagfusion_client.settings import REVISIONS, REVISIONS_LIMIT
from dagfusion_client.sql_text import check_text, mentioned_tables, parse_table
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_query.catalog.checkpoint import open_checkpoint
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.mapped_catalog import snapshot_folder
from dagfusion_query.catalog.model import Selection, Snapshot, Table, common_location, layouts_of, selected
from dagfusion_query.catalog.past_catalog import PastCatalog
from dagfusion_query.catalog.past_tables import PastSnapshots
from dagfusion_query.discovery import open_discovery
from dagfusion_query.embedded_result import EmbeddedResult
from dagfusion_query.engine.datafusion_errors import unknown_table
from dagfusion_query.engine.engine import Engine, Prepared
from dagfusion_query.engine.plan_execution import Finished
from dagfusion_query.engine.runtime import closed
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.event_log_interface import AssetKey, EventLog
from dagfusion_query.event_log.stored_event import EventReader
from dagfusion_query.scan.large_objects import consolidation_gain
from dagfusion_query.settings import Settings, listed
from dagfusion_query.spark_engine import SparkEngine, SparkRuns, open_spark_engine, spark_server

_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

_DISCOVERY_WAIT_S = 60.0  # for the files at the time of the connection; others appear when their footers were read


class EmbeddedConnection(Connection):
    """SQL over the assets of one Dagster deployment. Thread-safe; a context manager.

    Args:
        settings: Where the event log and the objects are, and the limits.
        variables: Name the Spark Connect server, if there is one; see `spark_server`.
    """

    def __init__(self, settings: Settings, variables: Mapping[str, str] = _NO_VARIABLES) -> None:
        if not settings.event_log:
            raise SettingsError(
                f"there is no event log to read: start the local stack with `dagfusion up -d` (none was found in "
                f"{settings.home}), or set DAGFUSION_EVENT_LOG to a postgresql:// URL or a DAGSTER_HOME folder"
            )
        self.settings = settings
        with ExitStack() as opened:
            self._catalog = _follow(settings, settings.event_log)
            opened.callback(self._catalog.close)
            event_log = settings.event_log
            self._past = PastCatalog(self._catalog, lambda: _reader(settings, event_log))
            opened.callback(self._past.close)
            self._past_snapshots = PastSnapshots()
            self._engine = Engine(settings)
            self._spark: SparkEngine | None = None
            self._variables, self._opening = variables, threading.Lock()
            opened.pop_all()
        self._is_closed = False

    @property
    def snapshot(self) -> Snapshot:
        """The current generation of the catalog."""
        return self._catalog.current()

    def sql(
        self,
        query: str,
        params: Params = None,
        *,
        as_of: Given | None = None,
        engine: str | None = None,
        selections: Sequence[Selection] | None = None,
    ) -> EmbeddedResult:
        """Run a query; see `Connection.sql`.

        Args:
            query: One read-only statement.
            params: Its values.
            as_of: The past event or time that it reads the tables as of.
            engine: `local` (the default), `spark` for the Spark Connect server that `DAGFUSION_SPARK_REMOTE` names, or
                `auto` for `spark` if the files have many bytes.
            selections: The tables that the statement can name, each with the partitions that it reads; None for the
                whole catalog. They are of the current catalog.
        """
        choice = EngineChoice.local if engine is None else read_engine(engine)
        if choice is EngineChoice.spark and selections is not None:
            raise EngineChoiceError('engine="spark" reads whole tables: remove the selection, or use engine="local"')
        if as_of is not None and selections is not None:
            raise AsOfError("as_of cannot be combined with a selection of partitions: remove as_of")
        started = time.perf_counter()
        past: dict[TableName, Sequence[Layout]] = {}  # the layouts of the past tables of the last plan
        prepared = self._prepare(query, params, _chosen(self._open_catalog().current(), selections), as_of, past)
        if prepared.is_explain:
            plans = self._engine.explain(prepared).to_arrow()
            return EmbeddedResult(prepared, plans.schema, lambda _: Finished(plans), lambda: prepared, started)
        run = None if selections is not None else self._spark_runs(choice, query, params, past)
        try:
            result = EmbeddedResult(
                prepared,
                prepared.schema,
                run or self._engine.run,
                lambda: self._prepare(query, params, _chosen(self._catalog.refresh(), selections), as_of, past),
                started,
            )
        except BaseException:  # also a caller's Ctrl-C while the server plans
            if run is not None:
                run.cancel()
            raise
        if run is not None:  # a thread receives its batches, also after the result was dropped
            weakref.finalize(result, run.cancel)
        return result

    def explain(self, query: str, params: Params = None, *, as_of: Given | None = None) -> Explanation:
        """Return the files that a query would read, why it skips the others, and DataFusion's plans."""
        return self._engine.explain(self._prepare(query, params, self._open_catalog().current(), as_of))

    def tables(self) -> list[TableInfo]:
        """Return the tables of the catalog, by name."""
        return [_info(table) for _, table in sorted(self._open_catalog().current().tables.items())]

    def history(self, table: str, limit: int = REVISIONS) -> list[TableGeneration]:
        """Return what the latest runs wrote of a table; see `Connection.history`."""
        return self._past.revisions(self._asset_key(table), min(limit, REVISIONS_LIMIT))

    def diff(self, table: str, before: Given, after: Given | None = None) -> TableDiff:
        """Compare two states of a table; see `Connection.diff`."""
        states = read_as_of(before), None if after is None else read_as_of(after)
        return self._past.diff(self._asset_key(table), *states)

    def refresh(self) -> Snapshot:
        """Read now what the event log has gained, instead of within a second, and return the catalog."""
        return self._open_catalog().refresh()

    def close(self) -> None:
        """Stop following the event log and release what the engine holds."""
        with self._opening:
            self._is_closed = True
        with ExitStack() as closing:
            closing.callback(self._engine.close)
            closing.callback(self._catalog.close)
            if self._spark is not None:
                closing.callback(self._spark.close)
            closing.callback(self._past.close)

    def _open_catalog(self) -> LiveCatalog:
        """Return the catalog.

        Raises:
            ConnectionClosedError: This connection was closed.
        """
        if self._is_closed:
            raise closed()
        return self._catalog

    def _asset_key(self, table: str) -> AssetKey:
        current = self._open_catalog().current()
        if (found := self._past.asset(parse_table(table))) is not None:
            return found
        raise unknown_table(str(parse_table(table)), [str(name) for name in current.tables], table)

    def _prepare(
        self,
        query: str,
        params: Params,
        current: Snapshot,
        as_of: Given | None,
        layouts: dict[TableName, Sequence[Layout]] | None = None,
    ) -> Prepared:
        """Return a planned statement, and add the layouts of its past tables."""
        check_text(query)
        if as_of is None:
            return self._engine.prepare(query, params, current)
        moment = self._past.moment(read_as_of(as_of))
        with self._past.tables(moment, mentioned_tables(query)) as tables:
            snapshot = self._past_snapshots.of([past.table for past in tables])
            if layouts is not None:
                layouts.update({past.table.name: past.layouts for past in tables})
        return self._engine.prepare(query, params, snapshot, current)

    def _spark_runs(
        self, choice: EngineChoice, query: str, params: Params, past: Mapping[TableName, Sequence[Layout]]
    ) -> SparkRuns | None:
        """Return the executions of a statement by the Spark engine; None if it runs in this process.

        Raises:
            EngineChoiceError: Spark was chosen, but no server is set.
            MissingExtraError: A server is set, but the extra `spark` is not installed.
        """
        if choice is EngineChoice.local:
            return None
        url = spark_server(self._variables)
        if url is not None:
            return self._open_spark(url).runs(choice, query, params, partial(_layouts, past))
        if choice is EngineChoice.auto:
            return None
        raise EngineChoiceError(
            'engine="spark" needs a Spark Connect server: set DAGFUSION_SPARK_REMOTE, connect to the URL of a '
            'query service that has one, or use engine="local"'
        )

    def _open_spark(self, url: str) -> SparkEngine:
        with self._opening:
            if self._is_closed:
                raise closed()
            if self._spark is None:
                self._spark = open_spark_engine(url, self._engine, self.settings, self._variables)
            return self._spark


def connect_embedded(
    event_log: str | None = None, *, environment: str | None = None, settings: Mapping[str, str] | None = None
) -> EmbeddedConnection:
    """Connect to what Dagster has materialized.

    Args:
        event_log: A `postgresql://` URL of Dagster's database, or a DAGSTER_HOME folder; else `DAGFUSION_EVENT_LOG`,
            `DAGSTER_HOME`, or the local stack of the current folder.
        environment: The environment's name, which begins the name of each schema; else `ENVIRONMENT`, else `local`.
        settings: Variables, by name, to use instead of the process's environment.

    Raises:
        SettingsError: A setting is missing or has a value that it cannot have.
        QueryError: The event log cannot be read.
    """
    variables = os.environ if settings is None else settings
    return EmbeddedConnection(Settings.read(variables, event_log=event_log, environment=environment), variables)


def _follow(settings: Settings, event_log: str) -> LiveCatalog:
    """Return the catalog of an event log.

    Raises:
        EventLogUnavailableError: The database does not answer; when it is the local stack's, how to start that.
    """
    log = _reader(settings, event_log)
    try:
        folder = snapshot_folder(settings, log)
        return LiveCatalog(
            log,
            settings.environment,
            folder,
            poll_interval_s=settings.poll_interval_s,
            discovery=open_discovery(settings, folder),
            discovery_wait_s=_DISCOVERY_WAIT_S,
            checkpoint=open_checkpoint(settings),
        )
    except BaseException as error:
        log.close()
        if not isinstance(error, EventLogUnavailableError) or not settings.is_local_stack:
            raise
        raise EventLogUnavailableError(
            f"the local stack in {settings.home} does not run: start it with `dagfusion up -d` ({error})"
        ) from error


def _layouts(past: Mapping[TableName, Sequence[Layout]], prepared: Prepared, table: Table) -> Sequence[Layout]:
    """Return the layouts of the files of a table of a planned statement."""
    if table.as_of is not None:
        return past[table.name]
    return layouts_of(table, prepared.bound.snapshot.asset_states[table.asset_key])


def _chosen(snapshot: Snapshot, selections: Sequence[Selection] | None) -> Snapshot:
    return snapshot if selections is None else selected(snapshot, selections)


def _info(table: Table) -> TableInfo:
    files = table.files
    last = pc.max(files["materialized_at"]).as_py() if len(files) else None
    if table.view is not None:
        last = datetime.fromtimestamp(table.view.at_us / 1e6, UTC)
    columns = [*table.file_schema, *table.partition_schema]
    return TableInfo(
        str(table.name),
        table.asset_key,
        tuple(table.partition_schema.names),
        {field.name: str(field.type) for field in columns},
        pc.count_distinct(files["event_id"]).as_py(),  # an event may have written several files
        _sum(files["rows"]),
        _sum(files["size_bytes"]),
        last,
        _text(table.problem),
        tuple(str(warning) for warning in table.warnings),
        None if table.problem is None else table.problem.code,
        len(files),
        common_location(table),
        tuple(field.name for field in columns if not field.nullable),
        None if table.view is None else table.view.view.sql,
        *consolidation_gain(table),
    )


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)


def _text(problem: QueryError | None) -> str | None:
    return None if problem is None else str(problem)


def _reader(settings: Settings, event_log: str) -> EventLog:
    return open_event_log(event_log, records=EventReader(listed(settings.metadata_keys)), region=settings.region)
