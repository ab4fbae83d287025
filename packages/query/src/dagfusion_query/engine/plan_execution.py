"""The execution of a planned statement: streams the batches, detects stalls, and counts what was read."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeAlias

import pyarrow as pa
from datafusion import DataFrame, ExecutionPlan, RecordBatchStream, SessionContext

from dagfusion_query.engine.copy_requests import RequestTime
from dagfusion_query.engine.datafusion_errors import is_decoding_error
from dagfusion_query.engine.object_requests import ObjectRequests
from dagfusion_query.engine.plan_metrics import file_openings, opened_files, read_bytes, repeated_openings, waited_s
from dagfusion_query.engine.reuse import Keeper, timed
from dagfusion_query.engine.runtime import Loop, Planners, Stores, arrow_batches
from dagfusion_query.engine.stored_objects import diagnose, is_about_objects, probe
from dagfusion_query.object_cache.claims import BEAT_S
from dagfusion_query.object_cache.copies import CopyUse, TableFetch
from dagfusion_query.object_cache.parquet_blocks import NoBlocksError
from dagfusion_query.scan.splice import Spliced
from dagfusion_query.scan.stage import Staged
from dagfusion_query.scan.table_scan import Scan

_log = logging.getLogger(__name__)
_Started: TypeAlias = tuple[ExecutionPlan, RecordBatchStream]


class Batches(Protocol):
    """The source of the batches of a result."""

    @property
    def path(self) -> str | None:
        """The way they are made, if it is not the plan's."""

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end."""

    def wait(self, timeout_s: float) -> bool:
        """Return True if `next` would return the next batch, or raise, at once; wait for that no longer than this."""

    def check(self) -> None:
        """Compare the objects that were read so far with their events."""

    def cancel(self) -> None:
        """Cancel the remaining batches."""

    @property
    def bytes_read(self) -> int:
        """Bytes read so far."""

    @property
    def files_read(self) -> int:
        """Files opened so far."""

    @property
    def requests_s(self) -> float:
        """Seconds of requests to object stores so far, added over those at once; see `Stats.requests_s`."""

    @property
    def fetches(self) -> Sequence[TableFetch]:
        """The requests so far that made local copies."""

    @property
    def copies(self) -> CopyUse:
        """The local copies that were needed so far."""


class Finished:
    """The batches of a table that is there already.

    Args:
        table: The table.
        path: See `Batches`.
    """

    bytes_read = files_read = 0
    requests_s = 0.0
    fetches: Sequence[TableFetch] = ()
    copies = CopyUse()

    def __init__(self, table: pa.Table, path: str | None = None) -> None:
        self.path: str | None = path
        self._batches = iter(table.to_batches())

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end."""
        return next(self._batches, None)

    def wait(self, timeout_s: float) -> bool:  # noqa: ARG002  # nothing takes time here
        """Return True: all batches are there."""
        return True

    def check(self) -> None:
        """Do nothing: no object was read."""

    def cancel(self) -> None:
        """Drop the batches that are left."""
        self._batches = iter(())


class Execution:
    """The execution of a planned statement, whose errors say what is wrong with which object.

    Args:
        batches: The plan's batches.
        execution_context: What the batches are made with. It gets the plans that count what they read.
        schema: The result's columns.
        scans: What the statement reads.
        keeper: Is shown the batches, for the next execution of an equal plan; None where nothing is kept.
    """

    path: str | None = None

    def __init__(
        self,
        batches: AsyncIterator[pa.RecordBatch],
        execution_context: "ExecutionContext",
        schema: pa.Schema,
        scans: Sequence[Scan],
        keeper: Keeper | None = None,
    ) -> None:
        self._batches: AsyncIterator[pa.RecordBatch] | None = batches
        self._execution_context, self._schema, self._scans, self._keeper = execution_context, schema, scans, keeper
        self._pending: Future[pa.RecordBatch | None] | None = None

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end.

        Raises:
            StaleObjectError: An object is gone or has changed since its event.
            StoreUnavailableError: The object store does not answer.
            ExecutionError: The statement failed.
        """
        return self._next() if self._keeper is None else timed(self._next, self._keeper)

    def _next(self) -> pa.RecordBatch | None:
        while True:
            try:
                batch = self._received()
            except _StalledError:
                if (why := probe(self._scans, self._execution_context.stores)) is not None:
                    self._release()
                    raise why from None
            except Exception as error:
                raise diagnose(error, self._scans, self._execution_context.stores) from error
            else:
                return batch if batch is None else declared(batch, self._schema)

    def _received(self) -> pa.RecordBatch | None:
        """Wait for the next batch, and return it, or None at the end.

        Raises:
            _StalledError: None came in time. The batch is still awaited: call again to go on.
            Exception: What DataFusion raises.
        """
        pending = self._request_batch()
        if pending is None:
            return None
        left_s = self._execution_context.stall_s
        try:
            while self._keeper is not None and left_s > BEAT_S and not wait([pending], BEAT_S).done:
                self._keeper.beat()
                left_s -= BEAT_S
            batch = pending.result(left_s)
        except FutureTimeoutError as error:
            if not pending.done():
                raise _StalledError from error
            batch = pending.result()  # it came just now, or the error is the query's own
        except BaseException:
            self._release()
            raise
        self._pending = None
        if batch is None:
            self._batches = None
        return batch

    def wait(self, timeout_s: float) -> bool:
        """Start on the next batch, and return True if `next` would return it, or raise, at once."""
        pending = self._request_batch()
        if pending is None or pending.done() or timeout_s <= 0:
            return pending is None or pending.done()
        with suppress(FutureTimeoutError, CancelledError):  # of which each means what `done` says
            pending.exception(timeout_s)
        return pending.done()

    def _request_batch(self) -> "Future[pa.RecordBatch | None] | None":
        if self._pending is None and self._batches is not None:
            self._pending = self._execution_context.loop.submit(_next(self._batches))
        return self._pending

    def check(self) -> None:
        """Compare the objects that were read so far with their events, for a caller that takes no more batches.

        An execution that comes to its end has done so before its last batch.

        Raises:
            StaleObjectError: An object is gone or has changed since its event.
            StoreUnavailableError: The object store does not answer.
        """
        self._execution_context.loop.submit(self._execution_context.check()).result()

    def cancel(self) -> None:
        """Cancel the execution and release its resources. May be called on another thread."""
        if self._keeper is not None:
            self._keeper.drop()
        self._release()

    def _release(self) -> None:
        if (pending := self._pending) is not None:
            pending.cancel()
        self._batches = self._pending = None

    @property
    def bytes_read(self) -> int:
        """Bytes of objects that the scans have read so far."""
        return read_bytes(self._execution_context.plans)

    @property
    def files_read(self) -> int:
        """Files that the scans have opened so far: a LIMIT may end an execution before the last."""
        context = self._execution_context
        return file_openings(context.plans) - sum(repeated_openings(*split) for split in context.split)

    @property
    def requests_s(self) -> float:
        """Seconds of requests to object stores so far, added over those at once; see `Stats.requests_s`."""
        context = self._execution_context
        return context.spent.seconds + waited_s(context.in_place, context.spent.is_copy)

    @property
    def fetches(self) -> Sequence[TableFetch]:
        """The requests so far that made local copies."""
        return [*self._execution_context.spent.fetches.values()]

    @property
    def copies(self) -> CopyUse:
        """The local copies that were needed so far."""
        return self._execution_context.spent.copies


def declared(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the declared schema; DataFusion's own may differ in nullability."""
    return batch if batch.schema == schema else pa.RecordBatch.from_arrays(batch.columns, schema=schema)


@dataclass(frozen=True)
class ExecutionContext:
    """The parts of an engine that an execution needs beside its plan.

    Attributes:
        context: The session that the plan was made in.
        planners: Deep stacks, on which plans are made and started.
        loop: Where batches are awaited: waiting there can be given up, which blocking in Rust cannot.
        stall_s: Seconds without a batch after which the stores are probed.
        stores: Where the objects are.
        objects: Local copies, and comparisons with the events.
        lost: Called with the scans whose large objects cannot be read.
        plans: Gets the plans that count what is read.
        split: Gets those that read some objects in parts, with the objects of copies; see `CopiedScan.objects`.
        in_place: Gets those that read objects from their stores.
        unchecked: Gets the plans whose objects were not all compared with their events yet.
        spent: The time of the requests beside DataFusion's own.
    """

    context: SessionContext
    planners: Planners
    loop: Loop
    stall_s: float
    stores: Stores
    objects: ObjectRequests
    lost: Callable[[Sequence[Scan]], None]
    plans: list[ExecutionPlan] = field(default_factory=list)
    split: list[tuple[ExecutionPlan, Mapping[str, str]]] = field(default_factory=list)
    in_place: list[ExecutionPlan] = field(default_factory=list)
    unchecked: list[tuple[Spliced, ExecutionPlan]] = field(default_factory=list)
    spent: RequestTime = field(default_factory=RequestTime)

    async def check(self) -> None:
        """Compare the objects that were read in place so far with their events."""
        for spliced, plan in self.unchecked:
            count = sum(scan.most_opened for scan in spliced.scans)
            await self.objects.check(spliced.in_place, partial(opened_files, plan, count), self.spent)


async def frame_batches(frame: DataFrame, execution_context: ExecutionContext) -> AsyncIterator[pa.RecordBatch]:
    """Yield the batches of a statement that reads no table."""
    stream = await execution_context.planners.call(frame.execute_stream)
    async for batch in arrow_batches(stream):
        yield batch


async def spliced_batches(spliced: Spliced, execution_context: ExecutionContext) -> AsyncIterator[pa.RecordBatch]:
    """Yield the batches of a spliced plan. The last one comes when all that was read is known to be the events'.

    A large object that is gone or damaged costs time only: the statement starts over, from small objects. Where batches
    were taken already, it fails, and is planned without large objects when it is executed again.
    """
    has_begun = False
    try:
        async for batch in _spliced_batches(spliced, execution_context):
            has_begun = True
            yield batch
    except Exception as error:
        if spliced.without_large is None or not is_about_objects(error):
            raise
        execution_context.lost(spliced.scans)
        if is_decoding_error(error):
            await execution_context.objects.discard_blocks(spliced.copied)
        if has_begun:
            raise
        _log.warning("large objects cannot be read, so the small ones are: %s", error)
        execution_context.plans.clear()
        execution_context.split.clear()
        execution_context.in_place.clear()
        execution_context.unchecked.clear()
        without_large = await execution_context.planners.call(spliced.without_large)
        async for batch in _spliced_batches(without_large, execution_context):
            yield batch


async def _spliced_batches(spliced: Spliced, execution_context: ExecutionContext) -> AsyncIterator[pa.RecordBatch]:
    planners, objects, context = execution_context.planners, execution_context.objects, execution_context.context
    async with AsyncExitStack() as pins:
        started: _Started | None = None
        try:
            pinned = objects.pinned(spliced.copied, planners, partial(_start, spliced, context))
            missing, started = await pins.enter_async_context(pinned)
            if missing:
                await objects.copying.fetch(missing, execution_context.spent)
            execution_context.spent.used(spliced.copied, missing)
        except (OSError, NoBlocksError) as error:
            _log.warning("objects are read in place, because local copies of them cannot be made: %s", error)
            spliced = await planners.call(spliced.without_copies)
        if started is None:
            started = await planners.call(partial(_start, spliced, context))
        plan, stream = started
        execution_context.plans.append(plan)
        if spliced.without_large is not None:
            large = (named for scan in spliced.copied if scan.scan.is_large for named in scan.objects)
            execution_context.split.append((plan, dict(large)))
        execution_context.unchecked.append((spliced, plan))
        if spliced.in_place:
            execution_context.in_place.append(plan)
        else:
            async for batch in arrow_batches(stream):
                yield batch
            return
        last = None
        async for batch in arrow_batches(stream):
            if last is not None:
                yield last
            last = batch
        await execution_context.check()
        execution_context.unchecked.clear()
        if last is not None:
            yield last


async def staged_batches(staged: Staged, execution_context: ExecutionContext) -> AsyncIterator[pa.RecordBatch]:
    """Write the rows of a statement's scans to local files, then yield the batches of the statement over them."""
    with TemporaryDirectory(prefix="dagfusion-") as folder:
        files = [Path(folder, f"{number}.arrow") for number in range(len(staged.stages))]
        for stage, file in zip(staged.stages, files, strict=True):
            with pa.ipc.new_file(file, stage.schema) as writer:
                for spliced in stage.plans:
                    async for batch in spliced_batches(spliced, execution_context):
                        writer.write_batch(declared(batch, stage.schema))
        frame = await execution_context.planners.call(lambda: staged.frame(files, execution_context.context))
        async for batch in frame_batches(frame, execution_context):
            yield batch


class _StalledError(Exception):
    """No batch came in time; the caller finds out why, and goes on waiting or gives up."""


def _start(spliced: Spliced, context: SessionContext) -> _Started:
    plan = ExecutionPlan.from_bytes(context, spliced.plan)  # which is executed once
    return plan, context.execute(plan, 0)


async def _next(batches: AsyncIterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return await anext(batches, None)
