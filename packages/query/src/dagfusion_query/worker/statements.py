"""Statements in a worker: planned and run by the engine, encoded, sent piece by piece."""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.access.grants import EVERYTHING, Grants, Scopes
from dagfusion_query.answers import Explanation
from dagfusion_query.catalog.manifest import MappedCatalog
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.documents.failures import Failure
from dagfusion_query.documents.queries import ExplanationDocument, ScanStats
from dagfusion_query.engine.engine import Engine, Prepared
from dagfusion_query.engine.run import Run
from dagfusion_query.engine.statement import is_full_disk, no_room
from dagfusion_query.errors import (
    PlanError,
    QueryCancelledError,
    QueryError,
    ResourcesError,
)
from dagfusion_query.result import Batches, Finished, explain
from dagfusion_query.scan.layout import HIDDEN
from dagfusion_query.settings import Settings
from dagfusion_query.worker.frames import (
    Configuration,
    End,
    EnvironmentSource,
    Frame,
    Kind,
    LinkLostError,
    Mode,
    Phase,
    Planned,
    Statement,
    decode_parameters,
    encode,
)
from dagfusion_query.worker.limits import EXIT_CODE, SentRequests, comes_to_rest, out_of_memory
from dagfusion_query.worker.redact import Redactor
from dagfusion_query.worker.result_chunks import ResultChunks, Send

_log = logging.getLogger(__name__)

_SOON_S = 0.002  # a batch that comes within it shares a chunk with the one before
_POOL_PERCENT = 60  # of a worker's memory is for joins, sorts and aggregates; scans and results need some, too
_REST_S = 1.0  # that threads have to leave a run that was given up
_SAID_BYTES = 1500  # of an error; up to three times as many where they are escaped
_FILE_NAME = "input_file_name"
_POOL_SETTING = "DAGFUSION_MEMORY_LIMIT_BYTES"  # which a worker's memory may be below
_NAMED = 1000  # partitions and objects that an explanation names


class Statements:
    """Runs statements over the catalogs of a service's environments.

    Args:
        configuration: Settings of the environments, and limits.
        mark: Notes what this process is at.
    """

    def __init__(self, configuration: Configuration, mark: Callable[[Phase], None]) -> None:
        self._mark = mark
        self._catalogs: dict[tuple[str, str], MappedCatalog] = {}
        self._scopes = Scopes()
        self._turn = threading.Lock()
        self._lock = threading.Lock()  # of what follows
        self._current: str | None = None  # the statement's id
        self._cancelled = False
        self._run: Batches | None = None
        self._sizes: WeakKeyDictionary[Table, int] = WeakKeyDictionary()
        self._local: WeakKeyDictionary[Table, str] = WeakKeyDictionary()
        self._objects: Sequence[str] = ()  # local folders of what the statement reads
        self._is_whole = True  # whether the statement came to its own end
        environments = configuration.settings
        self._memory_bytes = configuration.memory_bytes
        base = next(iter(environments.values()), Settings())  # limits and caches are the same in all
        pool_bytes = min(base.memory_limit_bytes, self._memory_bytes * _POOL_PERCENT // 100)
        self._is_cut = pool_bytes < base.memory_limit_bytes
        folders = (*configuration.folders, tempfile.gettempdir())  # the latter is this process's own
        self._redactor = Redactor(environments.values(), map(Path, folders))
        self._requests = SentRequests(settings.endpoint_url for settings in environments.values())
        self._engine = Engine(replace(base, memory_limit_bytes=pool_bytes), environments, planners=1)

    def warm_up(self, configuration: Configuration) -> None:
        """Have everything loaded that a first statement would wait for: the engine, and the catalogs as they are."""
        try:
            snapshot, _ = self._snapshot(configuration.environments, [EVERYTHING])
        except QueryError as error:
            _log.warning("this worker starts without the catalogs: %s", error)
            snapshot = Snapshot(0, "")
        try:
            run = self._engine.start(self._engine.prepare("SELECT 1", None, snapshot))
        except ResourcesError as error:
            _log.warning("this worker starts cold: %s", error)  # and is ready when there is room again
            return
        while run.next() is not None:
            pass

    def cancel(self, statement: str) -> None:
        """Give the statement with this id up, if it is the one that runs. Called on another thread."""
        with self._lock:
            if self._current == statement:
                self._cancelled = True
                if self._run is not None:
                    self._run.cancel()

    def run(self, frame: Frame, send: Send) -> None:
        """Run one statement, and send what comes of it. The next one waits until nothing is left of this one."""
        with self._turn:
            self._run_one(frame, send)
            with self._lock:
                run, self._current, self._run = self._run, None, None
            if not self._is_whole and run is not None:
                run.cancel()
                del run
                # Some of DataFusion's joins go on although nobody wants more of them.
                if not comes_to_rest(_REST_S):
                    os._exit(EXIT_CODE)
            self._requests.restart()
            self._mark(Phase.idle)

    def _run_one(self, frame: Frame, send: Send) -> None:
        statement = frame.read(Statement)
        with self._lock:
            self._current, self._cancelled, self._is_whole = statement.id, False, True
        self._mark(Phase.planning)
        try:
            self._answer(statement, frame.body, send)
        except LinkLostError:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is, the service has to hear of it
            said = QueryCancelledError("the query was cancelled") if self._cancelled else self._error(error)
            text = _cut(self._redactor.error(said, self._objects))
            self._mark(Phase.resting)
            send(encode(Kind.failed, Failure.of(said, text)))
            self._is_whole = False

    def _answer(self, statement: Statement, body: memoryview | bytes, send: Send) -> None:
        started = time.perf_counter()
        self._objects = ()
        snapshot, generations = self._snapshot(statement.environments, statement.grants)
        cached = self._engine.cached_plans
        prepared = self._engine.prepare(statement.sql, decode_parameters(body), snapshot)
        self._objects = sorted({self._folder(scan.table) for scan in prepared.scans} - {""}, key=len, reverse=True)
        if self._objects and _names_files(statement.sql, prepared):
            raise PlanError(
                "input_file_name() would show folders of the service's machine, where the files of these tables are: "
                "select partition columns instead"
            )
        planning_s = time.perf_counter() - started
        plans = self._explained(prepared).to_arrow() if prepared.is_explain else None
        schema = prepared.schema if plans is None else plans.schema
        was_there = self._engine.cached_plans > cached
        facts = Planned(
            planning_s=planning_s,
            generations=generations,
            cached=was_there,
            scans=self._scans(prepared),
            path=prepared.path,
        )
        planned = encode(Kind.planned, facts, [memoryview(schema.serialize())])
        self._mark(Phase.running)
        match statement.mode:
            case Mode.describe:
                send(planned, encode(Kind.end, End()))
            case Mode.explain:
                explanation = _explanation(self._explained(prepared), generations, self._shown_uri)
                send(planned, encode(Kind.end, End(explanation=explanation)))
            case Mode.run:
                began = time.perf_counter()
                run: Batches = Finished(plans) if plans is not None else self._engine.start(prepared)
                run = _Shown(run, lambda text: self._shown(prepared.shown(text))) if prepared.is_analysis else run
                self._stream(run, ResultChunks(statement, schema, planned, send), began)

    def _stream(self, run: Batches, output: ResultChunks, began: float) -> None:
        with self._lock:
            self._run = run
            if self._cancelled:
                run.cancel()
        first_batch_s = None
        if not _is_there(run, _SOON_S):
            output.flush()
        while (batch := run.next()) is not None:
            first_batch_s = time.perf_counter() - began if first_batch_s is None else first_batch_s
            _is_there(run, 0.0)  # have the next one made while this one is encoded
            if not output.write(batch):
                run.check()
                self._is_whole = False
                break
            if not _is_there(run, _SOON_S):
                output.flush()
            self._check()
        self._check()
        if not self._is_whole:
            self._mark(Phase.resting)
        took_s = time.perf_counter() - began if first_batch_s is None else first_batch_s
        output.finish(
            first_batch_s=took_s,
            files_read=run.files_read,
            bytes_read=run.bytes_read,
            requests=self._requests.count(),
        )

    def _check(self) -> None:
        if self._cancelled:
            raise QueryCancelledError("the query was cancelled")

    def _scans(self, prepared: Prepared) -> list[ScanStats]:
        """Return what a planned statement reads of each table."""
        return [
            ScanStats(
                table=str(scan.table.name),
                files_total=len(scan.table.files),
                files_read=scan.count,
                bytes_total=self._size(scan.table),
                bytes_kept=self._size(scan.table) if scan.files is None else scan.bytes,
            )
            for scan in prepared.scans
        ]

    def _size(self, table: Table) -> int:
        """Return the bytes of all files of a table."""
        if table not in self._sizes:
            self._sizes[table] = int(pc.sum(table.files["size_bytes"]).as_py() or 0)
        return self._sizes[table]

    def _explained(self, prepared: Prepared) -> Explanation:
        """Explain a statement as any caller may read it."""
        found = explain(prepared, self._engine)
        logical, physical = (self._shown(text) for text in (found.logical, found.physical))
        return replace(found, logical=logical, physical=physical)

    def _folder(self, table: Table) -> str:
        """Return the local folder that all files of a table lie in, "" when they are in a bucket."""
        if table not in self._local:
            uris = table.files["uri"].filter(pc.starts_with(table.files["uri"], "file:///"))
            ends = pc.min_max(uris).as_py()
            folders = {str(PurePosixPath(uri.removeprefix("file://")).parent) for uri in ends.values() if uri}
            self._local[table] = os.path.commonpath(folders).rstrip("/") if folders else ""
        return self._local[table]

    def _shown(self, text: str) -> str:
        """Return a plan as any caller may read it."""
        return self._redactor.plan(text.replace(HIDDEN, ""), has_folders=bool(self._objects))

    def _shown_uri(self, uri: str) -> str:
        return self._redactor.text(uri, self._objects)

    def _error(self, error: BaseException) -> QueryError:
        """Say what went wrong without what only the service's operator may know, which goes to the worker's log."""
        if isinstance(error, ResourcesError) and self._is_cut and _POOL_SETTING in str(error):
            return out_of_memory(self._memory_bytes)
        if isinstance(error, QueryError):
            return error
        if isinstance(error, MemoryError):
            return out_of_memory(self._memory_bytes)
        if is_full_disk(error):
            return no_room()
        _log.error("a statement met a fault of this program", exc_info=error)
        return QueryError("the service failed at this statement, which is not the statement's fault; its log says how")

    def _snapshot(
        self, sources: Mapping[str, EnvironmentSource], grants: Collection[str]
    ) -> tuple[Snapshot, dict[str, int]]:
        """Return what the caller sees, and the generation of each environment."""
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


class _Shown:
    """The batches of an EXPLAIN ANALYZE, whose texts are plans."""

    def __init__(self, run: Batches, shown: Callable[[str], str]) -> None:
        self._run, self._shown = run, shown

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end."""
        if (batch := self._run.next()) is None:
            return None
        columns = [pa.array([self._shown(text) for text in column.to_pylist()], column.type) for column in batch]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def check(self) -> None:
        """Compare the objects that were read so far with their events."""
        self._run.check()

    def cancel(self) -> None:
        """Give up what is not there yet."""
        self._run.cancel()

    @property
    def bytes_read(self) -> int:
        """Bytes read so far."""
        return self._run.bytes_read

    @property
    def files_read(self) -> int:
        """Files opened so far."""
        return self._run.files_read


def _cut(text: str) -> str:
    """Return a text without its middle, if it is long: it may quote a statement, and clients of gRPC take 8 KiB."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= _SAID_BYTES:
        return text
    start, end = encoded[: _SAID_BYTES * 2 // 3], encoded[-_SAID_BYTES // 3 :]
    return f"{start.decode(errors='ignore')} ... {end.decode(errors='ignore')}"


def _names_files(sql: str, prepared: Prepared) -> bool:
    """Tell whether a result may hold the paths of files."""
    return _FILE_NAME in sql.lower() and f"{_FILE_NAME}(" in prepared.logical.display_indent()


def _is_there(run: Batches, within_s: float) -> bool:
    """Tell whether the next batch, or the end, is there within this time."""
    return not isinstance(run, Run) or run.wait(within_s)


def _explanation(
    found: Explanation, generations: Mapping[str, int], shown: Callable[[str], str]
) -> ExplanationDocument:
    """Return an explanation as it is sent: with as many partitions and objects as anyone reads."""
    scans = [
        replace(
            scan,
            filters=[replace(effect, text=effect.text.replace(HIDDEN, "")) for effect in scan.filters],
            partitions=scan.partitions[:_NAMED],
            uris=list(map(shown, scan.uris[:_NAMED])),
        )
        for scan in found.scans
    ]
    return ExplanationDocument(scans, found.logical, found.physical, found.path, generations=generations)
