"""Converts a Parquet footer to a record of event metadata v1, with exact statistics only. Pure.

A bound that is not the column's own minimum or maximum would give wrong results, since aggregates are computed from it
and files are skipped by it. So there are none for

- floats: a writer may or may not have counted a NaN, and DataFusion sorts it above all numbers;
- strings, unless Arrow's C++ writer wrote them: other writers truncate long ones, and most do not mark that;
- INT96 timestamps, and dates and times that Python cannot represent.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from dagfusion_client.errors import NotParquetError, UndiscoverableError
from dagfusion_contract.arrow_types import parse_flat_type
from dagfusion_contract.record import FOREIGN, UNREADABLE
from dagfusion_contract.values import EXACT

if TYPE_CHECKING:  # most processes read no footer
    import pyarrow.parquet as pq

MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
_LENGTH_BYTES = 4
_TRAILER_BYTES = _LENGTH_BYTES + len(MAGIC)
Columns = tuple[tuple[str, str | None], ...]
_DIGITS_128 = 38
_MAX_CHARACTERS = 64
_EXACT_STRINGS = "parquet-cpp"  # leaves long bounds out, and has never cut one
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}


@dataclass(frozen=True)
class Tail:
    """The end of an object, and what its store says of the whole.

    Attributes:
        data: The last bytes.
        size: The size of the object, bytes.
        etag: The store's, or None.
        modified: When the store took the object.
    """

    data: bytes
    size: int
    etag: str | None
    modified: datetime


def footer_bytes(tail: Tail) -> int:
    """Return how many bytes at the end of an object are its footer.

    Raises:
        UndiscoverableError: The object is not Parquet.
    """
    if not tail.size:
        raise UndiscoverableError("the file is empty")
    if tail.data[-len(MAGIC) :] == _ENCRYPTED:
        raise UndiscoverableError("the file is encrypted Parquet, which cannot be read")
    if len(tail.data) < _TRAILER_BYTES or tail.data[-len(MAGIC) :] != MAGIC:
        raise NotParquetError(f"{NotParquetError.PREFIX}the file does not end with the bytes PAR1")
    length = int.from_bytes(tail.data[-_TRAILER_BYTES : -len(MAGIC)], "little") + _TRAILER_BYTES
    if length > tail.size:
        raise UndiscoverableError(
            f"the file is truncated: its footer has {length:,} bytes, and the file {tail.size:,} bytes"
        )
    return length


@dataclass(frozen=True)
class Described:
    """The content of a footer.

    Attributes:
        schema: All columns of the file, in its order.
        record: The file as event metadata v1 has it, without partition values.
    """

    schema: pa.Schema
    record: dict[str, Any]

    def with_partition(self, columns: Columns) -> dict[str, Any]:
        """Return the record of the file as one of a partition."""
        values = [{"name": name, "type": "string", "value": value} for name, value in columns]
        return {**self.record, "partition": values}


def describe(uri: str, tail: Tail) -> Described:
    """Describe a file.

    Args:
        uri: The file's.
        tail: With the whole footer.

    Raises:
        UndiscoverableError: The object is not Parquet.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415  # most processes read no footer

    try:
        metadata = pq.read_metadata(pa.BufferReader(tail.data))
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UndiscoverableError(f"its Parquet footer cannot be read: {str(error).splitlines()[0]:.200}") from error
    modified = tail.modified.astimezone(UTC)
    record = {
        "version": 1,
        "uri": uri,
        "size_bytes": tail.size,
        "etag": tail.etag,
        "modified": f"{modified:%Y-%m-%dT%H:%M:%S}.{modified.microsecond:06d}Z",
        "rows": metadata.num_rows,
        "partition": [],
        "schema": describe_schema(metadata, schema),
        "columns": column_statistics(metadata, schema),
    }
    return Described(schema, record)


class _UnreadableError(Exception):
    """A column has a type that cannot be queried; the text is its name."""


def describe_schema(metadata: "pq.FileMetaData", schema: pa.Schema) -> dict[str, Any]:
    """Return a record's `schema`: the fields, and by name the types of columns that are left out; their fingerprint.

    Args:
        metadata: The footer.
        schema: The footer's columns as Arrow has them.
    """
    leaves = (metadata.schema.column(number) for number in range(len(metadata.schema)))
    fields: list[dict[str, Any]] = []
    unreadable: dict[str, str] = {}
    for field in schema:
        own = islice(leaves, leaf_count(field.type))
        try:
            fields.append(_field(field, own))
        except _UnreadableError as error:
            unreadable[field.name] = str(error)
            list(own)  # so that the next column begins at its own leaf
    described = [fields, unreadable] if unreadable else fields
    canonical = orjson.dumps(described, option=orjson.OPT_SORT_KEYS)
    found = {"fingerprint": FOREIGN + hashlib.sha256(canonical).hexdigest()[:16], "fields": fields}
    return found | ({UNREADABLE: unreadable} if unreadable else {})


def leaf_count(data_type: pa.DataType) -> int:
    """Return how many of a Parquet file's columns an Arrow column is."""
    kind = reader_type(data_type)
    if pa.types.is_struct(kind):
        return sum(leaf_count(field.type) for field in kind)
    if pa.types.is_map(kind):
        return leaf_count(kind.key_type) + leaf_count(kind.item_type)
    return leaf_count(kind.value_type) if pa.types.is_nested(kind) else 1


def reader_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a reader gives a flat column, whatever its writer kept it in."""
    if isinstance(kind, pa.BaseExtensionType):
        return reader_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return reader_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_decimal(kind) and kind.precision <= _DIGITS_128:
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def column_statistics(metadata: "pq.FileMetaData", schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return a record's `columns`: for each flat column what is known of `min`, `max` and `nulls`.

    Args:
        metadata: The footer.
        schema: The footer's columns as Arrow has them.
    """
    strings = (metadata.created_by or "").startswith(_EXACT_STRINGS)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    found: dict[str, dict[str, Any]] = {}
    for field, leaf in _flat_columns(schema):
        chunks = [group.column(leaf) for group in groups]
        required = metadata.schema.column(leaf).max_definition_level == 0
        bounds = _Bounds(reader_type(field.type), strings=strings).of(chunks, required=required)
        if bounds:
            found[field.name] = bounds
    return found


class _Bounds:
    """Reads the bounds of one column."""

    def __init__(self, kind: pa.DataType, *, strings: bool) -> None:
        self._kind, self._strings = kind, strings

    def of(self, chunks: "list[pq.ColumnChunkMetaData]", *, required: bool) -> dict[str, Any]:
        """Return what is known of a column over all of a file's row groups."""
        bounds: dict[str, Any] = {}
        lows, highs = [], []
        nulls: int | None = 0
        bounded = True
        for chunk in chunks:
            if chunk.num_values == 0:
                continue
            stats = chunk.statistics
            here = 0 if required else stats.null_count if stats is not None and stats.has_null_count else None
            nulls = None if nulls is None or here is None else nulls + here
            if here == chunk.num_values:
                continue
            low, high = (self._read(stats.min_raw), self._read(stats.max_raw)) if self._has(stats) else (None, None)
            if low is None or high is None or low > high:  # an order that is not the column's turns them round
                bounded = False
            else:
                lows.append(low)
                highs.append(high)
        if nulls is not None:
            bounds["nulls"] = nulls
        if bounded and lows:
            texts = self._text(min(lows)), self._text(max(highs))
            bounds |= {} if None in texts else dict(zip(("min", "max"), texts, strict=True))
        return bounds

    def _has(self, stats: "pq.Statistics | None") -> bool:
        if stats is None or not stats.has_min_max or stats.physical_type == "INT96":
            return False
        if not pa.types.is_timestamp(self._kind):
            return True
        stored = orjson.loads(stats.logical_type.to_json()).get("timeUnit")
        return bool(_UNITS.get(stored) == self._kind.unit)

    def _read(self, raw: Any) -> Any:
        """Return a bound as something that sorts as the column does; None where it cannot be relied on."""
        kind = self._kind
        if pa.types.is_string(kind):
            return _decoded(raw) if self._strings and isinstance(raw, bytes) else None
        if pa.types.is_decimal(kind) and isinstance(raw, bytes):
            return int.from_bytes(raw, "big", signed=True)
        if pa.types.is_boolean(kind):
            return raw if isinstance(raw, bool) else None
        if type(raw) is not int:
            return None
        if pa.types.is_unsigned_integer(kind):
            return raw % (1 << kind.bit_width)
        is_whole = pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        return raw if is_whole or pa.types.is_date32(kind) or pa.types.is_timestamp(kind) else None

    def _text(self, value: Any) -> Any:
        """Return a bound as the contract writes it; None where it has no way to."""
        kind = self._kind
        if pa.types.is_string(kind):
            return value if len(value) <= _MAX_CHARACTERS else None
        if pa.types.is_decimal(kind):
            return f"{Decimal(value).scaleb(-kind.scale, EXACT):f}" if abs(value) < 10**kind.precision else None
        try:
            if pa.types.is_date32(kind):
                return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
            return _moment(value, kind) if pa.types.is_timestamp(kind) else value
        except OverflowError:
            return None


def _field(field: pa.Field, leaves: "Iterator[pq.ColumnSchema]") -> dict[str, Any]:
    return {"name": field.name, "type": _type(field.type, leaves), "nullable": field.nullable}


def _type(data_type: pa.DataType, leaves: "Iterator[pq.ColumnSchema]") -> Any:
    kind = reader_type(data_type)
    if pa.types.is_struct(kind):
        return {"struct": [_field(field, leaves) for field in kind]}
    if pa.types.is_map(kind):
        return {"map": [_field(kind.key_field, leaves), _field(kind.item_field, leaves)]}
    if pa.types.is_nested(kind) and hasattr(kind, "value_field"):
        return {"list": _field(kind.value_field, leaves)}
    leaf = next(leaves)
    if leaf.physical_type == "INT96":  # DataFusion reads microseconds, which hold the years that nanoseconds do not
        kind = pa.timestamp("us")
    if leaf.converted_type == "INTERVAL":
        raise _UnreadableError("interval")
    if parse_flat_type(str(kind)) is None:
        raise _UnreadableError(str(kind))
    return str(kind)


def _flat_columns(schema: pa.Schema) -> Iterator[tuple[pa.Field, int]]:
    """Yield the flat columns and the numbers of their leaves in the file."""
    leaf = 0
    for field in schema:
        leaves = leaf_count(field.type)
        if not pa.types.is_nested(reader_type(field.type)):
            yield field, leaf
        leaf += leaves


def _moment(value: int, kind: pa.TimestampType) -> str:
    seconds, nanoseconds = divmod(value * _NANOSECONDS[kind.unit], 10**9)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    digits = _DIGITS[kind.unit]
    fraction = f".{nanoseconds:09d}"[: digits + 1] if digits else ""
    return f"{text}{fraction}{'Z' if kind.tz else ''}"


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
