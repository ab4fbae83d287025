"""What the embedded connection and those to a service have in common: the abstract connection and its result."""

import threading
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from dagfusion_client.as_of import Given
from dagfusion_client.errors import ExecutionError, QueryCancelledError, QueryError, needs
from dagfusion_client.parameters import Params
from dagfusion_client.preview import Preview
from dagfusion_client.returned_values import Explanation, QueryStats, TableDiff, TableGeneration, TableInfo
from dagfusion_client.settings import REVISIONS

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class LeftOutWarning(UserWarning):
    """A result leaves out partitions whose objects are archived or expired (`DAGFUSION_ARCHIVED_AFTER_DAYS`)."""


class Result(ABC):
    """The result of a query. When it is returned, its first batch is ready, or the query has ended.

    The rows can be read once. Iterate to stream the batches, or collect them with `to_arrow`, `to_polars` or
    `to_pandas`. Libraries that read Arrow's C stream read a result: `pl.DataFrame(result)`, `pa.table(result)`,
    `duckdb.sql("SELECT * FROM result")`. Displaying a result shows its first rows and does not consume them.

    Attributes:
        schema: The columns.
        warnings: What the result leaves out, and why. Each is also raised as a `LeftOutWarning`. Over Flight SQL they
            come after the last row.
    """

    schema: pa.Schema

    def __init__(self) -> None:
        self.warnings: Sequence[str] = ()
        self._taking = threading.Lock()
        self._is_consumed = False
        self._preview_batches: deque[pa.RecordBatch | QueryError | None] = (
            deque()
        )  # read for a preview; None is the end

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

    def _warn(self, texts: Sequence[str], level: int) -> None:
        """Set the warnings, and raise those that are new.

        Args:
            texts: The warnings.
            level: The number of calls from the caller of the connection to the caller of this method.
        """
        for text in texts:
            if text not in self.warnings:
                warnings.warn(text, LeftOutWarning, stacklevel=level + 2)
        self.warnings = tuple(texts)

    def _pull(self) -> pa.RecordBatch | None:
        """Return the next batch: one that a preview has read ahead, or a new one."""
        if not self._preview_batches:
            return self._next()
        batch = self._preview_batches.popleft()
        if isinstance(batch, QueryError):
            raise batch
        return batch

    def _preview(self) -> Preview:
        """Read ahead until there are rows to show, and keep them for the next reader."""
        with self._taking:
            if self._is_consumed:
                return Preview(self.schema, note="its rows have been taken already")
            batches = [batch for batch in self._preview_batches if isinstance(batch, pa.RecordBatch)]
            while len(batches) == len(self._preview_batches) and not any(batch.num_rows for batch in batches):
                if (batch := self._read_ahead()) is not None:
                    batches.append(batch)
            last = self._preview_batches[-1]
        if isinstance(last, QueryError):
            return Preview(self.schema, batches, note=f"it failed: {last}")
        return Preview(self.schema, batches, is_whole=last is None)

    def _read_ahead(self) -> pa.RecordBatch | None:
        try:
            batch = self._next()
        except QueryError as error:
            self._preview_batches.append(error)  # raised when the rows are read
            return None
        except BaseException:
            self._preview_batches.append(
                QueryCancelledError("the query was interrupted while it was shown: run it again")
            )
            raise
        self._preview_batches.append(batch)
        return batch

    def _take(self) -> None:
        with self._taking:
            if self._is_consumed:
                raise ExecutionError(
                    "this result's rows have been taken already: run the query again, or keep to_arrow()"
                )
            self._is_consumed = True


class Connection(ABC):
    """SQL over what Dagster has materialized. Thread-safe; a context manager."""

    @abstractmethod
    def sql(
        self, query: str, params: Params = None, *, as_of: Given | None = None, engine: str | None = None
    ) -> Result:
        """Run a query.

        Args:
            query: One read-only statement.
            params: Values for `$1`, `$2`, ... as a sequence, or for `$name` as a mapping.
            as_of: Read the tables as they were: the id of an event of Dagster, or a time (ISO 8601 or a datetime; UTC
                without a zone).
            engine: `local`, `spark` for the Spark Connect server of the query service or of this process's settings, or
                `auto` for `spark` if the files have many bytes; None for what the service is configured to.

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
    def history(self, table: str, limit: int = REVISIONS) -> list[TableGeneration]:
        """Return what the latest runs wrote of a table, and its wipes; newest first.

        Args:
            table: `schema.table`.
            limit: The most revisions, up to 100.

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
