"""Scans that read local copies of their objects: which, and where the copies are.

An object that is fetched whole by one request has the bytes of one version, and a checksum can be compared. Small
objects are read this way, which is also the fastest: one request an object instead of three, and none the next time.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.entry import object_path, with_path
from dagfusion_query.scan.scanned import Scan

_PATH = re.compile(r"[^\s\[\],:]+/[0-9a-f]{2}/[0-9a-f]{30}")
LOCAL_STORE = "file:///"
MANY = 256  # files from which a scan that may not need all of them reads the objects in place


@dataclass(frozen=True)
class CopyPolicy:
    """Which scans read copies.

    Attributes:
        path: Gives the path of the copy with a key.
        key: Gives the key of the copy of an object, from its environment, URI and etag.
        object_bytes: The largest object that is copied.
        scan_bytes: The most bytes that one scan may copy.
    """

    path: Callable[[str], str]
    key: Callable[[str, str, str], str]
    object_bytes: int
    scan_bytes: int

    def copied(self, scan: Scan) -> "Copied | None":
        """Return a scan's copies; None where its objects are read in place: large, local or without an etag."""
        kept = scan.kept.select(["uri", "size_bytes", "etag"])
        sizes = kept["size_bytes"]
        if (
            kept["etag"].null_count
            or pc.max(sizes).as_py() > self.object_bytes
            or pc.sum(sizes).as_py() > self.scan_bytes
            or not pc.all(pc.starts_with(kept["uri"], "s3://")).as_py()
        ):
            return None
        versions = zip(kept["uri"].to_pylist(), kept["etag"].to_pylist(), strict=True)
        return Copied(scan, [self.key(scan.table.environment, uri, etag) for uri, etag in versions], self.path)


@dataclass(frozen=True)
class Copied:
    """A scan that reads copies.

    Attributes:
        keys: Of the copies, in the scan's order.
        path: Gives the path of the copy with a key.
    """

    scan: Scan
    keys: Sequence[str]
    path: Callable[[str], str]

    def named(self, text: str) -> str:
        """Return a text with the objects' paths in place of those of the copies."""
        paths = (self.path(key).lstrip("/") for key in self.keys)
        named = dict(zip(paths, map(object_path, self.scan.kept["uri"].to_pylist()), strict=True))
        return _PATH.sub(lambda found: named.get(found[0], found[0]), text)

    def entries(self, entries: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a scan's encoded files with the paths of the copies."""
        local = (self.path(key).lstrip("/") for key in self.keys)
        encoded = zip(entries.to_pylist(), local, strict=True)
        return pa.chunked_array([pa.array([with_path(entry, path) for entry, path in encoded], pa.binary())])
