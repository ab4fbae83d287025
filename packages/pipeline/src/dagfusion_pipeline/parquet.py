"""Arrow tables to Parquet files and back, and what the catalog wants to know of each column."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dagfusion_contract.field_ids import without_field_ids
from dagfusion_contract.naming import find_column
from dagfusion_contract.values import parse_partition_entry, value_entry

Compression = Literal["zstd", "snappy"]

PARTITION_METADATA_KEY = b"dagfusion/partition"
ROW_GROUP_ROWS = 1 << 17
ROW_GROUP_BYTES = 64 << 20
MAX_BOUND_CHARACTERS = 64
# Below it a column's dictionary takes more space than it saves, and as long to write as the rest of the file.
DICTIONARY_ROWS = 8192

# Types whose order SQL engines agree on; the others get no bounds.
_BOUNDED = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_time,
    pa.types.is_string,
)


@dataclass(frozen=True)
class FileFacts:
    """Rows, and by column the nulls and the least and greatest value where they are exact and mean something."""

    rows: int
    columns: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ParquetFile:
    """An encoded file: its bytes in memory, or the path of a temporary file when it is large."""

    content: pa.Buffer | Path
    facts: FileFacts


@dataclass
class ParquetEncoder:
    """Encodes one file from the tables it is given, a row group at a time.

    Tables are held until they fill a row group (`ROW_GROUP_BYTES`); a file of more than one goes to `spill_path`.
    `held_bytes` is what the encoder keeps in memory.
    """

    schema: pa.Schema
    compression: Compression
    partition: Sequence[Mapping[str, Any]]
    spill_path: Path
    held_bytes: int = 0
    _buffered: list[pa.Table] = field(default_factory=list)
    _rows: int = 0
    _writer: pq.ParquetWriter | None = None
    _statistics: list["_Statistics"] = field(default_factory=list)

    def write(self, table: pa.Table) -> None:
        """Add rows; they may be written now or later."""
        self._buffered.append(table)
        self.held_bytes += table.nbytes
        if self.held_bytes >= ROW_GROUP_BYTES:
            if self._writer is None:
                self._writer = self._open(self.spill_path)
            self._encode(self._writer)

    def finish(self) -> ParquetFile:
        """Write what is left and close the file."""
        if self._writer is not None:
            self._encode(self._writer)
            self._close(self._writer)
            return ParquetFile(self.spill_path, self._facts())
        sink = pa.BufferOutputStream()
        writer = self._open(sink)
        self._encode(writer)
        self._close(writer)
        return ParquetFile(sink.getvalue(), self._facts())

    def held_rows(self) -> pa.Table | None:
        """Return all rows of the file, or None when some of them are written already."""
        return self._joined() if self._writer is None else None

    def discard(self) -> None:
        """Discard the file and free its memory."""
        self._buffered.clear()
        if self._writer is not None:
            self._writer.close()
            self.spill_path.unlink(missing_ok=True)

    def _open(self, sink: pa.BufferOutputStream | Path) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            sink,
            self.schema,
            compression=self.compression,
            use_dictionary=sum(table.num_rows for table in self._buffered) >= DICTIONARY_ROWS,
            write_statistics=self._bounded_columns(more_rows=sink is self.spill_path),
            write_page_index=True,
            write_page_checksum=True,
        )

    def _bounded_columns(self, *, more_rows: bool) -> bool | list[str]:
        """Return the columns whose bounds the file may hold, or True for all of them.

        Parquet's bounds leave NaN out, and readers skip row groups by them. So a column that holds NaN has none, nor
        has a float column that may still get one: pyarrow cannot change its mind after the first row group.
        """
        return _all_but(self.schema, {f.name for f in self.schema if self._may_get_nan(f, more_rows=more_rows)})

    def _may_get_nan(self, column: pa.Field, *, more_rows: bool) -> bool:
        if not pa.types.is_floating(column.type):
            return pa.types.is_nested(column.type) and _holds_floats(column.type)
        return more_rows or any(_may_hold_nan(table[column.name]) for table in self._buffered)

    def _encode(self, writer: pq.ParquetWriter) -> None:
        table = self._joined()
        self._buffered, self.held_bytes = [], 0
        if table.num_rows:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._rows += table.num_rows
        self._statistics.append(_Statistics.of(table))

    def _close(self, writer: pq.ParquetWriter) -> None:
        writer.add_key_value_metadata({PARTITION_METADATA_KEY: json.dumps(list(self.partition)).encode()})
        writer.close()

    def _joined(self) -> pa.Table:
        return (
            self._buffered[0]
            if len(self._buffered) == 1
            else pa.concat_tables([self.schema.empty_table(), *self._buffered])
        )

    def _facts(self) -> FileFacts:
        return FileFacts(self._rows, _column_entries(self._statistics, self.schema))


def facts_of(table: pa.Table) -> FileFacts:
    """Return the facts of a file that holds the rows of a table."""
    return FileFacts(table.num_rows, _column_entries([_Statistics.of(table)], table.schema))


def decode(
    content: Any, columns: Sequence[str] | None = None, partition: Mapping[str, pa.Scalar] | None = None
) -> pa.Table:
    """Read a Parquet file; the partition columns its footer names are appended, typed, in path order.

    Args:
        content: The file's bytes, as any object with the buffer protocol, or its path.
        columns: Only these, as far as the file and its footer have them; all of them when None.
        partition: The partition columns of a file whose footer names none, because another writer wrote it.

    Raises:
        pa.ArrowException: The bytes are not a Parquet file, or a page does not have its checksum.
        OSError: Likewise.
        ValueError: The footer does not hold what it should.
    """
    source = pa.memory_map(str(content)) if isinstance(content, Path) else pa.BufferReader(pa.py_buffer(content))
    reader = pq.ParquetFile(source, page_checksum_verification=True)
    entries = json.loads((reader.metadata.metadata or {}).get(PARTITION_METADATA_KEY, b"[]"))
    partition = dict(map(parse_partition_entry, entries)) or (partition or {})
    if columns is None:
        return append_partition(without_field_ids(reader.read().replace_schema_metadata(None)), partition)
    file_names = reader.schema_arrow.names
    names = [*file_names, *(name for name in partition if name not in file_names)]
    found = list(dict.fromkeys(name for column in columns if (name := find_column(column, names)) is not None))
    table = reader.read(columns=[name for name in found if name in file_names]).replace_schema_metadata(None)
    return append_partition(_of_rows(without_field_ids(table), reader.metadata.num_rows), partition).select(found)


def _of_rows(table: pa.Table, rows: int) -> pa.Table:
    """Return the table, with a placeholder column where it has none, because such a table has no number of rows."""
    return table if table.num_columns else pa.table({"": pa.nulls(rows)})


def append_partition(table: pa.Table, values: Mapping[str, pa.Scalar]) -> pa.Table:
    """Append the partition columns that the table does not have yet, in their order."""
    for name, value in values.items():
        if name not in table.column_names:
            table = table.append_column(pa.field(name, value.type), pa.repeat(value, table.num_rows))
    return table


@dataclass(frozen=True)
class _Statistics:
    """Of some rows, for each column: how many nulls, and the least and greatest value where they mean something."""

    nulls: list[int]
    bounds: list[pa.StructScalar | None]
    ordered: list[bool]

    @classmethod
    def of(cls, table: pa.Table) -> "_Statistics":
        return cls(
            nulls=[column.null_count for column in table.columns],
            bounds=[pc.min_max(column) if _is_bounded(column.type) else None for column in table.columns],
            ordered=[not (pa.types.is_floating(column.type) and _may_hold_nan(column)) for column in table.columns],
        )


@cache
def _is_bounded(data_type: pa.DataType) -> bool:
    return any(kind(data_type) for kind in _BOUNDED)


def columns_without_nan(schema: pa.Schema) -> bool | list[str]:
    """Return the columns of a file whose bounds it may hold before its rows are known, or True for all of them."""
    return _all_but(schema, {field.name for field in schema if _holds_floats(field.type)})


def _all_but(schema: pa.Schema, unbounded: Collection[str]) -> bool | list[str]:
    return [name for name in schema.names if name not in unbounded] if unbounded else True


def _holds_floats(data_type: pa.DataType) -> bool:
    if pa.types.is_nested(data_type):
        return any(_holds_floats(data_type.field(index).type) for index in range(data_type.num_fields))
    return bool(pa.types.is_floating(data_type))


def _may_hold_nan(column: pa.ChunkedArray) -> bool:
    if pa.types.is_float16(column.type):
        return True  # Arrow has no sum of them to look at
    total = pc.sum(column).as_py()
    # Cheaper than looking at each value. Infinities of both signs add up to NaN too, and have no bounds either.
    return total is not None and math.isnan(total)


def _column_entries(parts: Sequence[_Statistics], schema: pa.Schema) -> dict[str, dict[str, Any]]:
    entries = {}
    for index, column in enumerate(schema):
        bounds = [part.bounds[index] for part in parts]
        nulls = sum(part.nulls[index] for part in parts)
        exact = all(part.ordered[index] for part in parts) and None not in bounds
        entries[column.name] = {**(_bounds_entry(bounds, column.type) if exact else {}), "nulls": nulls}
    return entries


def _bounds_entry(bounds: Sequence[Any], data_type: pa.DataType) -> dict[str, Any]:
    if len(bounds) == 1:
        least, greatest = bounds[0]["min"], bounds[0]["max"]
    else:
        merged = pc.min_max(pa.array([bound[side] for bound in bounds for side in ("min", "max")], data_type))
        least, greatest = merged["min"], merged["max"]
    if not least.is_valid:
        return {}
    try:
        values = {"min": value_entry(least), "max": value_entry(greatest)}
    except ValueError:
        return {}
    long = any(isinstance(value, str) and len(value) > MAX_BOUND_CHARACTERS for value in values.values())
    return {} if long and pa.types.is_string(data_type) else values
