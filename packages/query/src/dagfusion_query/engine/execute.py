"""Run a physical plan: batches as they come, a bound on silence, and what it read."""

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
        stream: The plan's batches.
        loop: Where they are awaited: waiting there can be given up, which blocking in Rust cannot.
        stall_s: Seconds without a batch until `StalledError`.
        plan: The plan, which counts what its scans read.
    """

    def __init__(
        self, stream: RecordBatchStream, loop: Loop, stall_s: float, plan: ExecutionPlan | None = None
    ) -> None:
        self._stream: RecordBatchStream | None = stream
        self._loop, self._stall_s, self._plan = loop, stall_s, plan
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
            if pending.done():  # the query's own TimeoutError, not ours
                raise
            raise StalledError from error
        except BaseException:
            self.cancel()
            raise
        self._pending = None
        if batch is None:
            self._stream = None
        return batch

    def wait(self, timeout_s: float) -> bool:
        """Have the next batch made, and tell whether `next` would return it, or raise, at once."""
        pending = self._ask()
        return pending is None or pending.done() or (timeout_s > 0 and bool(wait([pending], timeout_s).done))

    def _ask(self) -> "Future[pa.RecordBatch | None] | None":
        if self._pending is None and self._stream is not None:
            self._pending = self._loop.submit(_next(self._stream))
        return self._pending

    def cancel(self) -> None:
        """Give the run up; what it holds is released. May be called on another thread."""
        if (pending := self._pending) is not None:
            pending.cancel()
        self._stream = self._pending = None

    @property
    def bytes_read(self) -> int | None:
        """Bytes that the scans have asked the object store for, so far; None where nobody counts."""
        if self._plan is None:
            return None
        return sum(metrics.sum_by_name("bytes_scanned") or 0 for _, metrics in self._plan.collect_metrics())


async def _next(stream: RecordBatchStream) -> pa.RecordBatch | None:
    try:
        batch = await stream.__anext__()
    except StopAsyncIteration:
        return None
    return batch.to_pyarrow()
