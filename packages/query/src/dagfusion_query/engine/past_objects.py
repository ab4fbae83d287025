"""Statements as of the past: whether the objects of a past state are still there as they were."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.errors import RemovedObjectError, ReplacedObjectError
from dagfusion_query.scan.table_scan import Scan

_COLUMNS = ["event_id", "partition_key", "uri", "size_bytes", "etag", "checksum"]
_STABLE = (
    'only tables with file_naming="per_run" keep the objects of their past. Leave the partition out, or read the '
    "current table"
)


def refuse_replaced(scans: Sequence[Scan], current: Snapshot) -> None:
    """Compare what a statement reads of past states with the current catalog.

    Args:
        scans: What it reads.
        current: The current generation.

    Raises:
        ReplacedObjectError: A later event wrote one of the objects.
    """
    for scan in scans:
        now = current.tables.get(scan.table.name)
        if scan.table.as_of is not None and scan.count and now is not None and now.asset_key == scan.table.asset_key:
            _compare(scan.table, scan.kept.select(_COLUMNS), now.files.select(_COLUMNS))


def removed(table: Table, uri: str, partition: str) -> RemovedObjectError:
    """Return the error of an object of a past state that is gone."""
    return RemovedObjectError(
        f"table {table.name} cannot be read as of event {table.as_of}, which is outside of the retention: the object "
        f"of {partition} was removed ('{uri}'). Ask for a later event or time. A vacuum with a larger older_than_hours "
        "keeps objects longer"
    )


def replaced(table: Table, uri: str, partition: str, event_id: int | None = None) -> ReplacedObjectError:
    """Return the error of an object of a past state that another one has replaced."""
    by = "" if event_id is None else f" by event {event_id}"
    return ReplacedObjectError(
        f"table {table.name} cannot be read as of event {table.as_of}: the object of {partition} was written again{by} "
        f"('{uri}'); {_STABLE}"
    )


def _compare(table: Table, then: pa.Table, now: pa.Table) -> None:
    at = pc.index_in(then["uri"], value_set=pa.chunked_array(now["uri"]).combine_chunks())
    if at.null_count == len(at):
        return
    known = pc.is_valid(at)
    then, later = then.filter(known), now.take(at.drop_null())
    is_later = pc.greater(later["event_id"], then["event_id"])
    for number in pc.indices_nonzero(is_later).to_pylist():
        old, new = then.slice(number, 1).to_pylist()[0], later.slice(number, 1).to_pylist()[0]
        if not _is_same(old, new):
            key = old["partition_key"]
            partition = "the unpartitioned table" if key is None else f"partition {key}"
            raise replaced(table, old["uri"], partition, new["event_id"])


def _is_same(old: dict[str, object], new: dict[str, object]) -> bool:
    """Return True if two events describe the same content of one object."""
    version = "etag" if old["etag"] and new["etag"] else "checksum"
    return old["size_bytes"] == new["size_bytes"] and old[version] is not None and old[version] == new[version]
