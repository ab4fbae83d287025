"""Manifests: files with their partition values, row counts and exact bounds, in Avro. Pure.

The files of one value of the leading partition column share a manifest, so that engines skip whole manifests and a new
partition changes one manifest. Neighbouring values with few files share a manifest. A value with very many files has
several manifests. A hash of the file or value at each boundary decides where a manifest begins, so a new file does not
move the files before and after it to other manifests.

In a table of many files, the files of the latest events have manifests of their own, in the order of the events. So new
files of many values change one or two manifests. From time to time, many of these files move at once to the manifests
of their values. The event up to which they move depends only on the content, so all services write the same manifests,
whichever versions they wrote before.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.iceberg.avro import (
    END,
    NULL,
    VALUE,
    avro_type,
    avro_values,
    bounds,
    container,
    data,
    long,
    longs,
    single_values,
)
from dagfusion_query.iceberg.iceberg_schema import SCHEMA_ID, IcebergSchema, avro_name

_ADDED, _REMOVED = 1, 2  # status ADDED and DELETED
# Snapshot and sequence numbers are those of the manifest list; content DATA. So an entry is the same in each snapshot.
_HEAD = long(_ADDED) + NULL + NULL + NULL + long(0)
EARLIER = 1  # snapshot and sequence number of all manifests that do not say what a snapshot changed: none has it
_PARQUET = data(b"PARQUET")
MAX_FILES = 2048  # of a manifest, on average; a power of two
_MIN_FILES = 256  # of a manifest of several values, on average
_MAX_MANIFESTS = 1000  # about, before manifests get larger
_NEW_SHARE = 8  # about one of so many files may be new
_LEAST_NEW, _MOST_NEW = 1024, 8192  # files; a table whose share is less than the first has no new ones
Cuts = npt.NDArray[np.bool_]


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
    """Return what identifies a manifest's content without encoding it: 32 hexadecimal digits.

    Args:
        files: As `encode_manifest_file` takes them, in their order.
        schema: That of the table.
    """
    digest = hashlib.blake2b(json.dumps([schema.schema, schema.spec, len(schema.bounded)]).encode(), digest_size=16)
    for batch in files.combine_chunks().to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()


def encode_manifest_file(
    files: pa.Table, schema: IcebergSchema, changed_by: int | None = None, *, is_removed: bool = False
) -> Manifest:
    """Encode the files of one manifest.

    Args:
        files: Some rows of `Table.files`, at least one; see `files_schema`.
        schema: That of the table.
        changed_by: The snapshot whose change they are. No other snapshot can share the manifest then, which clients
            that keep manifests by their names rely on.
        is_removed: Whether that snapshot removed them.
    """
    head = _HEAD if changed_by is None else _changed_head(changed_by, is_removed=is_removed)
    partition = {column.name: struct_field(files["partition"], column.name) for column in schema.partition}
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
        b"".join([head, path, _PARQUET, *partition_values, rows, size, metrics])
        for path, partition_values, rows, size, metrics in parts
    ]
    metadata = {
        "schema": json.dumps(schema.schema),
        "schema-id": str(SCHEMA_ID),
        "partition-spec": json.dumps(schema.spec),
        "partition-spec-id": str(schema.spec_id),
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


def _summary(values: pa.Array, kind: str) -> bytes:
    """Encode what the manifest list says of one partition column."""
    ends = pc.min_max(values)
    least, most = (single_values(pa.array([ends[end].as_py()], values.type), kind)[0] for end in ("min", "max"))
    encoded = [NULL if end is None else VALUE + data(end) for end in (least, most)]
    return b"".join([bytes([values.null_count > 0]), VALUE + b"\x00", *encoded])


def struct_field(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return a field of a column of structs."""
    # By its index: Arrow takes a name that begins with a dot as a path.
    array = column.combine_chunks()
    return pc.struct_field(array, array.type.get_field_index(name))


def new_after(event_ids: pa.ChunkedArray) -> int | None:
    """Return the event after which files are new; None if no file is.

    It is the number with the most zeros at its end, in binary, of those that give neither too few new files nor too
    many. So it stays the same while files are added, until there are too many.

    Args:
        event_ids: The events of all files of a table.
    """
    share = min(_power_of_two(len(event_ids) / _NEW_SHARE), _MOST_NEW)
    if share < _LEAST_NEW:
        return None
    ids = np.asarray(event_ids)
    at = len(ids) - share - share // _NEW_SHARE, len(ids) - share // _NEW_SHARE
    least, end = np.partition(ids, at)[[*at]].tolist()
    if least >= end:  # one event has many of them
        return None
    zeros = ((least - 1) ^ (end - 1)).bit_length() - 1
    return int((end - 1) >> zeros << zeros)


def manifest_groups(files: pa.Table, leading: str | None, after: int | None = None) -> Iterator[pa.Table]:
    """Yield the files of each manifest.

    Args:
        files: As `Table.files` has them, in any order.
        leading: The leading partition column; None if there is none.
        after: The event after which files are new; None if no file is.
    """
    if after is not None:
        is_new = pc.greater(files["event_id"], after)
        yield from _groups_of_new(files.filter(is_new))
        files = files.filter(pc.invert(is_new))
    if not len(files):
        return
    keys = {"uri": files["uri"]}
    values = None if leading is None else struct_field(files["partition"], leading)
    if values is not None:
        keys = {"leading": values, **keys}
    order = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])
    files = files.take(order)
    uris = [uri.encode() for uri in files["uri"].to_pylist()]
    values = None if values is None else values.take(order)
    cuts = _cuts(uris, values)
    starts = [0, *np.flatnonzero(cuts).tolist()]
    for start, end in zip(starts, [*starts[1:], len(files)], strict=True):
        yield files.slice(start, end - start)


def _groups_of_new(files: pa.Table) -> Iterator[pa.Table]:
    """Yield new files in the order of their events, so that the next ones change the last manifest."""
    files = files.sort_by([("event_id", "ascending"), ("uri", "ascending")])
    start = 0
    for end, uri in enumerate(files["uri"].to_pylist(), 1):
        if zlib.crc32(uri.encode()) % _MIN_FILES == 0 or end == len(files):
            yield files.slice(start, end - start)
            start = end


def _cuts(uris: list[bytes], values: pa.Array | None) -> Cuts:
    """Return True for each file that begins a manifest; the first of all is False."""
    count = len(uris)
    changes = np.zeros(count, np.bool_)
    if values is not None:
        codes = values.dictionary_encode().indices.fill_null(-1).to_numpy()
        changes[1:] = codes[1:] != codes[:-1]
    runs = int(changes.sum()) + 1
    cuts = np.zeros(count, np.bool_)
    step = _power_of_two(max(_MIN_FILES, count // _MAX_MANIFESTS) * runs / count)
    starts = np.flatnonzero(changes)
    for start in starts.tolist():
        text = repr(values[start].as_py()) if values is not None else ""
        cuts[start] = zlib.crc32(text.encode("utf-8", "backslashreplace")) % step == 0
    ends = np.append(starts, count)
    begins = np.insert(starts, 0, 0)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if end - begin > 2 * MAX_FILES:
            for at in range(begin + 1, end):
                cuts[at] = zlib.crc32(uris[at]) % MAX_FILES == 0
    return cuts


def _power_of_two(least: float) -> int:
    """Return the largest power of two that is at most a number, and 1 for all below."""
    return 1 << max(0, int(least).bit_length() - 1)
