"""The objects of a table that were written since an event, to be copied before a query asks for them."""

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.uri import S3
from dagfusion_query.catalog.model import Table
from dagfusion_query.object_cache.copies import copy_key
from dagfusion_query.scan.table_scan import CopiedScan, Scan


def new_objects(table: Table, after_event: int, limit_bytes: int, object_bytes: int) -> CopiedScan | None:
    """Find the objects that are written by later events and are copied whole.

    Args:
        table: The table.
        after_event: The last event that is too old.
        limit_bytes: The most bytes together. The newest objects come first.
        object_bytes: The most bytes of one object; larger ones are not copied.

    Returns:
        Their copies; None if there are none. The entries of the files are missing, which only plans need.
    """
    files = table.files.select(["event_id", "uri", "size_bytes", "etag"])
    is_small = pc.and_(pc.less_equal(files["size_bytes"], object_bytes), pc.is_valid(files["etag"]))
    is_wanted = pc.and_(pc.and_(pc.greater(files["event_id"], after_event), is_small), pc.starts_with(files["uri"], S3))
    numbers = pc.indices_nonzero(is_wanted).cast(pa.int64())
    newest = numbers.take(pc.sort_indices(files["event_id"].take(numbers), sort_keys=[("", "descending")]))
    sums = pc.cumulative_sum(files["size_bytes"].take(newest)).combine_chunks()
    taken = newest.filter(pc.less_equal(sums, limit_bytes))
    if not len(taken):
        return None
    scan = Scan(table, taken.take(pc.sort_indices(taken)), [])
    versions = scan.of(files.select(["uri", "etag"])).to_pylist()
    keys = [copy_key(table.environment, row["uri"], row["etag"]) for row in versions]
    return CopiedScan(scan, keys, pa.chunked_array([], pa.binary()))
