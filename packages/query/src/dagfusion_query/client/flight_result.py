"""A result as it comes over Flight, batch by batch."""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
from pyarrow import flight

from dagfusion_query.answers import QueryStats
from dagfusion_query.client.documents import read_stats
from dagfusion_query.client.flight_calls import FAILURES, Calls
from dagfusion_query.doors.flight import messages
from dagfusion_query.errors import ExecutionError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class FlightResult:
    """The result of a query at a service. Its first batch is on its way, or the query is at its end, when it is made.

    Args:
        calls: To the service.
        info: Where the rows are.
        started: When the statement was sent (`time.perf_counter`).

    Raises:
        QueryError: The rows are not there any more.
    """

    def __init__(self, calls: Calls, info: flight.FlightInfo, started: float) -> None:
        self._calls, self._started = calls, started
        self.id = info.app_metadata.decode()
        self.schema: pa.Schema = info.schema
        self._lock = threading.Lock()
        self._taken = self._is_over = False
        self._cancelled = threading.Event()
        self._rows = 0
        self._final: Mapping[str, Any] | None = None
        ticket = info.endpoints[0].ticket
        self._reader, self._call = calls.listened(lambda client, options: client.do_get(ticket, options))
        self._seconds = time.perf_counter() - started

    @property
    def stats(self) -> QueryStats:
        """What the query has read so far; the service is asked for it."""
        told = self._final
        if told is None:
            told = orjson.loads(b"".join(self._calls.act(messages.QUERY, self.id.encode())))["stats"]
            if self._is_over:
                self._final = told
        return read_stats(told, self._rows, self._seconds)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches, each once; the query is cancelled when nobody wants more of them.

        Raises:
            ExecutionError: The query fails on the way, or its batches have been taken already.
        """
        with self._lock:
            if self._taken:
                raise ExecutionError(
                    "this result's rows have been taken already: run the query again, or keep to_arrow()"
                )
            self._taken = True
        try:
            while (batch := self._next()) is not None:
                yield batch
        finally:
            self._end()

    def to_arrow(self) -> pa.Table:
        """Return all rows as a `pyarrow.Table`.

        Raises:
            ExecutionError: The query fails on the way, or its batches have been taken already.
        """
        return pa.Table.from_batches(list(self), self.schema)

    def to_polars(self) -> "pl.DataFrame":
        """Return all rows as a polars DataFrame. Needs the extra `polars`."""
        import polars as pl  # noqa: PLC0415  # optional

        frame = pl.from_arrow(self.to_arrow())
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def to_pandas(self) -> "pd.DataFrame":
        """Return all rows as a pandas DataFrame. Needs the extra `pandas`."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def cancel(self) -> None:
        """Give the query up, also while another thread takes its rows."""
        self._cancelled.set()
        self._end()

    def __del__(self) -> None:
        """Give the query up when nobody can take its rows any more."""
        if not getattr(self, "_is_over", True):
            self._end()

    def _next(self) -> pa.RecordBatch | None:
        if self._cancelled.is_set():
            return None
        try:
            batch = self._reader.read_chunk().data
        except StopIteration:
            batch, self._is_over = None, True
        except FAILURES as error:
            if self._cancelled.is_set():
                return None
            raise self._call.error(error, self._calls.shown) from error
        self._seconds = time.perf_counter() - self._started
        self._rows += batch.num_rows if batch is not None else 0
        return batch

    def _end(self) -> None:
        """Cancel what is left of the stream."""
        with self._lock:
            is_over, self._is_over = self._is_over, True
        if not is_over:
            self._reader.cancel()
