"""Consolidations as rows of a ledger: one a row group of a large object, of the latest consolidations."""

from collections.abc import Collection, Iterable
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.consolidation import CONSOLIDATIONS, LargeObject, RowGroup
from dagfusion_query.catalog.model import CONSOLIDATED_SCHEMA, TIME, Ledger
from dagfusion_query.event_log.protocol import Consolidation


def fold_consolidated(ledger: Ledger, events: Collection[Consolidation], wiped_at_us: int | None) -> pa.Table:
    """Return the next `Ledger.consolidated`; the ledger's own when nothing about it changes.

    What a wipe takes away was written before it, and so was what consolidations before it hold. Which of the row groups
    are of use depends on the files, and is decided when a table is scanned.

    Args:
        ledger: What was known before.
        events: New or repeated, in any order.
        wiped_at_us: When the asset was wiped, microseconds since 1970.
    """
    known = ledger.consolidated
    ids = set(pc.unique(known["event_id"]).to_pylist())
    fresh = {event.event_id: event for event in events if event.event_id not in ids}
    rows = known
    if fresh:
        rows = pa.concat_tables([known, consolidated_rows(fresh.values())])
    if wiped_at_us is not None and rows.num_rows:
        moment = pa.scalar(wiped_at_us, pa.int64()).cast(TIME)
        rows = rows.filter(pc.greater(rows["logged_at"], moment))
    latest = sorted(pc.unique(rows["event_id"]).to_pylist())[-CONSOLIDATIONS:]
    if latest:
        rows = rows.filter(pc.greater_equal(rows["event_id"], latest[0]))
    if rows.num_rows == known.num_rows and not fresh:
        return known
    return rows.sort_by([("event_id", "ascending"), ("uri", "ascending"), ("offset", "ascending")]).combine_chunks()


def consolidated_rows(events: Iterable[Consolidation]) -> pa.Table:
    """Build the rows of `Ledger.consolidated`."""
    rows = [_row(event, one, group) for event in events for one in event.objects for group in one.row_groups]
    columns = list(zip(*rows, strict=True)) or [()] * len(CONSOLIDATED_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, CONSOLIDATED_SCHEMA, strict=True)]
    return pa.table(arrays, schema=CONSOLIDATED_SCHEMA)


def _row(event: Consolidation, one: LargeObject, group: RowGroup) -> tuple[object, ...]:
    moment = pa.scalar(event.at_us, pa.int64()).cast(TIME)
    return (
        event.event_id,
        moment,
        event.run_id,
        one.uri,
        one.size_bytes,
        datetime.fromisoformat(one.modified),
        one.etag,
        one.checksum,
        group.offset,
        group.rows,
        group.times,
        list(group.events),
    )
