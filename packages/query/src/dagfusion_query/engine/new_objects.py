"""The objects of a table that were written since an event, to be copied before a query asks for them."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.uri import S3
from dagfusion_query.catalog.model import Table
from dagfusion_query.engine.object_requests import Missing
from dagfusion_query.engine.stored_objects import stored_objects
from dagfusion_query.object_cache.copies import copy_key
from dagfusion_query.scan.table_scan import CopiedPart, Scan


def new_objects(
    table: Table, after_event: int, limit_bytes: int, object_bytes: int, has: Callable[[str], bool]
) -> list[Missing]:
    """Find the objects that are written by later events, are copied whole and have no copy.

    Args:
        table: The table.
        after_event: The last event that is too old.
        limit_bytes: The most bytes together.
        object_bytes: The most bytes of one object; larger ones are not copied.
        has: Returns True if there is a copy with a key.

    Returns:
        Their copies, that of the newest object first.
    """
    files = table.files.select(["event_id", "uri", "size_bytes", "etag"])
    is_small = pc.and_(pc.less_equal(files["size_bytes"], object_bytes), pc.is_valid(files["etag"]))
    is_wanted = pc.and_(pc.and_(pc.greater(files["event_id"], after_event), is_small), pc.starts_with(files["uri"], S3))
    numbers = pc.indices_nonzero(is_wanted).cast(pa.int64())
    newest = numbers.take(pc.sort_indices(files["event_id"].take(numbers), sort_keys=[("", "descending")]))
    keys: dict[int, str] = {}  # by the row of the file
    for number, row in zip(newest.to_pylist(), files.take(newest).to_pylist(), strict=True):
        key = copy_key(table.environment, row["uri"], row["etag"])
        if not has(key):
            limit_bytes -= row["size_bytes"]
            if limit_bytes < 0:
                break
            keys[number] = key
    ascending = sorted(keys)
    objects = stored_objects(Scan(table, pa.array(ascending, pa.int64()), []))
    parts = {
        number: (file, CopiedPart(place, 0, file.size_bytes))
        for place, (number, file) in enumerate(zip(ascending, objects, strict=True))
    }
    return [Missing(key, *parts[number]) for number, key in keys.items()]
