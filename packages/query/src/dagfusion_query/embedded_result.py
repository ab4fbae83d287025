"""The result of a query of the embedded connection."""

import time
from collections.abc import Callable, Iterator

import pyarrow as pa

from dagfusion_client.abstract_connection import Result
from dagfusion_client.errors import StaleObjectError
from dagfusion_client.returned_values import QueryStats
from dagfusion_query.engine.engine import Prepared
from dagfusion_query.engine.plan_execution import Batches
from dagfusion_query.object_store import StaleRetries


class EmbeddedResult(Result):
    """The result of a query. Its first batch is there, or the query is at its end, when it is made.

    Iterating streams the batches, once; `to_arrow` and its siblings collect them. A result of which nothing has been
    taken yet starts over, on a fresh catalog, when an object that it reads has been replaced meanwhile.

    Args:
        prepared: The planned statement.
        schema: The result's columns.
        start: Starts an execution of a planned statement.
        replan: Refreshes the catalog and plans the statement again.
        started: When the statement came in (`time.perf_counter`).
    """

    def __init__(
        self,
        prepared: Prepared,
        schema: pa.Schema,
        start: Callable[[Prepared], Batches],
        replan: Callable[[], Prepared],
        started: float,
    ) -> None:
        super().__init__()
        self.schema = schema
        self._execute, self._replan, self._started = start, replan, started
        self._retries = StaleRetries()
        self._start(prepared)

    @property
    def stats(self) -> QueryStats:
        """The cost of the query so far."""
        total, read = sum(len(scan.table.files) for scan in self._prepared.scans), self._batches.files_read
        generation = self._prepared.bound.snapshot.generation
        return QueryStats(
            total,
            read,
            total - read,
            self._batches.bytes_read,
            self._rows,
            self._seconds,
            generation,
            path=self._batches.path or self._prepared.path,
            files_left_out=sum(scan.files_left_out for scan in self._prepared.scans),
        )

    def to_arrow(self) -> pa.Table:
        """Return all rows as a `pyarrow.Table`.

        Raises:
            ExecutionError: The query fails on the way, or its batches have been taken already.
        """
        self._take()
        while True:
            batches = []
            try:
                while (batch := self._pop()) is not None:
                    batches.append(batch)
            except StaleObjectError:
                self._start(self._planned_again())  # nothing has left this method yet
            else:
                return pa.Table.from_batches(batches, self.schema)

    def cancel(self) -> None:
        """Cancel the query."""
        self._batches.cancel()
        self._preview_batches.clear()

    def _next(self) -> pa.RecordBatch | None:
        return self._batches.next()

    def _batches_left(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._pop()) is not None:
            yield batch

    def _start(self, prepared: Prepared) -> None:
        """Start an execution and wait for its first batch, so that most of what can go wrong does so here."""
        while True:
            self._prepared, self._rows, self._seconds = prepared, 0, 0.0
            self._warn(prepared.warnings, 3)
            self._batches = self._execute(prepared)
            self._preview_batches.clear()
            try:
                self._preview_batches.append(self._batches.next())
            except StaleObjectError:
                prepared = self._planned_again()
            else:
                break
        self._seconds = time.perf_counter() - self._started

    def _planned_again(self) -> Prepared:
        """Plan once more on a fresh catalog, after a while if that has not helped before.

        Raises:
            StaleObjectError: The one that is handled, because it was tried often enough.
        """
        if (pause_s := self._retries.pause_s()) is None:
            raise  # noqa: PLE0704  # called while a StaleObjectError is handled
        time.sleep(pause_s)
        return self._replan()

    def _pop(self) -> pa.RecordBatch | None:
        batch = self._pull()
        self._seconds = time.perf_counter() - self._started
        self._rows += batch.num_rows if batch is not None else 0
        return batch
