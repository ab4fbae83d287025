"""Revisions of a table, and the difference of two of its states, from metadata alone. Pure."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.returned_values import PartitionChange, TableDiff, TableGeneration
from dagfusion_query.catalog.model import Table
from dagfusion_query.event_log.event_log_interface import Revision

SHOWN_CHANGES = 1000
_KEY = ["is_partition", "key"]  # a join takes no NULL for equal to another
_NAMES = [*_KEY, "event_id", "rows"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def table_revision(revision: Revision) -> TableGeneration:
    """Return a revision of an event log as callers see it."""
    at, first_at = (_EPOCH + timedelta(microseconds=at_us) for at_us in (revision.at_us, revision.first_us))
    return TableGeneration(
        event_id=revision.event_id,
        at=at,
        run_id=revision.run_id or None,
        partitions=revision.partitions,
        rows=revision.rows,
        is_wipe=revision.is_wipe,
        first_at=first_at,
    )


def compare(name: str, before: Table | None, after: Table | None, events: tuple[int, int]) -> TableDiff:
    """Compare two states of a table.

    Args:
        name: The table's.
        before: The first state; None if there was no table.
        after: The second.
        events: The events of the states.
    """
    joined = _partitions(before).join(_partitions(after), _KEY, join_type="full outer", right_suffix="_after")
    then, now = joined["event_id"], joined["event_id_after"]
    was, is_now = pc.is_valid(then), pc.is_valid(now)
    is_same = pc.fill_null(pc.equal(then, now), False)  # noqa: FBT003
    change = pc.if_else(was, pc.if_else(is_now, "rewritten", "gone"), "added")
    changed = joined.append_column("change", change).filter(pc.invert(is_same))
    ordered = changed.sort_by([(name, "ascending") for name in _KEY])
    counts = {row["values"]: row["counts"] for row in pc.value_counts(changed["change"]).to_pylist()}
    return TableDiff(
        table=name,
        before=events[0],
        after=events[1],
        added=counts.get("added", 0),
        rewritten=counts.get("rewritten", 0),
        gone=counts.get("gone", 0),
        unchanged=len(joined) - len(changed),
        rows_before=_sum(joined["rows"]),
        rows_after=_sum(joined["rows_after"]),
        changes=[_change(row) for row in ordered.slice(0, SHOWN_CHANGES).to_pylist()],
    )


def _change(row: dict[str, object]) -> PartitionChange:
    key = row["key"] if row["is_partition"] else None
    return PartitionChange(key, row["change"], row["rows"], row["rows_after"])  # type: ignore[arg-type]


def _partitions(table: Table | None) -> pa.Table:
    """Return key, event and rows of each partition."""
    if table is None:
        kinds = {"is_partition": pa.bool_(), "key": pa.string(), "event_id": pa.int64(), "rows": pa.int64()}
        return pa.schema(kinds).empty_table()
    keys = table.files["partition_key"]
    files = pa.table([pc.is_valid(keys), pc.fill_null(keys, ""), table.files["event_id"], table.files["rows"]], _NAMES)
    summed = files.group_by(_KEY).aggregate([("event_id", "max"), ("rows", "sum")])
    return summed.rename_columns(_NAMES)


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)
