"""The object of each partition's latest materialization, and the consolidations of an asset, from the event log.

A table of a million partitions has to fit into memory, so its files are rows of Arrow tables.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dagster as dg
import pyarrow as pa

from dagfusion_contract.arrow_types import parse_type
from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, CONSOLIDATIONS, LargeObject, read_consolidated
from dagfusion_contract.errors import RecordError
from dagfusion_contract.values import parse_value
from dagfusion_pipeline.event_objects import Unrecorded, named_objects

ERASED_BY = "erased_by"  # the run that names the objects of an erasure, also outside of a run
_PAGE = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FILE_FIELDS = {
    "event_id": pa.int64(),
    "at_us": pa.int64(),
    "uri": pa.string(),
    "size_bytes": pa.int64(),
    "etag": pa.string(),
    "checksum": pa.string(),
    "rows": pa.int64(),
}


class LoggedFile(NamedTuple):
    """The record of one materialization.

    Attributes:
        event_id: The id of the row in the event log.
        at_us: Microseconds since 1970, as the event log's readers see them.
        record: The entry `dagfusion/file`; empty for a tombstone, and for an event that names objects without one.
        unrecorded: What the event names without a record.
        run_ids: The runs that logged the event and named its object.
    """

    event_id: int
    partition: str | None
    at_us: int
    record: Mapping[str, Any]
    unrecorded: Unrecorded | None = None
    run_ids: tuple[str, ...] = ()

    @property
    def at(self) -> datetime:
        """The time when it was logged."""
        return _EPOCH + timedelta(microseconds=self.at_us)

    @property
    def is_tombstone(self) -> bool:
        """True if the event is a tombstone."""
        return not self.record and self.unrecorded is None

    @property
    def uri(self) -> str | None:
        """The object; None for a tombstone, and without a record."""
        return self.record.get("uri")


@dataclass
class CurrentFiles:
    """The current files of an asset that have the same columns.

    Attributes:
        schema: The files' columns, as event metadata v1 writes them.
        partition: The partition columns in path order.
        files: One row for each partition: `FILE_FIELDS`, and `partition`, a struct of the partition columns.
    """

    schema: Mapping[str, Any]
    partition: pa.Schema
    batches: list[pa.RecordBatch] = field(default_factory=list)

    @property
    def files(self) -> pa.Table:
        """All files."""
        return pa.Table.from_batches(self.batches, self.fields)

    @property
    def fields(self) -> pa.Schema:
        """The columns of `files`."""
        return pa.schema(
            [*(pa.field(*f) for f in FILE_FIELDS.items()), pa.field("partition", pa.struct(self.partition))]
        )


class LoggedConsolidation(NamedTuple):
    """The large objects that one observation names, and when it was logged."""

    event_id: int
    at: datetime
    objects: tuple[LargeObject, ...]


def logged_files(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Iterator[LoggedFile]:
    """Yield all events that say something of an asset's objects, also tombstones, the newest first."""
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(asset_key, limit=_PAGE, cursor=cursor)
        for record in page.records:
            objects = named_objects(record.asset_materialization)
            if objects is None:
                continue
            at_us = microseconds(record.event_log_entry.timestamp)
            file, unrecorded = ({}, objects) if isinstance(objects, Unrecorded) else (objects, None)
            yield LoggedFile(record.storage_id, record.partition_key, at_us, file, unrecorded, _run_ids(record))
        cursor, more = page.cursor, page.has_more


def latest_event_ids(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Collection[int]:
    """Return the ids of the latest materialization of each partition, in one query that reads no event."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    return instance.get_latest_storage_id_by_partition(asset_key, kind).values()


def records_of(instance: dg.DagsterInstance, asset_key: dg.AssetKey, events: Sequence[int]) -> Iterator[object]:
    """Yield the entry `dagfusion/file` of each of some materializations.

    It is {} of a tombstone and of what is named without a record, and None of an event that says nothing of objects.
    """
    for start in range(0, len(events), _PAGE):
        filter_ = dg.AssetRecordsFilter(asset_key, storage_ids=events[start : start + _PAGE])
        for record in instance.fetch_materializations(filter_, limit=_PAGE).records:
            objects = named_objects(record.asset_materialization)
            yield {} if isinstance(objects, Unrecorded) else objects


def current_files(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> list[CurrentFiles]:
    """Return the file of each partition whose latest event has one, by the columns of the files."""
    layouts: dict[tuple[Any, ...], CurrentFiles] = {}
    pending: dict[tuple[Any, ...], list[LoggedFile]] = {}
    seen: set[str | None] = set()
    for file in logged_files(instance, asset_key):
        if file.partition in seen:
            continue
        seen.add(file.partition)
        if not file.record:
            continue
        columns = tuple((column["name"], column["type"]) for column in file.record["partition"])
        key = (file.record["schema"]["fingerprint"], columns)
        if key not in layouts:
            layouts[key] = CurrentFiles(file.record["schema"], _partition_schema(columns))
        pending.setdefault(key, []).append(file)
        if len(pending[key]) >= _PAGE:
            layouts[key].batches.append(_batch(layouts[key], pending.pop(key)))
    for key, files in pending.items():
        layouts[key].batches.append(_batch(layouts[key], files))
    return list(layouts.values())


def logged_consolidations(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> list[LoggedConsolidation]:
    """Return the latest consolidations of an asset, those that a query reads; the newest first."""
    found: list[LoggedConsolidation] = []
    cursor, more = None, True
    while more and len(found) < CONSOLIDATIONS:
        page = instance.fetch_observations(asset_key, limit=_PAGE, cursor=cursor)
        for record in page.records:
            observation = record.event_log_entry.asset_observation
            entry = observation.metadata.get(CONSOLIDATED_ENTRY) if observation else None
            if isinstance(entry, dg.JsonMetadataValue):
                at = _EPOCH + timedelta(microseconds=microseconds(record.event_log_entry.timestamp))
                found.append(LoggedConsolidation(record.storage_id, at, _objects(entry.data)))
        cursor, more = page.cursor, page.has_more
    return found[:CONSOLIDATIONS]


def microseconds(timestamp: float) -> int:
    """Return an event's time as event log storages keep it."""
    return (datetime.fromtimestamp(timestamp, UTC) - _EPOCH) // timedelta(microseconds=1)


def _run_ids(record: dg.EventLogRecord) -> tuple[str, ...]:
    materialization = record.asset_materialization
    by = materialization.metadata.get(ERASED_BY) if materialization else None
    of_erasure = (by.value,) if isinstance(by, dg.TextMetadataValue) and by.value else ()
    return (record.run_id, *of_erasure)


def _objects(data: object) -> tuple[LargeObject, ...]:
    try:
        return read_consolidated(data)
    except RecordError:  # of a newer version: this version neither uses nor deletes its objects
        return ()


def _partition_schema(columns: Sequence[tuple[str, Any]]) -> pa.Schema:
    return pa.schema([pa.field(name, parse_type(kind, f"partition column {name!r}")) for name, kind in columns])


def _batch(layout: CurrentFiles, files: Sequence[LoggedFile]) -> pa.RecordBatch:
    columns: list[pa.Array] = [
        pa.array([file.event_id for file in files], pa.int64()),
        pa.array([file.at_us for file in files], pa.int64()),
        *(pa.array([file.record.get(name) for file in files], kind) for name, kind in [*FILE_FIELDS.items()][2:]),
    ]
    values = [
        pa.array([parse_value(file.record["partition"][number]["value"], column.type) for file in files], column.type)
        for number, column in enumerate(layout.partition)
    ]
    kind = layout.fields.field("partition").type
    columns.append(
        pa.StructArray.from_arrays(values, fields=[*layout.partition]) if values else pa.array([{}] * len(files), kind)
    )
    return pa.RecordBatch.from_arrays(columns, schema=layout.fields)
