"""Event metadata v1: one written object as the entry `dagfusion/file` of its materialization, written and read. Pure.

The reader checks what is cheap to check one by one: the fields that are present, and their JSON types. Values of
partitions and statistics stay as JSON has them, so that a reader of many records can convert them a column at a time.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from dagfusion_contract.arrow_types import field_entry, parse_field, parse_type
from dagfusion_contract.errors import MalformedRecordError, RecordVersionError
from dagfusion_contract.uri import LOCAL_FILES, S3, bucket_url

ENTRY = "dagfusion/file"
VERSION = 1
FOREIGN = "foreign:"  # the fingerprints of files that another IO manager wrote begin with it
UNREADABLE = "unreadable"  # the field of a discovered schema that names the columns which it leaves out
SCHEMES = (S3, LOCAL_FILES)
_MAX_LAYOUTS = 10_000
_VALUE, _NAME_AND_TYPE = itemgetter("value"), itemgetter("name", "type")
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class WrittenFile:
    """One object that the store has confirmed.

    Attributes:
        uri: The object's raw key behind `s3://bucket/`.
        modified: Aware; when the store took the object.
        checksum: The checksum of the object's bytes, `sha256:` and 64 hexadecimal digits; None where it is not known.
        rows: Rows in the file.
        partition: Partition columns in path order, as `values.partition_entry` writes them.
        schema: The columns physically in the file, as `schema_entry` writes them.
        columns: By column: nulls, and least and greatest value where they are exact and mean something.
    """

    uri: str
    size_bytes: int
    etag: str | None
    modified: datetime
    rows: int
    partition: Sequence[Mapping[str, Any]]
    schema: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, Any]]
    checksum: str | None = None


def schema_entry(schema: pa.Schema) -> dict[str, Any]:
    """Return a file's columns and their fingerprint, which follows from names, types, nullability and order."""
    fields = [field_entry(field) for field in schema]
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True)
    return {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16], "fields": fields}


def file_entry(file: WrittenFile) -> dict[str, Any]:
    """Return the entry `dagfusion/file` of event metadata v1."""
    return {
        "version": VERSION,
        "uri": file.uri,
        "size_bytes": file.size_bytes,
        "etag": file.etag,
        **({"checksum": file.checksum} if file.checksum else {}),
        "modified": file.modified.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "rows": file.rows,
        "partition": list(file.partition),
        "schema": dict(file.schema),
        "columns": dict(file.columns),
    }


@dataclass(frozen=True, eq=False)
class Layout:
    """The properties that files of one kind share; files of one layout share one `Layout`.

    Attributes:
        file: The columns physically in the file, partition columns left out, every field nullable.
        partition: The partition columns in path order.
        fingerprint: The writer's fingerprint of the file's schema.
        key: Identifies the layout by its content.
        unreadable: Name and type of columns that are in the file and cannot be read.
    """

    file: pa.Schema
    partition: pa.Schema
    fingerprint: str
    key: str
    unreadable: tuple[tuple[str, str], ...] = ()


class DataFile(NamedTuple):
    """One written object, as its event describes it; the values of `partition` are still JSON's.

    Attributes:
        modified: The store's last-modified time, ISO 8601 in UTC.
        checksum: `sha256:` and 64 hexadecimal digits, of the object's bytes; None when the event has none.
        partition: One value for each partition column, in the layout's order.
        columns: JSON text of an object: column name to `{"min", "max", "nulls"}`.
    """

    uri: str
    size_bytes: int
    modified: str
    etag: str | None
    checksum: str | None
    rows: int
    layout: Layout
    partition: Sequence[Any]
    columns: bytes


def _encode(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def versioned(record: object, entry: str, version: int) -> dict[str, Any]:
    """Return a parsed entry if it is an object of this version.

    Args:
        record: The entry, parsed from JSON.
        entry: Its name.
        version: The version that the reader knows.

    Raises:
        RecordVersionError: The entry has another version.
        MalformedRecordError: The entry is not a JSON object.
    """
    if type(record) is not dict:
        raise MalformedRecordError(f"{entry} must be a JSON object, got {record!r:.200}")
    found = record.get("version")
    if type(found) is not int or found != version:
        raise RecordVersionError(
            f"{entry}.version must be {version}, got {found!r}: "
            "a newer pipeline wrote it; upgrade this reader (dagfusion-query) to a version that knows it"
        )
    return record


class RecordReader:
    """Reads records; layouts are parsed once each and shared.

    Args:
        bucket: The one bucket that files may be in; None allows any, and local files.
        encode: Encodes `DataFile.columns`: JSON with sorted keys. A reader of many records passes a faster one.
    """

    def __init__(self, bucket: str | None = None, *, encode: Callable[[object], bytes] = _encode) -> None:
        self._layouts: dict[object, Layout] = {}
        self._places = SCHEMES if bucket is None else (bucket_url(bucket),)
        self._encode = encode

    def read(self, record: object) -> DataFile:
        """Read one `dagfusion/file` record.

        Args:
            record: The entry, parsed from JSON.

        Raises:
            RecordVersionError: Its version is not 1.
            MalformedRecordError: It breaks the contract; the message names the field.
        """
        record = versioned(record, ENTRY, VERSION)
        try:
            columns, partition = record["columns"], record["partition"]
            file = DataFile(
                record["uri"],
                record["size_bytes"],
                record["modified"],
                record["etag"],
                record.get("checksum"),
                record["rows"],
                self._layout(record["schema"], partition),
                list(map(_VALUE, partition)),
                self._encode(columns),  # much smaller than objects
            )
        except MalformedRecordError:
            raise
        except (KeyError, TypeError) as error:
            raise _malformed(record, self._places) from error
        except ValueError as error:  # NaN and infinities, which JSON cannot have
            raise MalformedRecordError(f"{ENTRY}.columns must hold JSON values: {error}") from error
        if (
            type(file.uri) is not str
            or not file.uri.startswith(self._places)
            or type(file.modified) is not str
            or type(columns) is not dict
            or not _is_count(file.size_bytes)
            or not _is_count(file.rows)
            or not (file.etag is None or type(file.etag) is str)
            or not (file.checksum is None or _is_checksum(file.checksum))
        ):
            raise _malformed(record, self._places)
        return file

    def _layout(self, schema: dict[str, Any], partition: list[dict[str, Any]]) -> Layout:
        fingerprint = schema["fingerprint"]
        key = (fingerprint, *map(_NAME_AND_TYPE, partition))
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[key] = _parse_layout(schema, partition)
        return layout


def _parse_layout(schema: Mapping[str, Any], partition: Sequence[Mapping[str, Any]]) -> Layout:
    fields, fingerprint = schema["fields"], schema["fingerprint"]
    unreadable = schema.get(UNREADABLE) if str(fingerprint).startswith(FOREIGN) else None
    where = f"{ENTRY}.partition"
    columns = [pa.field(c["name"], parse_type(c["type"], f"{where}[{i}].type")) for i, c in enumerate(partition)]
    if type(fingerprint) is not str or type(fields) is not list:
        raise MalformedRecordError(f"{ENTRY}.schema must be a fingerprint and a list of fields, got {fields!r:.200}")
    file = [parse_field(field, f"{ENTRY}.schema.fields[{i}]") for i, field in enumerate(fields)]
    for at, names in ((where, [c.name for c in columns]), (f"{ENTRY}.schema.fields", [field.name for field in file])):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise MalformedRecordError(f"{at} must name each column once, got {twice} more than once")
    file_schema = pa.schema([field for field in file if field.name not in {column.name for column in columns}])
    partition_schema = pa.schema(columns)
    content = f"{file_schema!r}\x00{partition_schema!r}\x00{fingerprint}"
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Layout(file_schema, partition_schema, fingerprint, key, tuple((unreadable or {}).items()))


_KINDS: dict[str, type] = {
    "uri": str,
    "size_bytes": int,
    "modified": str,
    "rows": int,
    "partition": list,
    "schema": dict,
    "columns": dict,
}


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_checksum(value: object) -> bool:
    return type(value) is str and CHECKSUM.fullmatch(value) is not None


def _malformed(record: Mapping[str, Any], places: Sequence[str]) -> MalformedRecordError:
    """Return the error for a record that cannot be read; it names the first field that is wrong."""
    for name, kind in _KINDS.items():
        value = record.get(name)
        if type(value) is not kind:
            return MalformedRecordError(f"{ENTRY}.{name} must be {_JSON[kind]}, got {value!r:.200}")
    for name in ("size_bytes", "rows"):
        if not _is_count(record[name]):
            return MalformedRecordError(f"{ENTRY}.{name} must be a count from 0 to 2^63 - 1, got {record[name]}")
    if not record["uri"].startswith(tuple(places)):
        return MalformedRecordError(f"{ENTRY}.uri must start with one of {', '.join(places)}; got {record['uri']!r}")
    for name in ("fingerprint", "fields"):
        if name not in record["schema"]:
            return MalformedRecordError(f"{ENTRY}.schema.{name} is missing")
    etag, checksum = record.get("etag", 0), record.get("checksum")
    if not isinstance(etag, str | None):
        says = f"etag must be a string or null, got {record.get('etag', 'nothing')!r}"
    elif not (checksum is None or _is_checksum(checksum)):
        says = f"checksum must be sha256: and 64 hexadecimal digits in lower case, got {checksum!r:.200}"
    else:
        flat = '{"name", "type", "value"} with flat types'
        says = f"partition must be a list of {flat}, got {record['partition']!r:.500}"
    return MalformedRecordError(f"{ENTRY}.{says}")


_JSON = {str: "a string", int: "an integer", list: "a list", dict: "an object"}
