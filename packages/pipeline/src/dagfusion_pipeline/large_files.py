"""Small objects to one large Parquet file whose row groups hold whole partitions, in bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dagfusion_contract.consolidation import TIMES, RowGroup
from dagfusion_contract.field_ids import has_all_field_ids, with_field_ids, without_field_ids
from dagfusion_pipeline.logged_files import FILE_FIELDS
from dagfusion_pipeline.parquet import Compression, columns_without_nan
from dagfusion_pipeline.store import ObjectStore, ObjectVersion, checksum

GROUP_ROWS = 8192
GROUP_BYTES = 32 << 20  # of rows in memory
PARTITION_BYTES = 64 << 20  # of rows in memory: a partition of more is left out
_WINDOW_FILES, _WINDOW_BYTES = 512, 32 << 20  # of small objects that are fetched at once


class PartitionRows(NamedTuple):
    """The rows of one small object, partition columns included, and the event that wrote it."""

    event_id: int
    at_us: int
    rows: pa.Table


@dataclass
class LargeFile:
    """Writes one large file, a row group at a time.

    Attributes:
        path: Where.
        partition_columns: The names of the partition columns.
        schema: All columns, without their ids; None until the first partition.
        has_field_ids: All columns of the file, and all fields in them, have ids.
        groups: Events, rows and times of the row groups that are written.
        group_rows: That a row group has at least, but for the last.
    """

    path: Path
    compression: Compression
    partition_columns: Sequence[str] = ()
    schema: pa.Schema | None = None
    groups: list[tuple[list[int], int, int]] = field(default_factory=list)
    group_rows: int = GROUP_ROWS
    has_field_ids: bool = False
    _buffered: list[PartitionRows] = field(default_factory=list)
    _writer: pq.ParquetWriter | None = None

    def add(self, partition: PartitionRows) -> bool:
        """Add a partition; one with other columns than the first is skipped."""
        self.schema = self.schema or partition.rows.schema
        if not partition.rows.schema.equals(self.schema):
            return False
        self._buffered.append(partition)
        rows = sum(buffered.rows.num_rows for buffered in self._buffered)
        if rows >= self.group_rows or sum(buffered.rows.nbytes for buffered in self._buffered) >= GROUP_BYTES:
            self._flush()
        return True

    def finish(self) -> list[RowGroup]:
        """Close the file and return its row groups; none when there is no row, and no file then."""
        if any(buffered.rows.num_rows for buffered in self._buffered):
            self._flush()
        elif self.groups:  # partitions without rows belong to the row group before
            events, rows, times = self.groups[-1]
            self.groups[-1] = (
                [*events, *(h.event_id for h in self._buffered)],
                rows,
                times + sum(h.at_us for h in self._buffered),
            )
        self._buffered.clear()
        if self._writer is None:
            return []
        self._writer.close()
        metadata = pq.read_metadata(self.path)
        return [
            RowGroup(_offset(metadata.row_group(number)), rows, tuple(sorted(events)), times % TIMES)
            for number, (events, rows, times) in enumerate(self.groups)
        ]

    def discard(self) -> None:
        """Discard the file."""
        if self._writer is not None:
            self._writer.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        buffered, self._buffered = self._buffered, []
        table = pa.concat_tables([partition.rows for partition in buffered])
        if self._writer is None:
            self._writer = self._open(table.schema)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self.groups.append(([h.event_id for h in buffered], table.num_rows, sum(h.at_us for h in buffered)))

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        with_ids = with_field_ids(schema, self.partition_columns)
        self.has_field_ids = has_all_field_ids(with_ids)
        return pq.ParquetWriter(
            self.path,
            with_ids,
            compression=self.compression,
            # Parquet's bounds leave NaN out, and readers skip row groups by them.
            write_statistics=columns_without_nan(schema),
            write_page_index=True,
            write_page_checksum=True,
        )


def partition_rows(
    files: pa.Table, partition: pa.Schema, store: ObjectStore, concurrency: int
) -> Iterator[PartitionRows]:
    """Yield the rows of small objects, in order; those that are not their events' objects any more are left out.

    Args:
        files: As `logged_files.CurrentFiles.files` has them.
        partition: The partition columns.
        store: Where the objects are.
        concurrency: Objects fetched at once.
    """
    root = store.uri("")
    for window in _windows(files):
        rows = window.select([*FILE_FIELDS]).to_pylist()
        keys = window["partition"].combine_chunks().flatten()
        versions = [ObjectVersion(row["uri"].removeprefix(root), row["etag"], row["size_bytes"]) for row in rows]
        contents: list[Any] = list(store.read_versions(versions, concurrency))
        for number, row in enumerate(rows):
            content, contents[number] = contents[number], None  # freed as it is decoded
            if content is None or row["checksum"] not in (None, checksum(content)):
                continue
            table = _decode(content)
            if table is not None and table.num_rows == row["rows"]:
                values = [key[number] for key in keys]
                yield PartitionRows(row["event_id"], row["at_us"], with_partition(table, partition, values))


def with_partition(table: pa.Table, partition: pa.Schema, values: Sequence[pa.Scalar]) -> pa.Table:
    """Return the rows of a partition with its columns at the end; the file's columns of these names are dropped."""
    names = [name for name in table.column_names if name not in partition.names]
    table = table.select(names)
    for column, value in zip(partition, values, strict=True):
        repeated = pa.repeat(value, table.num_rows)
        table = table.append_column(column.with_nullable(False), repeated)  # noqa: FBT003
    return without_field_ids(table.replace_schema_metadata(None))


def _windows(files: pa.Table) -> Iterator[pa.Table]:
    sizes: Sequence[int] = files["size_bytes"].to_pylist()
    start, size = 0, 0
    for end, of_file in enumerate(sizes):
        if end > start and (size + of_file > _WINDOW_BYTES or end - start >= _WINDOW_FILES):
            yield files.slice(start, end - start)
            start, size = end, 0
        size += of_file
    if start < len(sizes):
        yield files.slice(start)


def _decode(content: Any) -> pa.Table | None:
    """Return the rows of a small file, or None where they take too much memory."""
    reader = pq.ParquetFile(pa.BufferReader(pa.py_buffer(content)), page_checksum_verification=True)
    batches, size = [], 0
    for batch in reader.iter_batches():
        batches.append(batch)
        size += batch.nbytes
        if size > PARTITION_BYTES:
            return None
    return pa.Table.from_batches(batches, reader.schema_arrow)


def _offset(group: Any) -> int:
    """Return where a row group begins, as DataFusion computes it: by the first page of its first column."""
    column = group.column(0)
    return int(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)
