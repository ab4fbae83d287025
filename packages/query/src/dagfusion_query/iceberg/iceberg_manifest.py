"""Manifests: files with their partition values, row counts and exact bounds, in Avro. Pure."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.iceberg.avro import END, NULL, VALUE, container, data, long, longs
from dagfusion_query.iceberg.iceberg_schema import SCHEMA_ID, SPEC_ID, IcebergSchema, avro_name
from dagfusion_query.iceberg.single_values import avro_type, avro_values, bounds, single_values

# status ADDED; snapshot and sequence numbers are those of the manifest list; content DATA. So that an entry is the same
# in each snapshot.
_HEAD = long(1) + NULL + NULL + NULL + long(0)
_PARQUET = data(b"PARQUET")


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


def content_key(files: pa.Table, schema: IcebergSchema) -> str:
    """Return what identifies a manifest's content without encoding it."""
    digest = hashlib.blake2b(json.dumps([schema.schema, schema.spec, len(schema.bounded)]).encode(), digest_size=16)
    for batch in files.combine_chunks().to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()


def encode_manifest_file(files: pa.Table, schema: IcebergSchema) -> Manifest:
    """Encode the files of one manifest.

    Args:
        files: Some of `Table.files`, at least one.
        schema: That of the table.
    """
    partition = {column.name: _struct_field(files["partition"], column.name) for column in schema.partition}
    values = [avro_values(partition[column.name], column.kind) for column in schema.partition]
    parts = zip(
        (data(uri.encode()) for uri in files["uri"].to_pylist()),
        zip(*values, strict=True) if values else [()] * len(files),
        longs(files["rows"].to_pylist()),
        longs(files["size_bytes"].to_pylist()),
        _metrics(files, schema),
        strict=True,
    )
    entries = [
        b"".join([_HEAD, path, _PARQUET, *partition_values, rows, size, metrics])
        for path, partition_values, rows, size, metrics in parts
    ]
    metadata = {
        "schema": json.dumps(schema.schema),
        "schema-id": str(SCHEMA_ID),
        "partition-spec": json.dumps(schema.spec),
        "partition-spec-id": str(SPEC_ID),
        "format-version": "2",
        "content": "data",
    }
    content = container(_entry_schema(schema), metadata, entries)
    return Manifest(
        content,
        len(files),
        pc.sum(files["rows"]).as_py(),
        tuple(_summary(partition[column.name], column.kind) for column in schema.partition),
    )


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
        known = iter(longs(count for count in counts if count is not None))
        values.append([b"" if count is None else key + row for count, row in zip(counts, rows, strict=True)])
        nulls.append([b"" if count is None else key + next(known) for count in counts])
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
    encoded = []
    for items in zip(*columns, strict=True):
        present = len(items) - items.count(b"")
        encoded.append(VALUE + long(present) + b"".join(items) + END if present else VALUE + END)
    return encoded


def _summary(values: pa.Array, kind: str) -> bytes:
    """Encode what the manifest list says of one partition column."""
    ends = pc.min_max(values)
    least, most = (single_values(pa.array([ends[end].as_py()], values.type), kind)[0] for end in ("min", "max"))
    encoded = [NULL if end is None else VALUE + data(end) for end in (least, most)]
    return b"".join([bytes([values.null_count > 0]), VALUE + b"\x00", *encoded])


def _struct_field(column: pa.ChunkedArray, name: str) -> pa.Array:
    array = column.combine_chunks()
    return pc.struct_field(array, array.type.get_field_index(name))
