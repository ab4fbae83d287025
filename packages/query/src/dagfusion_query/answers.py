"""The values that both connections return, embedded and to a service: results, stats, explanations, tables."""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from dagfusion_query.as_of import Given
from dagfusion_query.errors import ExecutionError, NotParquetError, QueryCancelledError, QueryError, needs
from dagfusion_query.generations import GENERATIONS, TableDiff, TableGeneration
from dagfusion_query.parameters import Params
from dagfusion_query.preview import Preview

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True)
class TableInfo:
    """One table of the catalog.

    Attributes:
        name: `schema.table`, as SQL uses it.
        asset_key: The asset key in Dagster.
        partition_columns: In path order.
        columns: All columns by name with their types; partition columns last.
        partitions: How many partitions are materialized.
        problem: The reason why the table cannot be queried; None if it can.
        warnings: Partitions that are left out, and why.
        problem_code: The kind of the problem, such as `not_parquet`: the asset's objects are not Parquet.
        files: The number of files; a partition may have several.
        location: The folder that holds all files, or the only file; None for tables of a service.
        required: Columns that hold no NULL.
        view: The statement of a view, which has no partitions of its own; None for a table.
        consolidated: How many of the files are also in consolidated objects, which queries read.
        would_gain: True if a consolidation would make scans faster: many small files are in no such object.
    """

    name: str
    asset_key: tuple[str, ...]
    partition_columns: tuple[str, ...]
    columns: Mapping[str, str]
    partitions: int
    rows: int
    bytes: int
    materialized_at: datetime | None
    problem: str | None
    warnings: tuple[str, ...] = ()
    problem_code: str | None = None
    files: int = 0
    location: str | None = None
    required: tuple[str, ...] = ()
    view: str | None = None
    consolidated: int = 0
    would_gain: bool = False

    @property
    def is_table(self) -> bool:
        """True if the asset's objects are Parquet, and False if they are not, such as pickles."""
        return self.problem_code != NotParquetError.code


@dataclass(frozen=True)
class QueryStats:
    """The cost of a query.

    Attributes:
        files_total: Files of the tables that the query scans, once for each scan.
        files_read: Files that were opened so far.
        files_skipped: Files that were not opened, because none of their rows can match, or a limit was reached before.
        bytes_read: Bytes requested from the object store so far. A file counts in full where the engine does not count.
        rows: Rows returned so far.
        seconds: Time from the statement to the last batch so far, planning included.
        generation: The catalog generation that was read.
        requests: Requests sent to object stores; None if they were not counted.
        path: How the query ran: `splice`, `catalog` or `staged`, see `Explanation`; or `cache` if the kept result of an
            equal query was used and nothing was read.
    """

    files_total: int
    files_read: int
    files_skipped: int
    bytes_read: int
    rows: int
    seconds: float
    generation: int
    requests: int | None = None
    path: str = ""


@dataclass(frozen=True)
class FilterEffect:
    """One filter of a scan: how many files it skips by itself, and how.

    Attributes:
        text: The filter, as DataFusion writes it.
        skipped: The number of files that it skips by itself.
        by: "partition values" (exact), "statistics" (bounds of a column), or "nothing" (rows are filtered while they
            are read).
    """

    text: str
    skipped: int
    by: str


@dataclass(frozen=True)
class ScanExplanation:
    """One scan of a table: the partitions and files that it reads.

    Attributes:
        table: `schema.table`.
        partitions: Dagster's keys of the partitions that are read, in catalog order.
        bytes_total: Size of all files; `bytes_kept` of those that are read.
        uris: Of the objects that they are read from, one a partition.
        filters: The effect of each filter.
        consolidated: Partitions that are read from large objects.
        large_objects: The URIs of these objects.
    """

    table: str
    files_total: int
    files_read: int
    bytes_total: int
    bytes_kept: int
    partitions: Sequence[str | None]
    uris: Sequence[str]
    filters: Sequence[FilterEffect]
    consolidated: int = 0
    large_objects: Sequence[str] = ()

    @property
    def in_large(self) -> str:
        """The part that is read of large objects, as words after the number of files; empty for nothing."""
        if not self.consolidated:
            return ""
        objects = (
            "1 consolidated object"
            if len(self.large_objects) == 1
            else f"{len(self.large_objects):,} consolidated objects"
        )
        return f" ({self.consolidated:,} of them in {objects})"


@dataclass(frozen=True)
class Explanation:
    """The way a query runs.

    Attributes:
        scans: The scans of the tables, each with what it reads.
        logical: DataFusion's logical plan.
        physical: DataFusion's physical plan, over the real files.
        path: "splice" (DataFusion's own Parquet scan), "catalog" (no file is read), or "staged" (the rows of each table
            are written to local files first, because the plan does not serialize).
    """

    scans: Sequence[ScanExplanation]
    logical: str
    physical: str
    path: str

    def to_arrow(self) -> pa.Table:
        """Return the plans as `EXPLAIN` does: columns plan_type and plan."""
        rows = {"files": self.summary(), "logical_plan": self.logical, "physical_plan": self.physical}
        return pa.table({"plan_type": [*rows], "plan": [*rows.values()]})

    def summary(self) -> str:
        """Return one line for each scan: the files and bytes that it reads."""
        return "\n".join(
            f"{scan.table}: {scan.files_read:,} of {scan.files_total:,} files{scan.in_large}, "
            f"{scan.bytes_kept:,} of {scan.bytes_total:,} bytes"
            for scan in self.scans
        )


class Result(ABC):
    """The result of a query. When it is returned, its first batch is ready, or the query has ended.

    The rows can be read once. Iterate to stream the batches, or collect them with `to_arrow`, `to_polars` or
    `to_pandas`. Libraries that read Arrow's C stream read a result: `pl.DataFrame(result)`, `pa.table(result)`,
    `duckdb.sql("SELECT * FROM result")`. Displaying a result shows its first rows and does not consume them.
    """

    schema: pa.Schema

    def __init__(self) -> None:
        self._taking = threading.Lock()
        self._taken = False
        self._ahead: deque[pa.RecordBatch | QueryError | None] = deque()  # read for a preview; None is the end

    @property
    @abstractmethod
    def stats(self) -> QueryStats:
        """The cost of the query so far."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches, each once.

        Raises:
            ExecutionError: The query fails on the way, or its batches have been taken already.
        """
        self._take()
        yield from self._batches_left()

    @abstractmethod
    def cancel(self) -> None:
        """Cancel the query."""

    def to_arrow(self) -> pa.Table:
        """Return all rows as a `pyarrow.Table`.

        Raises:
            ExecutionError: The query fails on the way, or its batches have been taken already.
        """
        return pa.Table.from_batches(list(self), self.schema)

    def to_polars(self) -> "pl.DataFrame":
        """Return all rows as a polars DataFrame. Needs the extra `polars`."""
        with needs("polars", "to_polars()"):
            import polars as pl  # noqa: PLC0415  # optional

        frame = pl.from_arrow(self.to_arrow())
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def to_pandas(self) -> "pd.DataFrame":
        """Return all rows as a pandas DataFrame. Needs the extra `pandas`."""
        with needs("pandas", "to_pandas()"):
            import pandas as pd  # noqa: PLC0415  # optional

        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __arrow_c_schema__(self) -> object:
        """Return the result's columns as Arrow's C schema, without reading rows."""
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows as Arrow's C stream, which yields the batches as they come, once.

        Args:
            requested_schema: A C schema to cast the columns to.

        Raises:
            ExecutionError: The batches have been taken already. An error of the query on the way is one of the stream.
        """
        self._take()
        return pa.RecordBatchReader.from_batches(self.schema, self._batches_left()).__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return self._preview().text()

    def _repr_html_(self) -> str:
        return self._preview().html()

    def __dir__(self) -> Iterable[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]

    @abstractmethod
    def _next(self) -> pa.RecordBatch | None:
        """Read the next batch; None at the end, or if the query was cancelled."""

    @abstractmethod
    def _batches_left(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a result whose rows were taken by the caller."""

    def _pull(self) -> pa.RecordBatch | None:
        """Return the next batch: one that a preview has read ahead, or a new one."""
        if not self._ahead:
            return self._next()
        batch = self._ahead.popleft()
        if isinstance(batch, QueryError):
            raise batch
        return batch

    def _preview(self) -> Preview:
        """Read ahead until there are rows to show, and keep them for the next reader."""
        with self._taking:
            if self._taken:
                return Preview(self.schema, note="its rows have been taken already")
            batches = [batch for batch in self._ahead if isinstance(batch, pa.RecordBatch)]
            while len(batches) == len(self._ahead) and not any(batch.num_rows for batch in batches):
                if (batch := self._read_ahead()) is not None:
                    batches.append(batch)
            last = self._ahead[-1]
        if isinstance(last, QueryError):
            return Preview(self.schema, batches, note=f"it failed: {last}")
        return Preview(self.schema, batches, is_whole=last is None)

    def _read_ahead(self) -> pa.RecordBatch | None:
        try:
            batch = self._next()
        except QueryError as error:
            self._ahead.append(error)  # raised when the rows are read
            return None
        except BaseException:
            self._ahead.append(QueryCancelledError("the query was interrupted while it was shown: run it again"))
            raise
        self._ahead.append(batch)
        return batch

    def _take(self) -> None:
        with self._taking:
            if self._taken:
                raise ExecutionError(
                    "this result's rows have been taken already: run the query again, or keep to_arrow()"
                )
            self._taken = True


class Connection(ABC):
    """SQL over what Dagster has materialized. Thread-safe; a context manager."""

    @abstractmethod
    def sql(self, query: str, params: Params = None, *, as_of: Given | None = None) -> Result:
        """Run a query.

        Args:
            query: One read-only statement.
            params: Values for `$1`, `$2`, ... as a sequence, or for `$name` as a mapping.
            as_of: Read the tables as they were: the id of an event of Dagster, or a time (ISO 8601 or a datetime; UTC
                without a zone).

        Returns:
            The result.

        Raises:
            StatementError: The statement cannot be run as it is written.
            ExecutionError: It failed while it ran.
            PastError: A past state cannot be read any more.
            RequestError: The service refuses the request.
        """

    @abstractmethod
    def explain(self, query: str, params: Params = None, *, as_of: Given | None = None) -> Explanation:
        """Return the files that a query would read, why it skips the others, and DataFusion's plans."""

    @abstractmethod
    def tables(self) -> list[TableInfo]:
        """Return the tables of the catalog, by name."""

    @abstractmethod
    def history(self, table: str, limit: int = GENERATIONS) -> list[TableGeneration]:
        """Return what the latest runs wrote of a table, and its wipes; newest first.

        Args:
            table: `schema.table`.
            limit: The most generations, up to 100.

        Raises:
            UnknownTableError: There is no such table.
        """

    @abstractmethod
    def diff(self, table: str, before: Given, after: Given | None = None) -> TableDiff:
        """Compare two states of a table: partitions added, rewritten and gone, from metadata alone.

        Args:
            table: `schema.table`.
            before: The first state: the id of an event of Dagster, or a time.
            after: The second; the current one by default.

        Raises:
            UnknownTableError: There is no such table.
            AsOfError: A state is in the future, or cannot be read.
            PastError: The event log does not have what the table held.
        """

    @abstractmethod
    def refresh(self) -> object:
        """Read new events now, and return when the catalog has all that were logged before the call."""

    @abstractmethod
    def close(self) -> None:
        """Cancel running queries and release all resources."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
