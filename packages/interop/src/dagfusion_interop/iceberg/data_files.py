"""The data files of a snapshot: the files of a table, or large objects in place of some of them. Pure.

A data file of Iceberg has all rows of its object. So a large object can be a data file only if all of its row groups
can replace files. All of its columns must have ids, because clients read files without ids by the name mapping, which
hides their partition columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_interop.iceberg.event_order import IDENTITY
from dagfusion_interop.iceberg.iceberg_manifest import struct_field
from dagfusion_interop.iceberg.iceberg_schema import IcebergSchema
from dagfusion_query.catalog.model import CONSOLIDATED_SCHEMA, Table, common_folder
from dagfusion_query.catalog.replacing_row_groups import Numbers, replacing_objects

# Not uint32, which PyIceberg takes as int, and uint64, of which Iceberg has another type than the file.
_READ_ALIKE = frozenset(
    {pa.string(), pa.date32(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16()}
)
COLUMNS = ("uri", "size_bytes", "rows", "partition", "stats")  # all that is in a manifest
_IN_ORDER = tuple(dict.fromkeys(("event_id", *COLUMNS, *IDENTITY)))


@dataclass(frozen=True)
class SnapshotFiles:
    """The data files of a snapshot.

    Attributes:
        small: Some rows of `Table.files`, with the columns of manifests and those that order files.
        large: Large objects, one row each, with the same columns: no partition, and partition columns in `stats`.
        objects: The same objects, of `CONSOLIDATED_SCHEMA`.
    """

    small: pa.Table
    large: pa.Table
    objects: pa.Table

    @property
    def count(self) -> int:
        """The number of files."""
        return len(self.small) + len(self.large)

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(pc.sum(some["size_bytes"], min_count=0).as_py() for some in (self.small, self.large))

    @property
    def large_folder(self) -> str | None:
        """The URI of the folder that holds all large objects, with a slash at its end; None if there are none."""
        return f"{common_folder(self.large['uri'])}/" if len(self.large) else None


def data_files(table: Table, schema: IcebergSchema, *, is_consolidated: bool) -> SnapshotFiles:
    """Return the data files of a table.

    Args:
        table: The table.
        schema: Its columns in Iceberg.
        is_consolidated: Use large objects.
    """
    files = table.files.select(_IN_ORDER)
    of_file, objects = _objects(table) if is_consolidated else (None, CONSOLIDATED_SCHEMA.empty_table())
    if of_file is None or not len(objects):
        return SnapshotFiles(files, files.slice(0, 0), objects)
    return SnapshotFiles(files.filter(pa.array(of_file < 0)), _large(objects, files, of_file, schema), objects)


def _objects(table: Table) -> tuple[Numbers | None, pa.Table]:
    """Return for each file the row of its large object (-1: none), and the large objects that can be data files."""
    of_file, objects = replacing_objects(table)
    if not all(_is_read_alike(column.type) for column in table.partition_schema):
        return of_file, objects.slice(0, 0)
    is_fit = np.asarray(objects["has_field_ids"], np.bool_)
    number = np.append(np.where(is_fit, np.cumsum(is_fit) - 1, -1), -1)  # the last one is for files without an object
    return number[of_file], objects.filter(pa.array(is_fit))


def _is_read_alike(kind: pa.DataType) -> bool:
    """Return True if clients read a partition column of a file with the same value as from the metadata."""
    if pa.types.is_timestamp(kind):
        return kind.tz in (None, "UTC")
    return kind in _READ_ALIKE or pa.types.is_decimal128(kind)


def _large(objects: pa.Table, files: pa.Table, of_file: Numbers, schema: IcebergSchema) -> pa.Table:
    """Return large objects as files.

    Args:
        objects: The large objects, of `CONSOLIDATED_SCHEMA`.
        files: All files of the table.
        of_file: For each file the row of its object, or -1.
        schema: The columns of the table.
    """
    order = np.argsort(of_file, kind="stable")
    has_rows = (of_file >= 0) & (np.asarray(files["rows"]) > 0)
    replaced = files.take(pa.array(order[has_rows[order]])).combine_chunks()
    ends = np.cumsum(np.bincount(of_file[has_rows], minlength=len(objects)))
    bounds = [0, *ends.tolist()]
    rows, statistics = replaced["rows"].combine_chunks(), replaced["stats"].combine_chunks()
    found = {}
    for column in schema.bounded:
        at = statistics.type.get_field_index(column.name)
        if at >= 0:
            least, most, nulls = pc.struct_field(statistics, at).flatten()
            found[column.name] = _joined(least, most, nulls, rows, bounds)
    for column in schema.partition:
        values = struct_field(replaced["partition"], column.name)
        found[column.name] = _joined(values, values, pa.repeat(pa.scalar(0), len(values)), rows, bounds)
    return pa.table(
        {
            "event_id": objects["event_id"],
            "uri": objects["uri"],
            "size_bytes": objects["size_bytes"],
            "rows": _sums(rows, bounds),
            "partition": pa.nulls(len(objects), pa.struct([])),
            "stats": pa.StructArray.from_arrays(list(found.values()), names=list(found)),
        }
    )


def _joined(least: pa.Array, most: pa.Array, nulls: pa.Array, rows: pa.Array, bounds: list[int]) -> pa.Array:
    """Return the statistics of the files of each object together; null where those of a file are not known."""
    is_null = pc.equal(nulls, rows).fill_null(False)  # noqa: FBT003
    joined = [
        _joined_bound(least, pc.min, is_null, bounds),
        _joined_bound(most, pc.max, is_null, bounds),
        _sums(nulls, bounds),
    ]
    return pa.StructArray.from_arrays(joined, names=["min", "max", "nulls"])


def _sums(counts: pa.Array, bounds: list[int]) -> pa.Array:
    """Return the sums of the counts of each object; null where one is not known."""
    sums = [pc.sum(counts[start:end], skip_nulls=False, min_count=0) for start, end in pairwise(bounds)]
    return pa.array(sums, pa.int64())


def _joined_bound(
    values: pa.Array, end_of: Callable[[pa.Array], pa.Scalar], is_null: pa.Array, bounds: list[int]
) -> pa.Array:
    is_known = pc.or_(values.is_valid(), is_null)
    ends = [
        end_of(values[start:end]) if pc.all(is_known[start:end]).as_py() else pa.scalar(None, values.type)
        for start, end in pairwise(bounds)
    ]
    return pa.array(ends, values.type)
