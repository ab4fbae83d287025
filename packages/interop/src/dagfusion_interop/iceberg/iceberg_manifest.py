"""Manifests: files with their partition values, row counts and exact bounds, in Avro. Pure.

A manifest is made of blocks, which are encoded and compressed each by itself. So a manifest of which few files changed
is made of the blocks that it had, and of few new ones.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_interop.iceberg.avro import (
    END,
    NULL,
    VALUE,
    avro_type,
    avro_values,
    bounds,
    container_of_blocks,
    data,
    deflate,
    header,
    long,
    longs,
    single_values,
)
from dagfusion_interop.iceberg.file_groups import comparable
from dagfusion_interop.iceberg.iceberg_schema import SCHEMA_ID, IcebergSchema, avro_name

_ADDED, _REMOVED = 1, 2  # status ADDED and DELETED
# Snapshot and sequence numbers are those of the manifest list; content DATA. So an entry is the same in each snapshot.
_HEAD = long(_ADDED) + NULL + NULL + NULL + long(0)
EARLIER = 1  # snapshot and sequence number of all manifests that do not say what a snapshot changed: none has it
_PARQUET = data(b"PARQUET")
_KEY_BYTES = 16


@dataclass(frozen=True)
class Manifest:
    """A manifest, and what the manifest list says of it.

    Attributes:
        content: The Avro file.
        partitions: Encoded field summaries.
    """

    content: bytes
    files: int
    rows: int
    partitions: tuple[bytes, ...]


class Ends(NamedTuple):
    """The least and greatest value of a partition column in some files; None for both if all are null."""

    type: pa.DataType
    least: Any
    most: Any
    has_null: bool


class Block(NamedTuple):
    """Some entries of a manifest.

    Attributes:
        body: Encoded and compressed.
        key: Identifies the body.
        ends: The least and greatest value of each partition column.
    """

    body: bytes
    key: bytes
    files: int
    rows: int
    ends: tuple[Ends, ...]


class ManifestEncoder:
    """Encodes manifests of one schema.

    Args:
        schema: The schema of the table.
        changed_by: The snapshot whose change the files are. No other snapshot can share the manifests then, which
            clients that keep manifests by their names rely on.
        is_removed: Whether that snapshot removed them.
    """

    def __init__(self, schema: IcebergSchema, changed_by: int | None = None, *, is_removed: bool = False) -> None:
        self.schema, self.is_removed = schema, is_removed
        self._head = _HEAD if changed_by is None else _changed_head(changed_by, is_removed=is_removed)

    @property
    def columns(self) -> tuple[object, ...]:
        """All that the entries of a file depend on, but for the file."""
        parts = (self.schema.partition, self.schema.bounded)
        return (self._head, *(tuple((one.name, one.id, json.dumps(one.kind)) for one in some) for some in parts))

    def blocks(self, files: pa.Table, ends: Sequence[int]) -> Iterator[Block]:
        """Yield blocks of files.

        Args:
            files: Some rows of `Table.files`, at least one; see `files_schema`.
            ends: Where each block ends, ascending.
        """
        partition = {column.name: struct_field(files["partition"], column.name) for column in self.schema.partition}
        values = [avro_values(partition[column.name], column.kind) for column in self.schema.partition]
        rows = files["rows"].to_pylist()
        parts = zip(
            (data(uri.encode()) for uri in files["uri"].to_pylist()),
            zip(*values, strict=True) if values else [()] * len(files),
            longs(rows),
            longs(files["size_bytes"].to_pylist()),
            _metrics(files, self.schema),
            strict=True,
        )
        entries = [
            b"".join([self._head, path, _PARQUET, *partition_values, rows, size, metrics])
            for path, partition_values, rows, size, metrics in parts
        ]
        for start, end in pairwise([0, *ends]):
            body = deflate(b"".join(entries[start:end]))
            found = tuple(_ends(column[start:end]) for column in partition.values())
            yield Block(body, _digest([body]), end - start, sum(rows[start:end]), found)

    def key(self, blocks: Sequence[Block]) -> str:
        """Return what identifies the manifest of some blocks without making it: 32 hexadecimal digits."""
        return _digest([self._header, *(block.key for block in blocks)]).hex()

    def manifest(self, blocks: Sequence[Block]) -> Manifest:
        """Return the manifest of some blocks, at least one."""
        kinds = [column.kind for column in self.schema.partition]
        of_columns = zip(kinds, *(block.ends for block in blocks), strict=True)
        return Manifest(
            container_of_blocks(self._header, [(block.files, block.body) for block in blocks]),
            sum(block.files for block in blocks),
            sum(block.rows for block in blocks),
            tuple(_summary(found, kind) for kind, *found in of_columns),
        )

    @cached_property
    def _header(self) -> bytes:
        metadata = {
            "schema": json.dumps(self.schema.schema),
            "schema-id": str(SCHEMA_ID),
            "partition-spec": json.dumps(self.schema.spec),
            "partition-spec-id": str(self.schema.spec_id),
            "format-version": "2",
            "content": "data",
        }
        return header(_entry_schema(self.schema), metadata, "deflate")


def _digest(parts: Sequence[bytes]) -> bytes:
    return blake2b(b"".join(parts), digest_size=_KEY_BYTES).digest()


def _changed_head(snapshot_id: int, *, is_removed: bool) -> bytes:
    """Return the head of an entry. The sequence numbers of an added file are those of the manifest list."""
    numbers = 2 * (VALUE + long(EARLIER) if is_removed else NULL)
    return long(_REMOVED if is_removed else _ADDED) + VALUE + long(snapshot_id) + numbers + long(0)


def optional(name: str, kind: Any, id_: int) -> dict[str, Any]:
    """Return an optional field of an Avro record."""
    return {"name": name, "type": ["null", kind], "default": None, "field-id": id_}


def required(name: str, kind: Any, id_: int) -> dict[str, Any]:
    """Return a required field of an Avro record."""
    return {"name": name, "type": kind, "field-id": id_}


def _entry_schema(schema: IcebergSchema) -> dict[str, Any]:
    partition = [
        optional(avro_name(column.name), avro_type(column.kind, f"decimal_{field['field-id']}"), field["field-id"])
        for column, field in zip(schema.partition, schema.spec, strict=True)
    ]
    file = [
        required("content", "int", 134),
        required("file_path", "string", 100),
        required("file_format", "string", 101),
        required("partition", {"type": "record", "name": "r102", "fields": partition}, 102),
        required("record_count", "long", 103),
        required("file_size_in_bytes", "long", 104),
        _map_field("value_counts", "long", 109, 119),
        _map_field("null_value_counts", "long", 110, 121),
        _map_field("lower_bounds", "bytes", 125, 126),
        _map_field("upper_bounds", "bytes", 128, 129),
    ]
    return {
        "type": "record",
        "name": "manifest_entry",
        "fields": [
            required("status", "int", 0),
            optional("snapshot_id", "long", 1),
            optional("sequence_number", "long", 3),
            optional("file_sequence_number", "long", 4),
            required("data_file", {"type": "record", "name": "r2", "fields": file}, 2),
        ],
    }


def _map_field(name: str, kind: str, id_: int, key_id: int) -> dict[str, Any]:
    pair = {
        "type": "record",
        "name": f"k{key_id}_v{key_id + 1}",
        "fields": [required("key", "int", key_id), required("value", kind, key_id + 1)],
    }
    return optional(name, {"type": "array", "logicalType": "map", "items": pair}, id_)


def _metrics(files: pa.Table, schema: IcebergSchema) -> list[bytes]:
    """Encode the four maps of each file: value counts, null counts, lower and upper bounds."""
    if not schema.bounded:
        return [4 * (VALUE + END)] * len(files)
    rows = longs(files["rows"].to_pylist())
    statistics = files["stats"].combine_chunks()
    values, nulls, lower, upper = [], [], [], []
    for column in schema.bounded:
        at = statistics.type.get_field_index(column.name)
        if at < 0:
            continue
        key = long(column.id)
        least, most, empty = pc.struct_field(statistics, at).flatten()
        counts = empty.to_pylist()
        encoded = iter(longs(count for count in counts if count is not None))
        values.append([b"" if count is None else key + row for count, row in zip(counts, rows, strict=True)])
        nulls.append([b"" if count is None else key + next(encoded) for count in counts])
        lower.append(_keyed(key, bounds(least, column.kind, lower=True)))
        upper.append(_keyed(key, bounds(most, column.kind, lower=False)))
    maps = [_maps(items, len(files)) for items in (values, nulls, lower, upper)]
    return list(map(b"".join, zip(*maps, strict=True)))


def _keyed(key: bytes, values: Sequence[bytes | None]) -> list[bytes]:
    return [b"" if value is None else key + data(value) for value in values]


def _maps(columns: Sequence[Sequence[bytes]], count: int) -> list[bytes]:
    """Encode a map of each file, from its items by column; an empty item is left out."""
    if not columns:
        return [VALUE + END] * count
    heads = [VALUE + END, *(VALUE + long(present) for present in range(1, len(columns) + 1))]
    ends = [b"", *([END] * len(columns))]
    present = [len(items) - items.count(b"") for items in zip(*columns, strict=True)]
    joined = map(b"".join, zip(*columns, strict=True))
    return [b"".join([heads[count], items, ends[count]]) for count, items in zip(present, joined, strict=True)]


def _ends(values: pa.Array) -> Ends:
    ends = pc.min_max(comparable(values))
    return Ends(values.type, ends["min"].as_py(), ends["max"].as_py(), values.null_count > 0)


def _summary(found: Sequence[Ends], kind: str) -> bytes:
    """Encode what the manifest list says of one partition column."""
    known = [ends for ends in found if ends.least is not None]
    least, most = min((ends.least for ends in known), default=None), max((ends.most for ends in known), default=None)
    compared = comparable(pa.array([], found[0].type)).type
    values = single_values(pa.array([least, most], compared).cast(found[0].type), kind)
    encoded = [NULL if value is None else VALUE + data(value) for value in values]
    return b"".join([bytes([any(ends.has_null for ends in found)]), VALUE + b"\x00", *encoded])


def struct_field(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return a field of a column of structs."""
    # By its index: Arrow takes a name that begins with a dot as a path.
    array = column.combine_chunks()
    return pc.struct_field(array, array.type.get_field_index(name))
