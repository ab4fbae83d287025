"""The tables that filters run over to prune: the files of a table, and blocks of files with the bounds of their values.

Files have the order of their events. So the files of a day, or of a run, are near each other, and most blocks of a
large table have other partition values than a query of one partition asks for. Their files are not looked at.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datafusion import DataFrame, Expr, SessionConfig, SessionContext
from datafusion.catalog import Schema

from dagfusion_contract.naming import TableName

FILE = "\x1ffile"  # the number of a file in the table's catalog
# Columns of a pruning table, beside the partition columns; \x1f is in no column name that a person writes.
MIN, MAX, NULLS, ROWS = "\x1fmin", "\x1fmax", "\x1fnulls", "\x1frows"
BLOCK_FILES = 8192
LEAST_BLOCKS = 16  # the files of fewer are filtered as fast as their bounds
MOST_SHARE = 0.25  # of the files, above which filtering all of them is as fast


def context_over(name: TableName, table: pa.Table) -> SessionContext:
    """Return a session with one table, without a copy of its columns."""
    # One partition: a second one costs more to plan than it saves, up to about a million files.
    context = SessionContext(SessionConfig().with_target_partitions(1))
    schema = Schema.memory_schema()
    context.catalog().register_schema(name.schema, schema)
    # A batch without rows may have an offset, with which DataFusion 55 panics in ILIKE.
    batches = [batch for batch in table.to_batches() if batch.num_rows]
    context.register_record_batches("rows", [batches or [pa.RecordBatch.from_pylist([], table.schema)]])
    schema.register_table(name.table, context.table_provider("rows"))
    return context


def files_table(files: pa.Table, runs: Sequence[tuple[int, int]]) -> pa.Table:
    """Return the partition values and statistics of files as flat columns, without a copy.

    Args:
        files: The catalog of a table; see `scan_files`.
        runs: The chosen files: the first row of each run, and the row after its last one.
    """
    numbers = [np.arange(first, end, dtype=np.int64) for first, end in runs]
    files = pa.concat_tables([files.slice(0, 0), *(files.slice(first, end - first) for first, end in runs)])
    columns = {FILE: pa.array(np.concatenate([np.array([], np.int64), *numbers])), ROWS: files["rows"]}
    columns |= _children(files["partition"])
    for number, stats in enumerate(_children(files["stats"]).values()):
        of = _children(stats)
        columns |= {f"{NULLS}{number}": of["nulls"], f"{MIN}{number}": of["min"], f"{MAX}{number}": of["max"]}
    return pa.table(columns)


class FileBlocks:
    """The files of one table in blocks of neighbours, with the bounds of each block's partition values.

    Args:
        name: The scan's name.
        files: The catalog of the table; see `scan_files`.

    Attributes:
        columns: The partition columns and their numbers; the bounds of column 3 are `MIN3`, `MAX3`, `NULLS3`.
    """

    def __init__(self, name: TableName, files: pa.Table) -> None:
        self._count = len(files)
        values = _children(files["partition"])
        self.columns = {column: number for number, column in enumerate(values)}
        starts = range(0, self._count, BLOCK_FILES)
        bounds = {ROWS: pa.array([min(BLOCK_FILES, self._count - start) for start in starts], pa.int64())}
        for number, column in enumerate(values.values()):
            blocks = [column.slice(start, BLOCK_FILES) for start in starts]
            bounds[f"{NULLS}{number}"] = pa.array([block.null_count for block in blocks], pa.int64())
            bounds[f"{MIN}{number}"], bounds[f"{MAX}{number}"] = _bounds(blocks, column.type)
        table = pa.table({FILE: pa.array(starts, pa.int64()), **bounds})
        self._context = context_over(name, table)

    def chosen(self, predicates: Sequence[Expr], relation: str) -> list[tuple[int, int]] | None:
        """Return the files of the blocks that pass all predicates, in runs of neighbours; None if these are many.

        Args:
            predicates: Predicates over the bounds of blocks.
            relation: The table as the query spells it; the columns of predicates may carry it.
        """
        if not predicates:
            return None
        frame = self._context.table(relation)
        for predicate in predicates:
            frame = frame.filter(predicate)
        starts = collected(frame)
        if len(starts) * BLOCK_FILES > MOST_SHARE * self._count:
            return None
        runs: list[tuple[int, int]] = []
        for start in starts.to_pylist():
            end = min(start + BLOCK_FILES, self._count)
            first = runs.pop()[0] if runs and runs[-1][1] == start else start
            runs.append((first, end))
        return runs


def collected(frame: DataFrame) -> pa.Array:
    """Return the numbers of the files, or of the first files of blocks, that a table has: int64, ascending."""
    batches = frame.select(Expr.column(FILE)).collect()
    return pa.concat_arrays([pa.array([], pa.int64()), *(batch.column(0) for batch in batches)])


def _bounds(blocks: Sequence[pa.ChunkedArray], kind: pa.DataType) -> Iterator[pa.Array]:
    """Yield the least and the greatest value of each block; null where there is none, and for floats.

    Arrow leaves NaN out of bounds, and takes 0.0 and -0.0 for equal. DataFusion has an order for all of them.
    """
    if pa.types.is_floating(kind):
        yield from [pa.nulls(len(blocks), kind)] * 2
        return
    found = [pc.min_max(block) for block in blocks]
    for end in ("min", "max"):
        yield pa.array([one[end] for one in found], kind)


def _children(column: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Return the fields of a struct column by name; a null struct has null fields."""
    return dict(zip((field.name for field in column.type), column.flatten(), strict=True))
