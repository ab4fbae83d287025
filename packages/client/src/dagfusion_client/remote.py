"""The common parts of both clients: the access token, results, and the conversion of a service's documents to values.

The values are those of the embedded engine.
"""

import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from weakref import WeakSet

import pyarrow as pa
from pyarrow import ipc

from dagfusion_client.abstract_connection import Connection, Result
from dagfusion_client.as_of import Given, read_as_of
from dagfusion_client.documents.catalog_documents import GenerationsDocument, TableDocument, TablesDocument
from dagfusion_client.documents.query_documents import Stats
from dagfusion_client.errors import EnvironmentUnavailableError, SettingsError
from dagfusion_client.returned_values import QueryStats, TableDiff, TableGeneration, TableInfo
from dagfusion_client.secrets_manager import resolved
from dagfusion_client.settings import REVISIONS, REVISIONS_LIMIT
from dagfusion_client.sql_text import parse_table
from dagfusion_contract.naming import TableName

# Messages have buffers anywhere, and readers of the rows need values at multiples of their size: DuckDB's scan warns.
ALIGNED = ipc.IpcReadOptions(ensure_alignment=ipc.Alignment.DataTypeSpecific)
_REFRESH_TIMEOUT_S = 30.0
_LOOK_S = 0.05


class RemoteResult(Result):
    """The result of a query at a service.

    Args:
        query_id: The service's id of the query.
        started: When the statement was sent (`time.perf_counter`).
    """

    def __init__(self, query_id: str, started: float) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.id, self._started = query_id, started
        self._final: Stats | None = None
        self._is_over = False
        self._rows, self._seconds = 0, 0.0

    @property
    def stats(self) -> QueryStats:
        """The cost of the query so far, fetched from the service."""
        stats = self._final
        if stats is None:
            stats = self._request_stats()
            if self._is_over:
                self._final = stats
        return query_stats(stats, self._rows, self._seconds)

    def _batches_left(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches that are left; the query is cancelled if the iteration stops early.

        Raises:
            ExecutionError: The query fails on the way.
            BrokenStreamError: The stream has no end, and the service does not say why.
        """
        try:
            while (batch := self._pull()) is not None:
                self._seconds = time.perf_counter() - self._started
                self._rows += batch.num_rows
                yield batch
            self._seconds = time.perf_counter() - self._started
        finally:
            self._end()

    def __del__(self) -> None:
        """Cancel the query when the result is garbage-collected."""
        if not getattr(self, "_is_over", True):
            self._end()

    @abstractmethod
    def _request_stats(self) -> Stats:
        """Return the query's stats: those that came with its response, or what the service has now."""

    @abstractmethod
    def _end(self) -> None:
        """Close the stream; if rows are left, this cancels the query. May be called again."""


class RemoteConnection(Connection):
    """SQL at a query service.

    Args:
        shown: The service's URL, as errors may show it.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._open: WeakSet[RemoteResult] = WeakSet()  # who forgets a result gives it up

    def tables(self) -> list[TableInfo]:
        """Return the tables of the catalog, by name."""
        tables = (table for table in self._catalog("full").tables if isinstance(table, TableDocument))
        return sorted(map(table_info, tables), key=lambda table: table.name)

    def history(self, table: str, limit: int = REVISIONS) -> list[TableGeneration]:
        """Return what the latest runs wrote of a table; see `Connection.history`."""
        return list(self._revisions(parse_table(table), min(limit, REVISIONS_LIMIT)).generations)

    def diff(self, table: str, before: Given, after: Given | None = None) -> TableDiff:
        """Compare two states of a table; see `Connection.diff`."""
        second = None if after is None else str(read_as_of(after))
        return self._diff(parse_table(table), str(read_as_of(before)), second)

    def refresh(self) -> None:
        """Return when the service's catalog has what the event logs had when this was called.

        Raises:
            EnvironmentUnavailableError: An event log cannot be read.
        """
        called = time.monotonic()
        while True:
            sent_at = time.monotonic()
            states = self._catalog("none").environments
            behind = [s.name for s in states if s.age_s is None or sent_at - s.age_s < called]
            if not behind:
                return
            if sent_at - called > _REFRESH_TIMEOUT_S:
                raise EnvironmentUnavailableError(
                    f"the service at {self._shown} could not read the event log of {', '.join(behind)} for "
                    f"{_REFRESH_TIMEOUT_S:.0f} s"
                )
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Cancel the queries whose results are open, and let the connections go."""
        with self._lock:
            results = list(self._open)
        for result in results:
            result.cancel()
        self._disconnect()

    def _opened(self, result: RemoteResult) -> None:
        with self._lock:
            self._open.add(result)

    def _ended(self, result: RemoteResult) -> None:
        with self._lock:
            self._open.discard(result)

    @abstractmethod
    def _catalog(self, tables: str) -> TablesDocument:
        """Return the service's catalog, with tables `full` or `none`."""

    @abstractmethod
    def _revisions(self, name: TableName, limit: int) -> GenerationsDocument:
        """Request the revisions of a table from the service."""

    @abstractmethod
    def _diff(self, name: TableName, before: str, after: str | None) -> TableDiff:
        """Request the difference of two states from the service."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the connections."""


def table_info(table: TableDocument) -> TableInfo:
    """Return a table from its document."""
    problem = table.problem
    return TableInfo(
        name=f"{table.schema}.{table.name}",
        asset_key=tuple(table.asset_key),
        partition_columns=tuple(table.partition_columns),
        columns={column.name: column.type for column in table.columns},
        partitions=table.partitions,
        rows=table.rows,
        bytes=table.bytes,
        materialized_at=table.materialized_at,
        problem=None if problem is None else problem.detail,
        warnings=tuple(table.warnings),
        problem_code=None if problem is None else problem.code,
        files=table.files,
        required=tuple(column.name for column in table.columns if not column.nullable),
        view=table.sql,
        consolidated=table.consolidated,
        would_gain=table.would_gain,
    )


def query_stats(stats: Stats, rows: int, seconds: float) -> QueryStats:
    """Return the stats of a query from its document.

    Args:
        stats: The service's.
        rows: Returned to the client so far.
        seconds: From the statement to the last batch so far.
    """
    return QueryStats(
        files_total=stats.files_total,
        files_read=stats.files_read,
        files_skipped=stats.files_skipped,
        bytes_read=stats.bytes_read,
        rows=rows,
        seconds=seconds,
        generation=max(stats.generations.values(), default=0),
        requests=stats.requests,
        path=stats.path,
        files_left_out=stats.files_left_out,
    )


def authorization(token: str | None) -> str | None:
    """Return the value of the header with an access token, or None without one.

    Args:
        token: The token; or a reference to the secret that has it, which is read again each minute.

    Raises:
        SettingsError: The token is malformed.
        SecretUnavailableError: The secret cannot be read.
    """
    secret = resolved(token)
    if secret is not None and not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise SettingsError("an access token must be printable ASCII without spaces: was it copied as a whole?")
    return None if secret is None else f"Bearer {secret}"
