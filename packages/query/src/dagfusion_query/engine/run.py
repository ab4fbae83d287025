"""One run of a planned statement."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from datafusion import DataFrame, ExecutionPlan, SessionContext

from dagfusion_query.engine.diagnose import diagnose, probe
from dagfusion_query.engine.execute import Execution, StalledError, arrow_batches
from dagfusion_query.engine.runtime import Planners
from dagfusion_query.engine.stores import Stores
from dagfusion_query.scan.scanned import Scan
from dagfusion_query.scan.splice import Spliced, decode
from dagfusion_query.scan.stage import Stage, Staged


class Run:
    """One run of a planned statement, whose errors say what is wrong with which object.

    Args:
        execution: The run.
        schema: The result's columns.
        scans: What the statement reads.
        stores: Where the objects are.
    """

    def __init__(self, execution: Execution, schema: pa.Schema, scans: Sequence[Scan], stores: Stores) -> None:
        self._execution, self._schema, self._scans, self._stores = execution, schema, scans, stores

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


def frame_batches(frame: DataFrame) -> AsyncIterator[pa.RecordBatch]:
    """Start a statement that reads no table, and return its batches."""
    return arrow_batches(frame.execute_stream())


def spliced_batches(
    spliced: Spliced, context: SessionContext, plans: list[ExecutionPlan]
) -> AsyncIterator[pa.RecordBatch]:
    """Start a spliced plan, and return its batches.

    Args:
        spliced: The plan.
        context: The session that it was made in.
        plans: Gets the plan that counts what is read.
    """
    plan = decode(spliced, context)
    plans.append(plan)
    return arrow_batches(context.execute(plan, 0))


async def staged_batches(
    staged: Staged, context: SessionContext, plans: list[ExecutionPlan], planners: Planners
) -> AsyncIterator[pa.RecordBatch]:
    """Write the rows of a statement's scans to local files, then yield the batches of the statement over them.

    Args:
        staged: The statement.
        context: The session that it was planned in.
        plans: Gets the plans that count what is read.
        planners: Deep stacks.
    """
    with TemporaryDirectory(prefix="dagfusion-") as folder:
        files = [Path(folder, f"{number}.arrow") for number in range(len(staged.stages))]
        for stage, file in zip(staged.stages, files, strict=True):
            await _write(stage, file, context, plans, planners)
        frame = await planners.call(lambda: staged.frame(files, context).execute_stream())
        async for batch in arrow_batches(frame):
            yield batch


async def _write(
    stage: Stage, file: Path, context: SessionContext, plans: list[ExecutionPlan], planners: Planners
) -> None:
    with pa.ipc.new_file(file, stage.schema) as writer:
        for spliced in stage.reads:
            batches = await planners.call(lambda spliced=spliced: spliced_batches(spliced, context, plans))  # type: ignore[misc]
            async for batch in batches:
                writer.write_batch(declared(batch, stage.schema))
