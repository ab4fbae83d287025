"""Column statistics of a Parquet footer as event metadata v1 has them: only what is exact. Pure.

A bound that is not the column's own minimum or maximum would give wrong answers, since aggregates are answered from it
and files are skipped by it. So there are none for

- floats: a writer may or may not have counted a NaN, and DataFusion sorts it above all numbers;
- strings, but of Arrow's C++ writer: others cut long ones short, and mostly do not say so;
- INT96 timestamps, and dates and times that Python has no notion of.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from dagfusion_query.discovery.arrow_fields import leaf_count, plain

if TYPE_CHECKING:  # most processes read no footer
    import pyarrow.parquet as pq

_MAX_CHARACTERS = 64
_EXACT_STRINGS = "parquet-cpp"  # leaves long bounds out, and has never cut one
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_EXACT = Context(prec=76)
_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}


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
        known = _Bounds(plain(field.type), strings=strings).of(chunks, required=required)
        if known:
            found[field.name] = known
    return found


def _flat_columns(schema: pa.Schema) -> Iterator[tuple[pa.Field, int]]:
    """Yield the flat columns and the numbers of their leaves in the file."""
    leaf = 0
    for field in schema:
        leaves = leaf_count(field.type)
        if not pa.types.is_nested(plain(field.type)):
            yield field, leaf
        leaf += leaves


class _Bounds:
    """Reads the bounds of one column."""

    def __init__(self, kind: pa.DataType, *, strings: bool) -> None:
        self._kind, self._strings = kind, strings

    def of(self, chunks: "list[pq.ColumnChunkMetaData]", *, required: bool) -> dict[str, Any]:
        """Return what is known of a column over all of a file's row groups."""
        known: dict[str, Any] = {}
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
            known["nulls"] = nulls
        if bounded and lows:
            texts = self._text(min(lows)), self._text(max(highs))
            known |= {} if None in texts else dict(zip(("min", "max"), texts, strict=True))
        return known

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
            return f"{Decimal(value).scaleb(-kind.scale, _EXACT):f}" if abs(value) < 10**kind.precision else None
        try:
            if pa.types.is_date32(kind):
                return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
            return _moment(value, kind) if pa.types.is_timestamp(kind) else value
        except OverflowError:
            return None


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
