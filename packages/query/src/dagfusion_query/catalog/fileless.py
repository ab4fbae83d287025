"""Materializations that name no file: they hide no file, and a table's warnings tell of them. Pure."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.compact import without
from dagfusion_query.catalog.model import Ledger
from dagfusion_query.catalog.rows import fileless_rows, find_partitions, rank
from dagfusion_query.event_log.protocol import Materialization

Latest = Mapping[str | None, Materialization]


def fold_fileless(ledger: Ledger, fileless: Latest, named: Latest) -> pa.Table:
    """Return the next `Ledger.fileless`; the ledger's own when the events say nothing new.

    Args:
        ledger: What was known before.
        fileless: By partition key, the latest new event that names no file.
        named: By partition key, the latest new event that names a file, also one that was refused or wiped.
    """
    before = ledger.fileless
    if not fileless and not (named and before.num_rows):
        return before
    fresh = {key: event for key, event in fileless.items() if not _is_later(named.get(key), rank(event))}
    keys = pa.array(fresh, pa.string())
    for rows in (*(rows for segment in ledger.segments for rows in segment.live()), ledger.absent):
        for _, key, known in find_partitions(rows, keys):
            if key in fresh and known > rank(fresh[key]):
                del fresh[key]
    gone = []
    for row, key, known in find_partitions(before, pa.array({**fresh, **named}, pa.string())):
        if _is_later(named.get(key), known) or _is_later(fresh.get(key), known):
            gone.append(row)
        else:
            fresh.pop(key, None)
    if not gone and not fresh:
        return before
    kept = without(before, gone) if gone else before
    return pa.concat_tables([kept, fileless_rows(fresh.values())]).combine_chunks()


def not_wiped(ledger: Ledger) -> pa.Table:
    """Return the rows of `Ledger.fileless` that came after the latest wipe."""
    if ledger.wiped_at_us is None or not ledger.fileless.num_rows:
        return ledger.fileless
    moment = pa.scalar(ledger.wiped_at_us, pa.int64()).cast(pa.timestamp("us", "UTC"))
    return ledger.fileless.filter(pc.greater(ledger.fileless["materialized_at"], moment))


def _is_later(event: Materialization | None, known: tuple[int, int]) -> bool:
    return event is not None and rank(event) > known
