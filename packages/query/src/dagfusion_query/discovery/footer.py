"""A Parquet footer to a record of event metadata v1. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dagfusion_query.discovery.arrow_fields import describe_schema
from dagfusion_query.discovery.places import Columns
from dagfusion_query.discovery.statistics import column_statistics
from dagfusion_query.errors import NotParquetError, UndiscoverableError

MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
_LENGTH_BYTES = 4
_TRAILER_BYTES = _LENGTH_BYTES + len(MAGIC)


@dataclass(frozen=True)
class Tail:
    """The end of an object, and what its store says of the whole.

    Attributes:
        data: The last bytes.
        size: Of the object, bytes.
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
        UndiscoverableError: It is not Parquet.
    """
    if not tail.size:
        raise UndiscoverableError("it is no whole Parquet file: it is empty")
    if tail.data[-len(MAGIC) :] == _ENCRYPTED:
        raise UndiscoverableError("it is encrypted Parquet, which cannot be read")
    if len(tail.data) < _TRAILER_BYTES or tail.data[-len(MAGIC) :] != MAGIC:
        raise NotParquetError(f"{NotParquetError.PREFIX}it does not end as a Parquet file does")
    length = int.from_bytes(tail.data[-_TRAILER_BYTES : -len(MAGIC)], "little") + _TRAILER_BYTES
    if length > tail.size:
        raise UndiscoverableError(
            f"it is no whole Parquet file: a footer of {length:,} bytes in a file of {tail.size:,} bytes"
        )
    return length


@dataclass(frozen=True)
class Described:
    """What a footer says of its file."""

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
        UndiscoverableError: It is not Parquet.
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
