"""Worker process: its engine, and the catalogs; which snapshot a statement is planned over, and explained."""

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc
import uvloop

from dagfusion_client.documents.query_documents import ScanStats
from dagfusion_client.errors import InternalError, PlanError, QueryError, ResourcesError
from dagfusion_client.parameters import Values
from dagfusion_client.returned_values import Explanation
from dagfusion_client.sql_text import parse_table
from dagfusion_contract.naming import TableName
from dagfusion_contract.uri import LOCAL_FILES, local_path
from dagfusion_query.access.grants import Grants, Scopes
from dagfusion_query.catalog.mapped_catalog import MappedCatalog
from dagfusion_query.catalog.model import Snapshot, Table, readable
from dagfusion_query.catalog.past_tables import PastSnapshots, as_past
from dagfusion_query.engine.copy_requests import Missing, RequestTime
from dagfusion_query.engine.datafusion_errors import is_full_disk, no_room
from dagfusion_query.engine.engine import INPUT_FILE_NAME, Engine, Prepared
from dagfusion_query.engine.object_requests import new_objects
from dagfusion_query.engine.runtime import Job
from dagfusion_query.grant_names import EVERYTHING
from dagfusion_query.scan.archived_files import split_archived
from dagfusion_query.scan.listing_tables import HIDDEN
from dagfusion_query.settings import Settings
from dagfusion_server.worker.limits import out_of_memory
from dagfusion_server.worker.messages import (
    Configuration,
    EnvironmentSource,
    PastSource,
    Planned,
    Statement,
)
from dagfusion_server.worker.spark_statements import SparkStatements

_log = logging.getLogger(__name__)

_POOL_PERCENT = 60  # of a worker's memory is for joins, sorts and aggregates; scans and results need some, too
_RUNS = 20  # files whose runs the service gets
_MAPPED_TABLES = 64  # of the past
_POOL_SETTING = "DAGFUSION_MEMORY_LIMIT_BYTES"  # which a worker's memory may be below


@dataclass(frozen=True)
class StatementPlan:
    """A planned statement.

    Attributes:
        prepared: The engine's plan.
        facts: What the service gets of it.
        folders: The local folders that hold the objects of its tables, the longest first; none for objects in buckets.
    """

    prepared: Prepared
    facts: Planned
    folders: Sequence[str]


class PastScopes:
    """Maps past tables, and puts together those that a statement reads. Not thread-safe."""

    def __init__(self) -> None:
        self._tables: OrderedDict[str, Table] = OrderedDict()
        self._snapshots = PastSnapshots()

    def snapshot(self, sources: Sequence[PastSource], grants: Collection[str]) -> Snapshot:
        """Return the past tables that these grants allow.

        Raises:
            SnapshotError: A snapshot cannot be read.
        """
        allowed = Grants(frozenset(grants))
        tables: dict[str, dict[TableName, Table]] = {}
        for source in sources:
            table = self._table(source)
            tables.setdefault(source.environment, {})[table.name] = table
        seen = [readable(named, partial(allowed.allow, name)) for name, named in tables.items()]
        return self._snapshots.of([table for named in seen for table in named.values()])

    def _table(self, source: PastSource) -> Table:
        if source.folder not in self._tables:
            mapped = MappedCatalog(Path(source.folder), source.environment).at(source.event_id)
            [self._tables[source.folder]] = as_past(mapped).tables.values()
        self._tables.move_to_end(source.folder)
        table = self._tables[source.folder]
        while len(self._tables) > _MAPPED_TABLES:
            self._tables.popitem(last=False)
        return table


class WorkerEngine(Engine):
    """The engine of a worker process, with the catalogs that statements are planned over.

    Args:
        configuration: Settings of the environments, and limits.

    Attributes:
        spark: The statements that the Spark Connect server runs.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._catalogs: dict[tuple[str, str], MappedCatalog] = {}
        self._scopes = Scopes()
        self._past = PastScopes()
        self._sizes: WeakKeyDictionary[Table, int] = WeakKeyDictionary()
        self._folders: WeakKeyDictionary[Table, str] = WeakKeyDictionary()
        self._memory_bytes = configuration.memory_bytes
        self.spark = SparkStatements(configuration.spark, self.compare_objects)
        environments = configuration.settings
        base = next(iter(environments.values()), Settings())  # limits and caches are the same in all
        pool_bytes = min(base.memory_limit_bytes, self._memory_bytes * _POOL_PERCENT // 100)
        self._is_cut = pool_bytes < base.memory_limit_bytes
        limited = replace(base, memory_limit_bytes=pool_bytes)
        # Several threads wake the loop for each statement; uvloop needs less processor time for that.
        super().__init__(limited, environments, planners=1, new_loop=uvloop.new_event_loop)

    def warm_up(self, environments: Mapping[str, EnvironmentSource]) -> None:
        """Load what the first statement would wait for: the engine, and the current catalogs."""
        try:
            snapshot, _ = self.snapshot(environments, [EVERYTHING])
        except QueryError as error:
            _log.warning("this worker starts without the catalogs: %s", error)
            snapshot = Snapshot(0, "")
        try:
            execution = self.run(self.prepare("SELECT 1", None, snapshot))
        except ResourcesError as error:
            _log.warning("this worker starts cold: %s", error)  # and is ready when there is room again
            return
        while execution.next() is not None:
            pass

    def snapshot(
        self, sources: Mapping[str, EnvironmentSource], grants: Collection[str]
    ) -> tuple[Snapshot, dict[str, int]]:
        """Return the tables that these grants allow, and the generation of each environment."""
        snapshots: dict[str, Snapshot] = {}
        unavailable: dict[str, QueryError] = {}
        for name, source in sources.items():
            if source.problem is not None:
                unavailable[name] = source.problem.error()
                continue
            key = (name, source.folder)
            catalog = self._catalogs.get(key)
            if catalog is None:
                catalog = self._catalogs[key] = MappedCatalog(Path(source.folder), name)
            snapshots[name] = catalog.at(source.generation)
        merged = self._scopes.merged(snapshots, unavailable, Grants(frozenset(grants)))
        return merged, {name: snapshot.generation for name, snapshot in snapshots.items()}

    def plan(self, statement: Statement, values: Values) -> StatementPlan:
        """Plan a statement over the snapshot that its caller may read.

        Args:
            statement: The statement.
            values: Its parameters.

        Raises:
            QueryError: The statement cannot be run.
        """
        started = time.perf_counter()
        snapshot, generations = self.snapshot(statement.environments, statement.grants)
        cached = self.cached_plans
        if statement.past is None:
            prepared = self.prepare(statement.sql, values, snapshot)
        else:
            past = self._past.snapshot(statement.past, statement.grants)
            generations = {source.environment: source.event_id for source in statement.past}
            prepared = self.prepare(statement.sql, values, past, snapshot)
        folders = sorted({self._folder(scan.table) for scan in prepared.scans} - {""}, key=len, reverse=True)
        if folders and _names_files(prepared.statement[0], prepared):
            raise PlanError(
                "input_file_name() would show folders of the service's machine, where the files of these tables are: "
                "select partition columns instead"
            )
        facts = Planned(
            planning_s=time.perf_counter() - started,
            generations=generations,
            cached=self.cached_plans > cached,
            scans=self._scans(prepared),
            path=prepared.path,
            runs=_runs(prepared),
            warnings=prepared.warnings,
            tables=self.spark.tables(statement, prepared, values),
        )
        return StatementPlan(prepared, facts, folders)

    def new_objects(self, statement: Statement) -> Iterator[list[Missing]]:
        """Return the copies to make of the new objects of a statement's table; see `new_objects`."""
        snapshot, _ = self.snapshot(statement.environments, statement.grants)
        wanted = statement.new_objects
        table = None if wanted is None else snapshot.tables.get(parse_table(wanted.table))
        if wanted is None or table is None or self._policy is None:
            return iter(())
        if (rule := self._sessions.rules().get(table.environment)) is not None:
            table, _ = split_archived(table, rule)
        object_bytes = self._settings.object_cache_object_bytes
        return new_objects(table, wanted.after_event, wanted.limit_bytes, object_bytes, self._objects.has_file)

    def fetch(self, missing: Sequence[Missing], spent: RequestTime) -> Job[list[QueryError]]:
        """Start to make copies; the result is the errors of objects that cannot be copied."""
        return Job(self._loop, self._objects.copying.copy(missing, spent))

    def explain(self, prepared: Prepared) -> Explanation:
        """Explain a planned statement, with the names of tables in place of those of their scans."""
        found = super().explain(prepared)
        scans = [
            replace(scan, filters=[replace(effect, text=with_tables(effect.text)) for effect in scan.filters])
            for scan in found.scans
        ]
        return replace(found, scans=scans, logical=with_tables(found.logical), physical=with_tables(found.physical))

    def failure(self, error: BaseException) -> QueryError:
        """Return an error as a `QueryError`. The details of a fault of this program go to the worker's log."""
        if isinstance(error, ResourcesError) and self._is_cut and _POOL_SETTING in str(error):
            return out_of_memory(self._memory_bytes)
        if isinstance(error, QueryError):
            return error
        if isinstance(error, MemoryError):
            return out_of_memory(self._memory_bytes)
        if is_full_disk(error):
            return no_room()
        _log.error("a statement met a fault of this program", exc_info=error)
        return InternalError("internal error: the statement is not the cause; see the service's log")

    def _scans(self, prepared: Prepared) -> list[ScanStats]:
        """Return what a planned statement reads of each table."""
        return [
            ScanStats(
                table=str(scan.table.name),
                files_total=len(scan.table.files),
                files_read=scan.count,
                bytes_total=self._size(scan.table),
                bytes_kept=self._size(scan.table) if scan.files is None else scan.bytes,
                files_left_out=scan.files_left_out,
            )
            for scan in prepared.scans
        ]

    def _size(self, table: Table) -> int:
        """Return the bytes of all files of a table."""
        if table not in self._sizes:
            self._sizes[table] = int(pc.sum(table.files["size_bytes"]).as_py() or 0)
        return self._sizes[table]

    def _folder(self, table: Table) -> str:
        """Return the local folder that holds all files of a table, "" if they are in a bucket."""
        if table not in self._folders:
            uris = pa.concat_tables([table.files.select(["uri"]), table.consolidated.select(["uri"])])["uri"]
            uris = uris.filter(pc.starts_with(uris, LOCAL_FILES))
            ends = pc.min_max(uris).as_py()
            folders = {str(PurePosixPath(local_path(uri)).parent) for uri in ends.values() if uri}
            self._folders[table] = os.path.commonpath(folders).rstrip("/") if folders else ""
        return self._folders[table]


def with_tables(text: str) -> str:
    """Return a text of a plan with the names of tables in place of those of their scans."""
    return text.replace(HIDDEN, "")


def _runs(prepared: Prepared) -> list[str]:
    """Return the Dagster runs that wrote the first files that a planned statement reads."""
    found: dict[str, None] = {}
    left = _RUNS
    for scan in prepared.scans:
        runs = scan.table.files["run_id"]
        numbers = range(min(left, len(runs))) if scan.files is None else scan.files.slice(0, left).to_pylist()
        left -= len(numbers)
        found.update(dict.fromkeys(runs[number].as_py() for number in numbers))
    return [run for run in found if run]


def _names_files(sql: str, prepared: Prepared) -> bool:
    """Return True if a result may hold the paths of files."""
    return INPUT_FILE_NAME in sql.lower() and f"{INPUT_FILE_NAME}(" in prepared.logical.display_indent()
