"""The objects of a table that were written after an event, to be copied before a query needs them."""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.uri import S3
from dagfusion_query.catalog.model import Table
from dagfusion_query.engine.copy_requests import Missing
from dagfusion_query.engine.stored_objects import StoredObject, stored_objects
from dagfusion_query.object_cache.copies import copy_key
from dagfusion_query.scan.copied_objects import CopiedPart
from dagfusion_query.scan.table_scan import FEW, Scan


def new_objects(
    table: Table, after_event: int, limit_bytes: int, object_bytes: int, has: Callable[[str], bool]
) -> Iterator[list[Missing]]:
    """Find the objects that are written by later events, are copied whole and have no copy.

    Args:
        table: The table.
        after_event: The last event that is too old.
        limit_bytes: The most bytes together.
        object_bytes: The most bytes of one object; larger ones are not copied.
        has: Returns True if there is a copy with a key.

    Yields:
        Lists of missing copies, those of the newest files first. Partitions that share an object have one copy. A list
        may be empty, so that a cancelled caller can stop.
    """
    newest = _newest(table.files, after_event, object_bytes)
    chosen = set[str]()
    for start in range(0, len(newest), FEW):
        found = list[Missing]()
        for file in _objects(table, newest.slice(start, FEW).to_pylist()):
            key = copy_key(table.environment, file.uri, file.etag or "")
            if key in chosen or has(key):
                continue
            limit_bytes -= file.size_bytes
            if limit_bytes < 0:
                yield found
                return
            chosen.add(key)
            found.append(Missing(key, file, CopiedPart(0, 0, file.size_bytes)))
        yield found


def _objects(table: Table, numbers: Sequence[int]) -> Iterator[StoredObject]:
    """Yield the objects of a table's files, which are given as rows of it, in any order."""
    ascending = sorted(numbers)
    objects = stored_objects(Scan(table, pa.array(ascending, pa.int64()), []))
    yield from map(dict(zip(ascending, objects, strict=True)).__getitem__, numbers)


def _newest(files: pa.Table, after_event: int, object_bytes: int) -> pa.Array:
    """Return the files that later events wrote and that are copied, as rows of the table's files, the newest first."""
    is_small = pc.and_(pc.less_equal(files["size_bytes"], object_bytes), pc.is_valid(files["etag"]))
    is_wanted = pc.and_(pc.and_(pc.greater(files["event_id"], after_event), is_small), pc.starts_with(files["uri"], S3))
    numbers = pc.indices_nonzero(is_wanted).cast(pa.int64())
    return numbers.take(pc.sort_indices(files["event_id"].take(numbers), sort_keys=[("", "descending")]))
