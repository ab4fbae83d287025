"""Scans that read local copies of objects instead of the objects.

An object that is fetched whole by one request has the bytes of one version, and a checksum can be compared. Small
objects are read this way, which is also the fastest: one request an object instead of three, and none the next time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.model import Table
from dagfusion_query.catalog.partitioned_file import with_paths
from dagfusion_query.object_store import object_path
from dagfusion_query.scan.large_objects import LargeRead
from dagfusion_query.scan.table_scan import Scan

MANY = 256  # files from which a scan that may not need all of them reads the objects in place


@dataclass(frozen=True)
class CopiedScan:
    """A scan that reads copies.

    Attributes:
        keys: Of the copies, in the scan's order.
        entries: The scan's encoded files, or parts of them, with the paths of the copies.
    """

    scan: Scan
    keys: Sequence[str]
    entries: pa.ChunkedArray

    @property
    def objects(self) -> Iterator[tuple[str, str]]:
        """The last two parts of each copy's path, with the path of its object."""
        names = (f"{key[:2]}/{key[2:]}" for key in self.keys)
        return zip(names, map(object_path, self.scan.kept["uri"].to_pylist()), strict=True)


class CopyPolicy:
    """Decides which scans read copies, and gives their paths.

    Args:
        path: Gives the path of the copy with a key.
        key: Gives the key of the copy of an object, from its environment, URI and etag.
        object_bytes: The largest object that is copied.
        scan_bytes: The most bytes that one scan may copy.
    """

    def __init__(
        self, path: Callable[[str], str], key: Callable[[str, str, str], str], object_bytes: int, scan_bytes: int
    ) -> None:
        self._path, self._key = path, key
        self._object_bytes, self._scan_bytes = object_bytes, scan_bytes
        # Of whole tables, made once a generation.
        self._tables: WeakKeyDictionary[Table, tuple[list[str], pa.ChunkedArray]] = WeakKeyDictionary()

    def copied(self, scan: Scan, entries: pa.ChunkedArray) -> CopiedScan | None:
        """Return a scan's copies; None where its objects are read in place: large, local or without an etag.

        Args:
            scan: The scan.
            entries: The encoded files of its table.
        """
        kept = scan.kept.select(["uri", "size_bytes", "etag"])
        if not self._takes(kept):
            return None
        if scan.count <= MANY:
            keys, local = self._made(scan.table, kept, scan.of(pa.table({"entry": entries}))["entry"])
            return CopiedScan(scan, keys, local)
        if scan.table not in self._tables:
            self._tables[scan.table] = self._made(scan.table, scan.table.files, entries)
        keys, local = self._tables[scan.table]
        if scan.files is None:
            return CopiedScan(scan, keys, local)
        return CopiedScan(scan, [keys[number] for number in scan.files.to_pylist()], local.take(scan.files))

    def copied_large(self, read: LargeRead) -> CopiedScan | None:
        """Return the copies of large objects; None where they are read in place."""
        files = read.table.files
        if not self._takes(files):
            return None
        versions = zip(files["uri"].to_pylist(), files["etag"].to_pylist(), strict=True)
        keys = [self._key(read.table.environment, uri, etag or "") for uri, etag in versions]
        paths = (self._path(keys[number]).lstrip("/") for number in read.objects)
        scan = Scan(read.table, None, [], is_large=True)
        return CopiedScan(scan, keys, pa.chunked_array([with_paths(read.entries, paths)]))

    def _takes(self, files: pa.Table) -> bool:
        """Return True if all of these objects can be copied."""
        sizes = files["size_bytes"]
        return not (
            files["etag"].null_count
            or pc.max(sizes).as_py() > self._object_bytes
            or pc.sum(sizes).as_py() > self._scan_bytes
            or not pc.all(pc.starts_with(files["uri"], "s3://")).as_py()
        )

    def _made(self, table: Table, files: pa.Table, entries: pa.ChunkedArray) -> tuple[list[str], pa.ChunkedArray]:
        """Return the keys of files' copies, and the encoded copies."""
        versions = zip(files["uri"].to_pylist(), files["etag"].to_pylist(), strict=True)
        keys = [self._key(table.environment, uri, etag or "") for uri, etag in versions]
        paths = (self._path(key).lstrip("/") for key in keys)
        return keys, pa.chunked_array([with_paths(entries.to_pylist(), paths)])
