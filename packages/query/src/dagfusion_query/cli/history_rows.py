"""The rows that the command `history` shows."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from dagfusion_query.generations import TableDiff, TableGeneration

_GENERATIONS = pa.schema(
    {
        "event_id": pa.int64(),
        "at": pa.timestamp("us", "UTC"),
        "run_id": pa.string(),
        "partitions": pa.int64(),
        "rows": pa.int64(),
        "is_wipe": pa.bool_(),
    }
)
_CHANGES = pa.schema(
    {"change": pa.string(), "partition_key": pa.string(), "rows_before": pa.int64(), "rows_after": pa.int64()}
)


def generation_rows(generations: Sequence[TableGeneration]) -> pa.Table:
    """Return a row for each generation."""
    return pa.Table.from_pylist([asdict(found) for found in generations], _GENERATIONS)


def diff_rows(diff: TableDiff) -> tuple[pa.Table, str]:
    """Return a row for each partition that differs, and a line that sums them up."""
    changed = diff.added + diff.rewritten + diff.gone
    more = f"; the first {len(diff.changes):,} are shown" if changed > len(diff.changes) else ""
    note = (
        f"{diff.table}, event {diff.before} to {diff.after}: {diff.added:,} partitions added, {diff.rewritten:,} "
        f"rewritten, {diff.gone:,} gone, {diff.unchanged:,} unchanged; {diff.rows_before:,} rows to "
        f"{diff.rows_after:,}{more}"
    )
    return pa.Table.from_pylist([asdict(change) for change in diff.changes], _CHANGES), note
