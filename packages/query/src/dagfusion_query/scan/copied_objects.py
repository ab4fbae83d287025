"""Which objects of a scan are read from local copies.

An object that is fetched whole by one request has the bytes of one version, and a checksum can be compared. Small
objects are read from such copies, which is also the fastest: one request for each object instead of three, and none
the next time.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.returned_values import ScanExplanation
from dagfusion_contract.uri import S3, object_path
from dagfusion_query.catalog.model import Table
from dagfusion_query.catalog.partitioned_file import with_paths
from dagfusion_query.scan.large_objects import REQUEST_BYTES, LargeRead
from dagfusion_query.scan.table_scan import MANY, Scan

COPIED_BYTES = 16 << 20  # the largest object that is copied whole to save requests; a larger one is copied by block
TAIL_REQUESTS = 2  # for the footer of an object that is copied by block: its answers are compared
NO_FILES = pa.array([], pa.int64())

_CopiesOfTables: TypeAlias = WeakKeyDictionary[Table, tuple[list[str], pa.ChunkedArray]]  # with the keys


class CopiedPart(NamedTuple):
    """The content of one copy: a whole object, or a block of one.

    Attributes:
        file: The row of the object in the scan's files.
        start: Where the row groups of the block begin; 0 for a whole object.
        end: Where those of the next block begin, or the object ends.
    """

    file: int
    start: int
    end: int

    @property
    def is_block(self) -> bool:
        """True for a block: no row group begins where a file does."""
        return self.start > 0

    @property
    def size_bytes(self) -> int:
        """The most bytes that are fetched."""
        return self.end - self.start


@dataclass(frozen=True)
class CopiedScan:
    """A scan that reads copies.

    Attributes:
        keys: The keys of the copies.
        entries: The scan's encoded files, or parts of them, with the paths of the copies: binary without nulls.
        copied: The content of each copy; None for whole objects in the scan's order.
        large: What is read of large objects, in the ranges of the entries; None for small objects.
    """

    scan: Scan
    keys: Sequence[str]
    entries: pa.ChunkedArray
    copied: Sequence[CopiedPart] | None = None
    large: LargeRead | None = None

    @property
    def parts(self) -> Sequence[CopiedPart]:
        """The content of each copy."""
        if self.copied is not None:
            return self.copied
        sizes = self.scan.sizes.to_pylist()
        return [CopiedPart(number, 0, size) for number, size in enumerate(sizes)]

    @property
    def objects(self) -> Iterator[tuple[str, str]]:
        """The last two parts of each copy's path, with the path of its object."""
        names = (f"{key[:2]}/{key[2:]}" for key in self.keys)
        paths = list(map(object_path, self.scan.kept["uri"].to_pylist()))
        return zip(names, (paths[part.file] for part in self.parts), strict=True)


class ScanReads(NamedTuple):
    """One scan, and where it reads its objects.

    Attributes:
        copied: The parts that are read from local copies.
        in_place: The parts whose objects are read in their store.
    """

    scan: Scan
    copied: Sequence[CopiedScan]
    in_place: Sequence[Scan]

    def explanation(self, found: Callable[[CopiedScan], Collection[str]]) -> ScanExplanation:
        """Return the explanation of the scan, with where it would read its objects now.

        Args:
            found: Returns those keys of a scan whose copies are there.
        """
        keys: set[str] = set()
        there: set[str] = set()
        blocks: set[str] = set()
        for scan in self.copied:
            keys.update(scan.keys)
            there.update(found(scan))
            blocks.update(key for key, part in zip(scan.keys, scan.copied or (), strict=False) if part.is_block)
        missing = keys - there
        return replace(
            self.scan.explanation,
            copies_found=len(there),
            objects_to_fetch=len(missing - blocks),
            blocks_to_fetch=len(missing & blocks),
            objects_in_place=sum(scan.count for scan in self.in_place),
        )


class CopyPolicy:
    """Decides which objects are read from copies, and gives their paths.

    Args:
        path: Gives the path of the copy with a key.
        key: Gives the key of a copy, from the environment, URI and etag of its object, and a large object's range.
        object_bytes: The largest object that is always copied. A large object may have more, see `copied_large`.
        statement_bytes: The most bytes that one statement may copy of small objects, and of large ones. What several of
            its scans read counts once.
        tables: The encoded copies of whole tables, made once for each generation; None for a new policy.
    """

    def __init__(
        self,
        path: Callable[[str], str],
        key: Callable[..., str],
        object_bytes: int,
        statement_bytes: int,
        tables: _CopiesOfTables | None = None,
    ) -> None:
        self._path, self._key = path, key
        self._object_bytes, self._statement_bytes = object_bytes, statement_bytes
        # What scans of the statement copy so far.
        self._small: list[tuple[Scan, int]] = []
        self._large: dict[str, int] = {}
        self._tables: _CopiesOfTables = WeakKeyDictionary() if tables is None else tables

    def of_statement(self) -> "CopyPolicy":
        """Return the policy for the scans of one more statement."""
        return CopyPolicy(self._path, self._key, self._object_bytes, self._statement_bytes, self._tables)

    def divided(self, scan: Scan) -> tuple[Scan, Scan]:
        """Return the scans of the files that are read from copies, and of those that are read in place.

        Large objects, local ones and those without an etag are read in place; all are if the rest has too many bytes.
        """
        kept = scan.kept.select(["uri", "size_bytes", "etag"])
        is_small = pc.less_equal(kept["size_bytes"], self._object_bytes)
        numbers = _numbers(scan)
        is_copied = np.asarray(pc.and_(is_small, self._can_copy(kept)))
        copied = scan if is_copied.all() else replace(scan, files=pa.array(numbers[is_copied], pa.int64()))
        if not is_copied.any() or not self._takes_small(copied):
            return replace(scan, files=NO_FILES), scan
        return copied, replace(scan, files=pa.array(numbers[~is_copied], pa.int64()))

    def copied(self, scan: Scan, entries: pa.ChunkedArray) -> CopiedScan:
        """Return the copies of a scan's files, all of which are copied.

        Args:
            scan: The scan; see `divided`.
            entries: The encoded files of its table: binary, one for each row of `Table.files`.
        """
        kept = scan.kept.select(["uri", "size_bytes", "etag"])
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
        """Return the copies of large objects, whole or by block; None where they are read in place.

        One of more than `object_bytes` is copied if that saves so many small requests that it takes no longer.
        """
        files = read.table.files
        sizes = files["size_bytes"].to_pylist()
        whole_bytes = max(self._object_bytes, COPIED_BYTES)
        read = read.by_block() if max(sizes) > whole_bytes else read
        part_of = [
            CopiedPart(file, 0, sizes[file]) if sizes[file] <= whole_bytes else CopiedPart(file, *block)
            for file, block in zip(read.objects, read.blocks, strict=True)
        ]
        parts = list(dict.fromkeys(part_of))
        fetched = pa.array([part.size_bytes for part in parts], pa.int64())
        tails = TAIL_REQUESTS * len({part.file for part in parts if part.is_block})
        saved_bytes = (read.requests - tails) * min(self._object_bytes, REQUEST_BYTES)
        is_cheaper = pc.sum(fetched).as_py() <= saved_bytes
        most = (fetched, whole_bytes) if is_cheaper else (files["size_bytes"], self._object_bytes)
        if not self._can_copy_all(files, *most):
            return None
        versions = [(read.table.environment, row["uri"], row["etag"] or "") for row in files.to_pylist()]
        key_of = {part: self._key(*versions[part.file], f"{part.start}-{part.end}") for part in parts}
        if not self._takes_large({key: part.size_bytes for part, key in key_of.items()}):
            return None
        paths = (self._path(key_of[part]).lstrip("/") for part in part_of)
        entries = pa.chunked_array([with_paths(read.entries, paths)])
        return CopiedScan(Scan(read.table, None, [], is_large=True), [*key_of.values()], entries, parts, read)

    def _takes_small(self, scan: Scan) -> bool:
        """Return True if the statement may copy the files of one more scan, and count them."""
        others = [_numbers(other) for other, _ in self._small if other.table is scan.table]
        new_bytes = scan.bytes
        if others:
            is_new = ~np.isin(_numbers(scan), np.concatenate(others))
            new_bytes = int(scan.sizes.to_numpy()[is_new].sum())
        if sum(size_bytes for _, size_bytes in self._small) + new_bytes > self._statement_bytes:
            return False
        self._small.append((scan, new_bytes))
        return True

    def _takes_large(self, sizes: Mapping[str, int]) -> bool:
        """Return True if the statement may make these copies of large objects, and count them."""
        every = {**self._large, **sizes}
        if sum(every.values()) > self._statement_bytes:
            return False
        self._large = every
        return True

    def _can_copy_all(self, files: pa.Table, fetched: pa.ChunkedArray, largest: int) -> bool:
        """Return True if large objects can be copied.

        Args:
            files: The objects.
            fetched: Bytes that are fetched of each, or of each block.
            largest: The most that are fetched at once.
        """
        return bool(pc.all(self._can_copy(files)).as_py() and pc.max(fetched).as_py() <= largest)

    def _can_copy(self, files: pa.Table) -> pa.ChunkedArray:
        """Return for each object whether it has an etag and is in an S3 store."""
        return pc.and_(pc.is_valid(files["etag"]), pc.starts_with(files["uri"], S3))

    def _made(self, table: Table, files: pa.Table, entries: pa.ChunkedArray) -> tuple[list[str], pa.ChunkedArray]:
        """Return the keys of files' copies, and the encoded copies."""
        versions = zip(files["uri"].to_pylist(), files["etag"].to_pylist(), strict=True)
        keys = [self._key(table.environment, uri, etag or "") for uri, etag in versions]
        paths = (self._path(key).lstrip("/") for key in keys)
        return keys, pa.chunked_array([with_paths(entries.to_pylist(), paths)])


def _numbers(scan: Scan) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the files of a scan, as rows of `Table.files`."""
    return np.arange(scan.count) if scan.files is None else np.asarray(scan.files)
