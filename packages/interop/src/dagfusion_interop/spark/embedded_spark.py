"""Statements of an embedded connection on a Spark Connect server.

The server reads the Iceberg catalog of a query service. So the connection writes the metadata of the tables to the
service's folder. The names of these objects are computed from their content, as in the service.
"""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pyarrow.compute as pc

from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import EngineChoiceError, StoreUnavailableError
from dagfusion_client.parameters import Params, scalars
from dagfusion_client.settings import READER
from dagfusion_contract.record import Layout
from dagfusion_contract.setting_declarations import declaration
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_interop.spark import SparkServer, import_client
from dagfusion_interop.spark.pinned_tables import pinned_version
from dagfusion_interop.spark.sent_statements import interrupted, sent_statement, sent_tables
from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.model import Table
from dagfusion_query.engine.engine import Engine, Prepared
from dagfusion_query.engine.plan_execution import Batches
from dagfusion_query.engine.runtime import closed
from dagfusion_query.scan.table_scan import Scan
from dagfusion_query.service_settings import ConfigSettings, ServiceSettings
from dagfusion_query.settings import Settings
from dagfusion_query.spark_engine import Layouts, Note, SparkEngine, SparkRuns

if TYPE_CHECKING:
    from dagfusion_interop.spark.spark_batches import EmbeddedBatches
    from dagfusion_interop.spark.spark_connect import SparkStatement

_PATIENCE_S = 2.0
Send = Callable[[Prepared], "EmbeddedBatches | None"]


@dataclass(frozen=True)
class _Configured:
    """The engine as it is configured.

    Attributes:
        server: The server.
        auto_bytes: The least bytes of files for which `auto` chooses the server.
        publisher: Writes the tables' metadata; None if no folder is set.
    """

    server: SparkServer
    auto_bytes: int
    publisher: Publisher | None


def open_engine(url: str, engine: Engine, settings: Settings, variables: Mapping[str, str]) -> SparkEngine:
    """Open the Spark engine of a connection: the entry point that `open_spark_engine` loads."""
    opened = EmbeddedSpark(url, engine, settings, variables)
    return SparkEngine(opened.runs, opened.close)


class EmbeddedSpark:
    """The Spark engine of a connection; see `SparkEngine`. The arguments are those of `open_spark_engine`."""

    def __init__(self, url: str, engine: Engine, settings: Settings, variables: Mapping[str, str]) -> None:
        self._url, self._engine, self._settings, self._variables = url, engine, settings, variables
        self._lock = threading.Lock()
        self._configured: _Configured | None = None
        self._running: WeakSet[EmbeddedBatches] = WeakSet()
        self._is_closed = False

    def runs(self, choice: EngineChoice, sql: str, params: Params, layouts: Layouts) -> SparkRuns:
        """Return the executions of a statement."""
        return SparkRuns(partial(self._run, choice, partial(self._sent, choice, sql, params, layouts)))

    def close(self) -> None:
        """Cancel the running statements, and wait at most two seconds until the server has interrupted them."""
        with self._lock:
            self._is_closed = True
            running = [*self._running]
        for batches in running:
            batches.cancel()
        until_s = time.monotonic() + _PATIENCE_S
        for batches in running:
            batches.join(max(0.0, until_s - time.monotonic()))
        if self._configured is not None and self._configured.publisher is not None:
            self._configured.publisher.close()

    def _run(self, choice: EngineChoice, send: Send, note: Note, prepared: Prepared) -> Batches:
        """Start an execution; raises as `SparkRuns`."""
        try:
            batches = send(prepared)
        except (EngineChoiceError, StoreUnavailableError):
            if choice is EngineChoice.spark:
                raise
            batches = None
        if batches is None:
            return self._engine.run(prepared)
        note(batches)
        return self._engine.run(prepared) if choice is EngineChoice.auto and batches.is_refused() else batches

    def _sent(
        self, choice: EngineChoice, sql: str, params: Params, layouts: Layouts, prepared: Prepared
    ) -> "EmbeddedBatches | None":
        """Send a statement, and return its batches; None if `auto` does not send it."""
        configured, values = self._open(), scalars(params)
        server, publisher = configured.server, configured.publisher
        names = sent_tables(server, sql, values, prepared)
        if choice is EngineChoice.auto and sum(map(_size_bytes, prepared.scans)) < configured.auto_bytes:
            return None
        tables = [prepared.bound.snapshot.tables[name] for name in names]
        if publisher is not None and not prepared.bound.snapshot.is_past:
            publisher.forget_dropped(prepared.bound.snapshot)
        pins = {table.name: self._pinned(publisher, table, layouts(prepared, table)) for table in tables}
        operation = str(uuid.uuid4())
        statement = sent_statement(server, sql, values, prepared, pins, operation=operation)
        return self._started(statement, prepared, [*pins.values()], partial(interrupted, server, operation))

    def _pinned(self, publisher: Publisher | None, table: Table, layouts: Sequence[Layout]) -> str:
        """Return a version of a table's metadata; raises as `pinned_version`.

        Raises:
            ConnectionClosedError: The connection was closed meanwhile: the publisher's threads have ended.
        """
        try:
            return pinned_version(publisher, self._settings.environment, table, layouts)
        except (RuntimeError, CancelledError) as error:
            if self._is_closed:
                raise closed() from error
            raise

    def _started(
        self, statement: "SparkStatement", prepared: Prepared, pins: list[str], interrupt: Callable[[], bool]
    ) -> "EmbeddedBatches":
        """Start a statement, and register it for `close`, which cancels it.

        Raises:
            ConnectionClosedError: The connection was closed meanwhile.
        """
        from dagfusion_interop.spark.spark_batches import EmbeddedBatches  # noqa: PLC0415  # an extra

        check = partial(self._engine.compare_objects, prepared)
        with self._lock:
            if not self._is_closed:
                batches = EmbeddedBatches(statement, prepared, pins, check, interrupt)
                self._running.add(batches)
                return batches
        statement.close()
        raise closed()

    def _open(self) -> _Configured:
        with self._lock:
            if self._is_closed:
                raise closed()
            if self._configured is None:
                self._configured = self._read()
            return self._configured

    def _read(self) -> _Configured:
        import_client()
        folder, publisher = self._setting(ConfigSettings, "iceberg_metadata"), None
        if folder is not None:
            allow = Grants(self._setting(ConfigSettings, "iceberg_consolidated")).allow
            publisher = Publisher(folder, self._settings, partial(allow, self._settings.environment))
        catalog, auto_bytes = (self._setting(ServiceSettings, name) for name in ("spark_catalog", "spark_auto_bytes"))
        server = SparkServer(url=self._url, catalog=catalog, session=str(uuid.uuid4()))
        return _Configured(server, auto_bytes, publisher)

    def _setting(self, kind: type[ServiceSettings | ConfigSettings], name: str) -> Any:
        """Return one setting of a service. Other settings of a service are not read, and may have any value."""
        field_ = declaration(kind, name)
        return READER.read_values([field_], self._variables).get(name, field_.default)


def _size_bytes(scan: Scan) -> int:
    """Return the bytes of the files that a plan keeps."""
    return scan.bytes if scan.files is not None else int(pc.sum(scan.table.files["size_bytes"]).as_py() or 0)
