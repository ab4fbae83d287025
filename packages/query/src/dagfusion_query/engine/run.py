"""One run of a planned statement."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from datafusion import DataFrame, ExecutionPlan, RecordBatchStream, SessionContext

from dagfusion_query.engine.diagnose import diagnose, probe
from dagfusion_query.engine.execute import Execution, StalledError, arrow_batches, opened_files
from dagfusion_query.engine.objects import Objects
from dagfusion_query.engine.runtime import Planners
from dagfusion_query.engine.stores import Stores
from dagfusion_query.scan.scanned import Scan
from dagfusion_query.scan.splice import Spliced, decode
from dagfusion_query.scan.stage import Staged

_log = logging.getLogger(__name__)


class Run:
    """One run of a planned statement, whose errors say what is wrong with which object.

    Args:
        execution: The run.
        schema: The result's columns.
        scans: What the statement reads.
        stores: Where the objects are.
        check: Compares what was read so far with the events.
    """

    def __init__(
        self,
        execution: Execution,
        schema: pa.Schema,
        scans: Sequence[Scan],
        stores: Stores,
        check: Callable[[], None],
    ) -> None:
        self._execution, self._schema, self._scans, self._stores = execution, schema, scans, stores
        self._check = check

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end.

        Raises:
            StaleObjectError: An object is gone or has changed since its event.
            StoreUnavailableError: The object store does not answer.
            ExecutionError: The statement failed.
        """
        while True:
            try:
                batch = self._execution.next()
            except StalledError:
                if (why := probe(self._scans, self._stores)) is not None:
                    self._execution.cancel()
                    raise why from None
            except Exception as error:
                raise diagnose(error, self._scans, self._stores) from error
            else:
                return batch if batch is None else declared(batch, self._schema)

    def wait(self, timeout_s: float) -> bool:
        """Have the next batch made while something else is done; tell whether it is there within this time."""
        return self._execution.wait(timeout_s)

    def check(self) -> None:
        """Compare the objects that were read so far with their events, for a caller that takes no more batches.

        A run that comes to its end has done so before its last batch.

        Raises:
            StaleObjectError: An object is gone or has changed since its event.
            StoreUnavailableError: The object store does not answer.
        """
        self._check()

    def cancel(self) -> None:
        """Give the run up. May be called on another thread."""
        self._execution.cancel()

    @property
    def bytes_read(self) -> int:
        """Bytes of objects read so far."""
        return self._execution.bytes_read

    @property
    def files_read(self) -> int:
        """Files opened so far."""
        return self._execution.files_read


def declared(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give a batch the declared schema: DataFusion's own differs now and then in what may be NULL."""
    return batch if batch.schema == schema else pa.RecordBatch.from_arrays(batch.columns, schema=schema)


@dataclass(frozen=True)
class Means:
    """What a run needs beside its plan.

    Attributes:
        context: The session that the plan was made in.
        planners: Deep stacks, on which plans are made and started.
        objects: Local copies, and comparisons with the events.
        plans: Gets the plans that count what is read.
        unchecked: Gets the plans whose objects were not all compared with their events yet.
    """

    context: SessionContext
    planners: Planners
    objects: Objects
    plans: list[ExecutionPlan] = field(default_factory=list)
    unchecked: list[tuple[Spliced, ExecutionPlan]] = field(default_factory=list)

    async def check(self) -> None:
        """Compare the objects that were read in place so far with their events."""
        for spliced, plan in self.unchecked:
            count = sum(scan.count for scan in spliced.scans)
            await self.objects.check(spliced.in_place, partial(opened_files, plan, count))


async def frame_batches(frame: DataFrame, means: Means) -> AsyncIterator[pa.RecordBatch]:
    """Yield the batches of a statement that reads no table."""
    async for batch in arrow_batches(await means.planners.call(frame.execute_stream)):
        yield batch


async def spliced_batches(spliced: Spliced, means: Means) -> AsyncIterator[pa.RecordBatch]:
    """Yield the batches of a spliced plan. The last one comes when all that was read is known to be the events'."""
    async with AsyncExitStack() as pins:
        try:
            missing = await pins.enter_async_context(means.objects.pinned(spliced.copied))
            if missing:
                await means.objects.fetch(missing)
        except OSError as error:
            _log.warning("objects are read in place, because local copies of them cannot be made: %s", error)
            spliced = await means.planners.call(spliced.without_copies)
        plan, stream = await means.planners.call(lambda: _start(spliced, means.context))
        means.plans.append(plan)
        means.unchecked.append((spliced, plan))
        if not spliced.in_place:
            async for batch in arrow_batches(stream):
                yield batch
            return
        held = None
        async for batch in arrow_batches(stream):
            if held is not None:
                yield held
            held = batch
        await means.check()
        means.unchecked.clear()
        if held is not None:
            yield held


async def staged_batches(staged: Staged, means: Means) -> AsyncIterator[pa.RecordBatch]:
    """Write the rows of a statement's scans to local files, then yield the batches of the statement over them."""
    with TemporaryDirectory(prefix="dagfusion-") as folder:
        files = [Path(folder, f"{number}.arrow") for number in range(len(staged.stages))]
        for stage, file in zip(staged.stages, files, strict=True):
            with pa.ipc.new_file(file, stage.schema) as writer:
                for spliced in stage.reads:
                    async for batch in spliced_batches(spliced, means):
                        writer.write_batch(declared(batch, stage.schema))
        frame = await means.planners.call(lambda: staged.frame(files, means.context))
        async for batch in frame_batches(frame, means):
            yield batch


def _start(spliced: Spliced, context: SessionContext) -> tuple[ExecutionPlan, RecordBatchStream]:
    plan = decode(spliced, context)
    return plan, context.execute(plan, 0)
