"""Event metadata v1: the `dagfusion/file` entry of a materialization, read strictly into a `DataFile`.

This half checks what is cheap to check one by one: which fields are there, and their JSON types. Dates, decimals and
statistics stay as JSON wrote them; `catalog.rows` converts them a column at a time.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from dagfusion_query.errors import EventRecordError, MalformedRecordError, RecordVersionError
from dagfusion_query.event_log.arrow_types import parse_field, parse_type

ENTRY = "dagfusion/file"
VERSION = 1
FOREIGN = "foreign:"  # begins the fingerprints of what another IO manager wrote
UNREADABLE = "unreadable"  # the field of a discovered schema that names the columns which it leaves out
_MAX_LAYOUTS = 10_000
_VALUE, _NAME_AND_TYPE = itemgetter("value"), itemgetter("name", "type")
_SCHEMES = ("s3://", "file:///")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
# An event is several times as long as its record, so the record is cut out where Dagster's serializer puts it; an event
# that is written in another way is parsed as a whole. Inside a JSON string the quotes would be escaped.
ENTRY_START = (
    '{"__class__": "EventMetadataEntry", "description": null, '
    '"entry_data": {"__class__": "JsonMetadataEntryData", "data": '
)
ENTRY_END = f'}}, "label": "{ENTRY}"}}'


@dataclass(frozen=True, eq=False)
class Layout:
    """What files of one kind have in common; files of one layout share one `Layout`.

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
        partition: One value a partition column, in the layout's order.
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


class DataFiles(NamedTuple):
    """Several objects that one materialization wrote; all of them are its partition."""

    files: Sequence[DataFile]


class Foreign(NamedTuple):
    """What another IO manager wrote, as its event names it; nothing of it has been looked at.

    Attributes:
        uri: As the metadata has it: an object, a folder, or nothing that can be read.
        dimensions: Name and value of each dimension of a multi-dimensional partition, where the event tells.
    """

    uri: str
    dimensions: tuple[tuple[str, str], ...]


class RecordReader:
    """Reads records; layouts are parsed once each and shared.

    Args:
        metadata_keys: The metadata that may name what another IO manager wrote, first choice first.
        bucket: The one bucket that files may be in; None allows any, and local files.
    """

    def __init__(self, metadata_keys: Sequence[str] = (), bucket: str | None = None) -> None:
        self._layouts: dict[object, Layout] = {}
        self._metadata_keys = metadata_keys
        self._places = _SCHEMES if bucket is None else (f"s3://{bucket}/",)

    @property
    def rules(self) -> str:
        """What this reader was told, as a part of the identity of what it reads; empty where that is nothing."""
        told = [*self._metadata_keys, *(self._places if self._places is not _SCHEMES else ())]
        return "|".join(told)

    @property
    def naming(self) -> str:
        """A regular expression, for Python and PostgreSQL, that finds every stored event which names a file.

        It may find others too.
        """
        labels = "|".join(re.escape(json.dumps(label)[1:-1]) for label in (ENTRY, *self._metadata_keys))
        return rf'"label"\s*:\s*"({labels})"'

    def from_event(self, event: str) -> DataFile | Foreign | EventRecordError | None:
        """Read the record of one stored ASSET_MATERIALIZATION event.

        Args:
            event: The event as Dagster stores it, JSON.

        Returns:
            The file; what another IO manager wrote, or None, when the event has no `dagfusion/file` entry; the error
            when it has one that cannot be used, so that one bad event hides nothing else.
        """
        try:
            found = _cut_record(event)
            if found is not None:
                return self.read(found[0])
            materialization = _parse(event)["dagster_event"]["event_specific_data"]["materialization"]
            for entry in materialization["metadata_entries"]:
                if entry["label"] == ENTRY:
                    return self.read(_strict(entry["entry_data"]["data"]))
            return find_foreign(materialization, self._metadata_keys)
        except EventRecordError as error:
            return error
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            return MalformedRecordError(f"the stored event is not one that this reader knows: {error!r:.500}")

    def from_cut(self, text: str) -> DataFile | EventRecordError:
        """Read a record that was cut out of its event, between `ENTRY_START` and `ENTRY_END`.

        Raises:
            ValueError: It is no JSON, so the cut was not in the right places: read the event as a whole.
        """
        record = orjson.loads(text)
        try:
            return self.read(record)
        except EventRecordError as error:
            return error

    def read(self, record: object) -> DataFile:
        """Read one `dagfusion/file` record.

        Raises:
            RecordVersionError: Its version is not 1.
            MalformedRecordError: It breaks the contract; the message names the field.
        """
        if type(record) is not dict:
            raise MalformedRecordError(f"{ENTRY} must be a JSON object, got {record!r}")
        version = record.get("version")
        if type(version) is not int or version != VERSION:
            raise RecordVersionError(
                f"{ENTRY}.version must be {VERSION}, got {version!r}: "
                "a newer pipeline wrote it; upgrade this reader (dagfusion-query) to a version that knows it"
            )
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
                orjson.dumps(columns, option=orjson.OPT_SORT_KEYS),  # much smaller than objects
            )
        except (KeyError, TypeError) as error:
            raise _malformed(record, self._places) from error
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


def _parse(event: str) -> Any:
    """Parse a stored event. Dagster writes Python's JSON, which also has NaN, infinities and lone surrogates."""
    try:
        return orjson.loads(event)
    except orjson.JSONDecodeError:
        return json.loads(event)


def _strict(value: Any) -> Any:
    """Return a part of a parsed event.

    Raises:
        ValueError: It has something that only Python's JSON has.
    """
    return orjson.loads(json.dumps(value, allow_nan=False))


def find_foreign(materialization: Mapping[str, Any], keys: Sequence[str]) -> Foreign | None:
    """Return what a materialization's metadata says was written; None when it says nothing of that kind.

    Args:
        materialization: As Dagster serializes it.
        keys: The metadata that may say it. The first that names a place counts, else the first that is there.
    """
    if not keys:
        return None
    texts = {entry["label"]: _text(entry["entry_data"]) for entry in materialization["metadata_entries"]}
    named = [text for key in keys if (text := texts.get(key))]
    if not named:
        return None
    tags = materialization.get("tags") or {}
    of_partition = [[tag.removeprefix(_DIMENSION), tags[tag]] for tag in sorted(tags) if tag.startswith(_DIMENSION)]
    uri = next((text for text in named if text.startswith(_PLACES)), named[0])
    return Foreign(_strict(uri), tuple((name, value) for name, value in _strict(of_partition)))


def _text(data: Mapping[str, Any]) -> str | None:
    """Return the value of a path, URL or text; None for any other metadata."""
    value = data.get(_TEXTS.get(data["__class__"], ""))
    return value.strip() if isinstance(value, str) else None


_DIMENSION = "dagster/partition/"
_PLACES = ("s3://", "s3a://", "s3n://", "file:/", "/")
_TEXTS = {"PathMetadataEntryData": "path", "UrlMetadataEntryData": "url", "TextMetadataEntryData": "text"}


def _cut_record(event: str) -> tuple[object] | None:
    """Return the entry's data, parsed, in a tuple; None when it is not where it usually is."""
    end = event.find(ENTRY_END)
    if end > 0 and event.find(ENTRY_END, end + 1) < 0:
        start = event.rfind(ENTRY_START, 0, end)
        if start > 0:
            with suppress(orjson.JSONDecodeError):
                return (orjson.loads(event[start + len(ENTRY_START) : end]),)
    return None


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
    return type(value) is str and _CHECKSUM.fullmatch(value) is not None


def _malformed(record: Mapping[str, Any], places: Sequence[str]) -> MalformedRecordError:
    """Say which field of a record that cannot be read is the wrong one."""
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
