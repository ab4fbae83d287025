"""The actions of a Delta log that describe a table: rows of the catalog in, JSON lines out. Pure.

The same file always gives the same line, so a file has changed if its line has.

An event log that was restored, purged or begun anew lacks events of files that are still current. So a file that the
catalog does not have is no reason to remove it: there must be an event that replaced, refused or wiped it.

Source: `PROTOCOL.md` of Delta Lake.
"""

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.errors import CatalogError, UnsupportedTypeError
from dagfusion_contract.record import Layout
from dagfusion_contract.values import value_entry
from dagfusion_interop.delta.delta_location import delta_path
from dagfusion_query.catalog.model import AssetState, Table
from dagfusion_query.catalog.segments import find_partitions
from dagfusion_query.event_log.event_log_interface import AssetKey

WRITER = "dagfusion"
EVENT_TAG, PARTITION_TAG = "dagster.event-id", "dagster.partition-key"  # in `tags` of a file
PROTOCOL: Mapping[str, Any] = {"minReaderVersion": 1, "minWriterVersion": 2}
PROTOCOL_WITH_LOCAL_TIMES: Mapping[str, Any] = {
    "minReaderVersion": 3,
    "minWriterVersion": 7,
    "readerFeatures": ["timestampNtz"],
    "writerFeatures": ["appendOnly", "invariants", "timestampNtz"],  # the first two are part of writer version 2
}

_NAMESPACE = uuid.UUID("0d3f7b9e-6f6c-5f0e-9c58-0d0f6a2f5d41")  # of the ids of tables
_INDEXED = 32  # columns with statistics, as Delta's own writers limit them
_PLAIN: Mapping[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    **dict.fromkeys((pa.int16(), pa.uint8()), "short"),
    **dict.fromkeys((pa.int32(), pa.uint16()), "integer"),
    **dict.fromkeys((pa.int64(), pa.uint32()), "long"),
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.string(): "string",
    pa.binary(): "binary",
}
_WIDENED = (("byte", "short", "integer", "long"), ("float", "double"))
_MS = 1000  # microseconds


def delta_columns(table: Table, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Return the types of a table's columns in Delta by their names, those of partition columns last.

    Args:
        table: The table.
        layouts: The layouts of its files; a type must be readable in each of them.

    Raises:
        UnsupportedTypeError: Delta has no type for a column, or its readers do not convert what some files have.
    """
    found: dict[str, Any] = {}
    for column in table.file_schema:
        physical = [layout.file.field(column.name).type for layout in layouts if column.name in layout.file.names]
        with _errors_of(table, column.name):
            found[column.name] = _type(column.type, physical)
    for column in table.partition_schema:
        with _errors_of(table, column.name):  # no file has the column, so that a wider type is exact
            found[column.name] = "decimal(20,0)" if column.type == pa.uint64() else _flat_type(column.type)
    for name, count in _repeated(found):
        raise UnsupportedTypeError(
            f"table {table.name} cannot be a Delta table: it has {count} columns {name!r}, because names in Delta "
            "have no case: rename them"
        )
    return found


def protocol_of(table: Table) -> Mapping[str, Any]:
    """Return the least `protocol` that readers of a table need."""
    kinds = (*table.file_schema.types, *table.partition_schema.types)
    return PROTOCOL_WITH_LOCAL_TIMES if any(map(_holds_local_time, kinds)) else PROTOCOL


def table_id(environment: str, asset_key: AssetKey, created_ms: Any) -> str:
    """Return the id of a table's log.

    A log that begins anew has another id, so that readers do not take its commits for those of the one before.

    Args:
        environment: The environment of the asset.
        asset_key: The asset.
        created_ms: The time of the first commit, milliseconds since 1970.
    """
    return str(uuid.uuid5(_NAMESPACE, json.dumps([environment, *asset_key, created_ms])))


def metadata_of(table: Table, columns: Mapping[str, Any], created_ms: Any) -> dict[str, Any]:
    """Return the `metaData` of a table.

    Args:
        table: The table.
        columns: The result of `delta_columns`.
        created_ms: The time of the first commit, milliseconds since 1970.
    """
    fields = [_field(name, kind) for name, kind in columns.items()]
    return {
        "id": table_id(table.environment, table.asset_key, created_ms),
        "name": str(table.name),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": orjson.dumps({"type": "struct", "fields": fields}).decode(),
        "partitionColumns": table.partition_schema.names,
        "configuration": {},
        "createdTime": created_ms,
    }


def commit_info(table: Table | None, at_ms: int) -> Mapping[str, Any]:
    """Return the `commitInfo`, with the latest event and Dagster run of the files of a table.

    Args:
        table: The table; None if all of it was wiped.
        at_ms: The time of the commit, milliseconds since 1970.
    """
    info: dict[str, Any] = {"timestamp": at_ms, "operation": "WRITE", "engineInfo": WRITER}
    if table is not None:
        newest = table.files.take(pc.top_k_unstable(table.files["event_id"], k=1))
        info |= {EVENT_TAG: newest["event_id"][0].as_py(), "dagster.run-id": newest["run_id"][0].as_py()}
    return info


def add_lines(table: Table, layouts: Sequence[Layout], location: str, columns: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the `add` of each file by its path, in the order of the paths.

    Args:
        table: The table.
        layouts: The layouts of its files.
        location: The URI of its folder, with a slash at its end.
        columns: The result of `delta_columns`.

    Raises:
        UnsupportedTypeError: Delta has no text for a partition value.
        CatalogError: Several partitions name one object.
    """
    files = table.files
    modified = files["modified"].cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
    rows = zip(
        (delta_path(uri, location) for uri in files["uri"].to_pylist()),
        _partition_values(table, columns),
        files["size_bytes"].to_pylist(),
        modified.to_pylist(),
        _statistics(files, layouts, columns),
        files["event_id"].to_pylist(),
        files["partition_key"].to_pylist(),
        strict=True,
    )
    lines: dict[str, bytes] = {}
    for path, values, size, at_ms, stats, event, key in sorted(rows, key=lambda row: row[0]):
        if path in lines:
            raise CatalogError(f"table {table.name} cannot be a Delta table: two of its partitions name {path}")
        facts = {"size": size, "modificationTime": at_ms, "dataChange": True, "stats": stats}
        tags = {EVENT_TAG: str(event)}  # two writes of an object may have all else alike
        if key is not None:
            tags[PARTITION_TAG] = key
        lines[path] = line("add", {"path": path, "partitionValues": values, **facts, "tags": tags})
    return lines


def line(kind: str, body: Mapping[str, Any]) -> bytes:
    """Return an action as a line of a log, without its end."""
    return orjson.dumps({kind: body})


class _NotInDeltaError(Exception):
    """A column or a value cannot be in a Delta table; the text has the reason."""


@contextmanager
def _errors_of(table: Table, column: str) -> Iterator[None]:
    try:
        yield
    except (_NotInDeltaError, ValueError) as error:
        raise UnsupportedTypeError(f"table {table.name} cannot be a Delta table: column {column!r}: {error}") from error


def _partition_values(table: Table, columns: Mapping[str, Any]) -> Sequence[Mapping[str, str | None]]:
    names = table.partition_schema.names
    if not names:
        return [{}] * len(table.files)
    texts = []
    for name, values in zip(names, table.files["partition"].combine_chunks().flatten(), strict=True):
        encoded = values.dictionary_encode()
        with _errors_of(table, name):
            found = [_partition_text(value, columns[name]) for value in encoded.dictionary]
        texts.append([None if index is None else found[index] for index in encoded.indices.to_pylist()])
    return [dict(zip(names, row, strict=True)) for row in zip(*texts, strict=True)]


def _partition_text(value: pa.Scalar, kind: str) -> str:
    if pa.types.is_timestamp(value.type):
        text = str(value_entry(value.cast(pa.timestamp("us", value.type.tz))))
        return text if value.type.tz else text.replace("T", " ")
    text = str(value_entry(value))
    if not text:
        raise _NotInDeltaError("it has the empty text as a partition value, which Delta takes for NULL")
    return text.lower() if kind == "boolean" else text


def _statistics(files: pa.Table, layouts: Sequence[Layout], columns: Mapping[str, Any]) -> list[str]:
    """Return the `stats` of each file.

    What the catalog does not know is left out, and so are columns that the file does not have: or each file would get a
    new line when the table gets a column.
    """
    known: pa.StructType = files.schema.field("stats").type
    indexed = [name for name in columns if known.get_field_index(name) >= 0][:_INDEXED]
    parts: dict[str, list[list[str]]] = {"minValues": [], "maxValues": [], "nullCount": []}
    bounds = files["stats"].combine_chunks() if indexed else None
    for name in indexed:
        least, most, nulls = pc.struct_field(bounds, known.get_field_index(name)).flatten()
        if columns[name] != "boolean":  # for which Delta has no bounds
            parts["minValues"].append(_members(name, least, zero=-0.0))
            parts["maxValues"].append(_members(name, most, zero=0.0))
        having = pa.array([layout.fingerprint for layout in layouts if name in layout.file.names], pa.string())
        is_there = pc.is_in(files["schema_fingerprint"].combine_chunks(), value_set=having)
        parts["nullCount"].append(_members(name, pc.if_else(is_there, nulls, None)))
    members = [[f'"numRecords":{rows}' for rows in files["rows"].to_pylist()]]
    for side, values in parts.items():
        rows = (",".join(filter(None, row)) for row in zip(*values, strict=True))
        members += [[f'"{side}":{{{row}}}' if row else "" for row in rows]] if values else []
    return [f"{{{','.join(filter(None, row))}}}" for row in zip(*members, strict=True)]


def _members(name: str, values: pa.Array, zero: float = 0.0) -> list[str]:
    """Return the member of a JSON object for each value; empty for a null."""
    encoded = values.dictionary_encode()
    key = orjson.dumps(name).decode()
    texts = [f"{key}:{text}" if (text := _bound(value, zero)) else "" for value in encoded.dictionary]
    return ["" if index is None else texts[index] for index in encoded.indices.to_pylist()]


def _bound(value: pa.Scalar, zero: float) -> str:
    """Return a bound as JSON; a zero of a float as the given one, because readers order -0.0 before 0.0."""
    try:
        entry = value_entry(value)
    except ValueError:  # such as the year 10000
        return ""
    if pa.types.is_decimal(value.type):
        return str(entry)
    return orjson.dumps(zero if pa.types.is_floating(value.type) and entry == 0 else entry).decode()


def _type(unified: pa.DataType, physical: Sequence[pa.DataType]) -> Any:
    """Return the type of a column, or of what is in one.

    Args:
        unified: The type of the table's column.
        physical: The types that the files have.
    """
    if pa.types.is_struct(unified):
        fields = []
        for name, count in _repeated(child.name for child in unified):
            raise _NotInDeltaError(f"it has {count} fields {name!r}, because names in Delta have no case: rename them")
        for child in unified:
            of_files = [kind.field(child.name).type for kind in physical if kind.get_field_index(child.name) >= 0]
            fields.append(_field(child.name, _type(child.type, of_files)))
        return {"type": "struct", "fields": fields}
    if pa.types.is_list(unified):
        element = _type(unified.value_type, [kind.value_type for kind in physical])
        return {"type": "array", "elementType": element, "containsNull": True}
    if pa.types.is_map(unified):
        key = _type(unified.key_type, [kind.key_type for kind in physical])
        value = _type(unified.item_type, [kind.item_type for kind in physical])
        return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
    target = _flat_type(unified)
    for kind in physical:
        if not _becomes(_flat_type(kind), target):
            raise _NotInDeltaError(f"it is {kind} in some files, which readers do not convert to {target}")
    return target


def _repeated(names: Iterable[str]) -> list[tuple[str, int]]:
    """Return the names that differ in case only, in lower case, and how many there are of each."""
    return [(name, count) for name, count in Counter(map(str.lower, names)).items() if count > 1]


def _flat_type(kind: pa.DataType) -> str:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if pa.types.is_fixed_size_binary(kind):
        return "binary"
    if pa.types.is_decimal128(kind) and kind.scale >= 0:
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return "timestamp" if kind.tz else "timestamp_ntz"
    hint = ": cast it to microseconds" if pa.types.is_timestamp(kind) else ": cast it to another type"
    raise _NotInDeltaError(f"its type is {kind}, which Delta does not have{hint}")


def _becomes(one: str, other: str) -> bool:
    """Return True if readers convert values of one type to another."""
    for kinds in _WIDENED:
        if one in kinds and other in kinds:
            return kinds.index(one) <= kinds.index(other)
    if one.startswith("decimal") and other.startswith("decimal"):
        (digits, scale), (more, same) = (map(int, kind[len("decimal(") : -1].split(",")) for kind in (one, other))
        return digits <= more and scale == same
    return one == other


def _holds_local_time(kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind):
        return bool(kind.tz is None)
    return pa.types.is_nested(kind) and any(_holds_local_time(kind.field(at).type) for at in range(kind.num_fields))


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}


class LoggedFile(NamedTuple):
    """A file as a Delta log has it.

    Attributes:
        digest: A digest of its line.
        partition_key: Dagster's key of the partition; None for an unpartitioned asset.
        event_id: The event that named it.
        modified_ms: The time of the object, milliseconds since 1970.
    """

    digest: bytes
    partition_key: str | None
    event_id: int
    modified_ms: int

    @classmethod
    def of(cls, digest: bytes, add: Mapping[str, Any]) -> "LoggedFile":
        """Return the file that an `add` of `add_lines` describes.

        Raises:
            KeyError, TypeError, ValueError: It has none of the tags.
        """
        tags = add["tags"]
        return cls(digest, tags.get(PARTITION_TAG), int(tags[EVENT_TAG]), int(add["modificationTime"]))


def unexplained(files: Iterable[LoggedFile], asset: AssetState) -> list[LoggedFile]:
    """Return the files that may still be current: the asset has no event that came after them.

    An event came after a file if its id is as high, or its time as late as that of the object. Either is enough,
    because SQLite gives the ids of wiped events again, and clocks differ.
    """
    left = [file for file in files if asset.wiped_at_us is None or asset.wiped_at_us < file.modified_ms * _MS]
    keys = pa.array({file.partition_key for file in left}, pa.string())
    latest: dict[str | None, tuple[int, int]] = defaultdict(lambda: (-1, -1))
    rows = [*(rows for segment in asset.segments for rows in segment.live()), asset.absent]
    for _, key, (event_id, at_us) in (found for part in rows for found in find_partitions(part, keys)):
        latest[key] = max(latest[key][0], event_id), max(latest[key][1], at_us)

    def has_later(file: LoggedFile) -> bool:
        event_id, at_us = latest[file.partition_key]
        return event_id >= file.event_id or at_us >= file.modified_ms * _MS

    return [file for file in left if not has_later(file)]
