"""Run a plan: batches as they come, a bound on silence, and what it read."""

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError

import pyarrow as pa
from datafusion import ExecutionPlan, RecordBatchStream

from dagfusion_query.engine.runtime import Loop


class StalledError(Exception):
    """No batch came in time; the caller finds out why, and goes on waiting or gives up."""


class Execution:
    """One run of a plan.

    Args:
        batches: The plan's batches.
        loop: Where they are awaited: waiting there can be given up, which blocking in Rust cannot.
        stall_s: Seconds without a batch until `StalledError`.
        plans: The plans that read objects, which count what they read; a run may add to them.
    """

    def __init__(
        self, batches: AsyncIterator[pa.RecordBatch], loop: Loop, stall_s: float, plans: Sequence[ExecutionPlan]
    ) -> None:
        self._batches: AsyncIterator[pa.RecordBatch] | None = batches
        self._loop, self._stall_s, self._plans = loop, stall_s, plans
        self._pending: Future[pa.RecordBatch | None] | None = None

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end.

        Raises:
            StalledError: None came in time. The batch is still awaited: call again to go on.
            Exception: What DataFusion raises.
        """
        pending = self._ask()
        if pending is None:
            return None
        try:
            batch = pending.result(self._stall_s)
        except FutureTimeoutError as error:
            if not pending.done():
                raise StalledError from error
            batch = pending.result()  # it came just now, or the error is the query's own
        except BaseException:
            self.cancel()
            raise
        self._pending = None
        if batch is None:
            self._batches = None
        return batch

    def wait(self, timeout_s: float) -> bool:
        """Start on the next batch, and return True if `next` would return it, or raise, at once."""
        pending = self._ask()
        return pending is None or pending.done() or (timeout_s > 0 and bool(wait([pending], timeout_s).done))

    def _ask(self) -> "Future[pa.RecordBatch | None] | None":
        if self._pending is None and self._batches is not None:
            self._pending = self._loop.submit(_next(self._batches))
        return self._pending

    def cancel(self) -> None:
        """Give the run up; what it holds is released. May be called on another thread."""
        if (pending := self._pending) is not None:
            pending.cancel()
        self._batches = self._pending = None

    @property
    def bytes_read(self) -> int:
        """Bytes that the scans have read so far."""
        return self._counted("bytes_scanned")

    @property
    def files_read(self) -> int:
        """Files that the scans have opened so far: a LIMIT may end a run before the last."""
        return self._counted("files_opened")

    def _counted(self, metric: str) -> int:
        metrics = (metrics for plan in self._plans for _, metrics in plan.collect_metrics())
        # Only Parquet scans count bytes; the others are of the engine's own files.
        scans = (found for found in metrics if found.sum_by_name("bytes_scanned") is not None)
        return sum(found.sum_by_name(metric) or 0 for found in scans)


async def arrow_batches(stream: RecordBatchStream) -> AsyncIterator[pa.RecordBatch]:
    """Yield a stream's batches as pyarrow's."""
    async for batch in stream:
        yield batch.to_pyarrow()


def opened_files(plan: ExecutionPlan, count: int) -> frozenset[str] | None:
    """Return the paths of the files that a plan has opened; None where these are all of its `count` files."""
    scans = [found for _, found in plan.collect_metrics()]
    if sum(found.sum_by_name("files_opened") or 0 for found in scans) >= count:
        return None
    metrics = (metric for found in scans for metric in found.metrics())
    return frozenset(name for metric in metrics if (name := metric.labels().get("filename")) is not None)


async def _next(batches: AsyncIterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return await anext(batches, None)
