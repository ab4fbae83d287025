"""Rows to objects: many files open at once, in bounded memory, uploaded while the next ones are encoded."""

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagfusion_contract.record import WrittenFile, schema_entry
from dagfusion_contract.values import partition_entry
from dagfusion_pipeline.errors import UnsortedStreamError
from dagfusion_pipeline.parquet import Compression, FileFacts, ParquetEncoder, append_partition, decode, facts_of
from dagfusion_pipeline.store import ObjectStore, StoredObject, checksum
from dagfusion_pipeline.uploads import Uploads


@dataclass(frozen=True)
class Target:
    """One object to write: its key, and the partition columns' values in path order (none when unpartitioned)."""

    partition_key: str | None
    object_key: str
    values: Mapping[str, pa.Scalar]

    @property
    def partition(self) -> list[dict[str, Any]]:
        """The partition columns as event metadata v1 writes them."""
        return [partition_entry(name, value) for name, value in self.values.items()]


Measure = Callable[[Target, pa.Table], None]


@dataclass(frozen=True)
class WriteJob:
    """The writing of one asset by one run: its objects, schema and limits.

    Attributes:
        asset: For messages.
        targets: The objects, one for each partition.
        schema: The columns of every file, with ids of fields if the files have them.
        footer_partition: Whether the files' footers carry the partition columns, because the files may not.
        compression: Parquet's codec.
        concurrency: Uploads at once.
        budget_bytes: Rows held before the files touched longest ago are closed; None for no limit.
        measure: Called once for each object with all its rows, partition columns included.
    """

    asset: str
    targets: Sequence[Target]
    schema: pa.Schema
    footer_partition: bool
    compression: Compression
    concurrency: int
    budget_bytes: int | None
    measure: Measure | None = None


def write(job: WriteJob, pieces: Iterator[tuple[int, pa.Table]], store: ObjectStore) -> list[WrittenFile]:
    """Write every target of the job, in order; one without rows becomes an empty file with the schema.

    Args:
        job: What to write.
        pieces: The position of a target and some of its rows.
        store: Where to.

    Raises:
        UnsortedStreamError: Rows of a file that was closed to stay within the memory budget.
        StoreError: An object could not be put; nothing is returned then, whatever was put before.
    """
    with tempfile.TemporaryDirectory(prefix="dagfusion-") as folder:
        files = _OpenFiles(job, Path(folder))
        try:
            with store.uploads(job.concurrency) as uploads:
                for position, rows in pieces:
                    files.add(position, rows, uploads)
                files.close_all(uploads)
        finally:
            files.discard()
    return files.written(store)


class _OpenFiles:
    def __init__(self, job: WriteJob, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._open: OrderedDict[int, ParquetEncoder] = OrderedDict()
        self._held_bytes = 0
        self._facts: dict[int, FileFacts] = {}
        self._stored: dict[int, StoredObject] = {}

    def add(self, position: int, rows: pa.Table, uploads: Uploads[StoredObject]) -> None:
        if position in self._facts:
            raise self._reopened(position)
        encoder = self._open.get(position) or self._new(position)
        self._held_bytes -= encoder.held_bytes
        encoder.write(self._file_rows(position, rows))
        self._held_bytes += encoder.held_bytes
        self._open.move_to_end(position)
        budget = self._job.budget_bytes
        while budget is not None and self._held_bytes > budget and len(self._open) > 1:
            self._close(next(iter(self._open)), uploads)

    def close_all(self, uploads: Uploads[StoredObject]) -> None:
        for position in range(len(self._job.targets)):
            if position not in self._facts:
                if position not in self._open:
                    self._new(position)
                self._close(position, uploads)

    def discard(self) -> None:
        for encoder in self._open.values():
            encoder.discard()

    def written(self, store: ObjectStore) -> list[WrittenFile]:
        schema = schema_entry(self._job.schema)
        return [self._written(position, target, schema, store) for position, target in enumerate(self._job.targets)]

    def _new(self, position: int) -> ParquetEncoder:
        job = self._job
        footer = job.targets[position].partition if job.footer_partition else []
        spill = self._folder / f"{position}.parquet"
        encoder = self._open[position] = ParquetEncoder(job.schema, job.compression, footer, spill)
        return encoder

    def _file_rows(self, position: int, rows: pa.Table) -> pa.Table:
        schema, values = self._job.schema, self._job.targets[position].values
        if rows.schema is schema:
            return rows
        with_partition = append_partition(rows, {name: values[name] for name in schema.names if name in values})
        return with_partition.select(schema.names)

    def _close(self, position: int, uploads: Uploads[StoredObject]) -> None:
        encoder = self._open.pop(position)
        self._held_bytes -= encoder.held_bytes
        target = self._job.targets[position]
        rows = encoder.held_rows() if self._job.measure else None
        file = encoder.finish()
        if self._job.measure:
            table = decode(file.content) if rows is None else rows
            self._job.measure(target, append_partition(table, target.values))
        self._facts[position] = file.facts
        uploads.put(target.object_key, file.content, partial(self._confirm, position, file.content))

    def _confirm(self, position: int, content: pa.Buffer | Path, stored: StoredObject) -> None:
        self._stored[position] = stored
        if isinstance(content, Path):
            content.unlink()

    def _written(self, position: int, target: Target, schema: Mapping[str, Any], store: ObjectStore) -> WrittenFile:
        return _written(target, store.uri(target.object_key), self._facts[position], schema, self._stored[position])

    def _reopened(self, position: int) -> UnsortedStreamError:
        key = self._job.targets[position].partition_key
        return UnsortedStreamError(
            f"the LazyFrame of asset {self._job.asset!r} came back to partition {key!r} after its file was closed to"
            f" stay within memory_budget_bytes={self._job.budget_bytes}: sort it by the partition columns, or raise"
            " the budget"
        )


def found_file(store: ObjectStore, target: Target, stored: StoredObject, content: Any, rows: pa.Table) -> WrittenFile:
    """Describe an object that another program wrote.

    Args:
        store: That has it.
        target: The partition, and the object's key.
        stored: What the store says of the object.
        content: Its bytes, with the buffer protocol.
        rows: All of them.
    """
    described = replace(stored, checksum=checksum(content))
    return _written(target, store.uri(target.object_key), facts_of(rows), schema_entry(rows.schema), described)


def _written(
    target: Target, uri: str, facts: FileFacts, schema: Mapping[str, Any], stored: StoredObject
) -> WrittenFile:
    return WrittenFile(
        uri=uri,
        size_bytes=stored.size_bytes,
        etag=stored.etag,
        modified=stored.modified,
        rows=facts.rows,
        partition=target.partition,
        schema=schema,
        columns=facts.columns,
        checksum=stored.checksum,
    )
