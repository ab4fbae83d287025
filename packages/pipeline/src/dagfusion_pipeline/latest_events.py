"""The latest materialization of each partition of an asset, read in bulk.

Dagster's `fetch_materializations` makes objects of everything that an event has, and takes 4 to 7 s for 18,250 events.
Only the time and the entry `dagfusion/file` are needed here, so they are taken from the text of the events. Storages
without SQL are read with `fetch_materializations`.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import dagster as dg
import pydantic_core

from dagfusion_contract.record import ENTRY
from dagfusion_contract.tombstone import TOMBSTONE_ENTRY
from dagfusion_pipeline.event_objects import is_tombstone

_IDS_A_QUERY = 1_000
_KEYS_A_QUERY = 500
_DATA = '"entry_data": {"__class__": "JsonMetadataEntryData", "data": '
_LABEL = f'}}, "label": "{ENTRY}"}}'
_TIME = '"timestamp": '
_SCHEMA, _AFTER_SCHEMA, _CUT = '"schema": ', ', "size_bytes": ', "dagfusion/cut"

T = TypeVar("T")


class LatestEvent(NamedTuple):
    """The latest materialization of a partition, or of an unpartitioned asset.

    Attributes:
        event_id: The id of the row in the event log.
        at: When it was logged.
        record: The entry `dagfusion/file`; None where the event has none.
    """

    event_id: int
    at: datetime
    record: Mapping[str, Any] | None


def latest_event(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> LatestEvent | None:
    """Return the latest materialization of an unpartitioned asset.

    It is None if the asset is not materialized, was wiped, or was partitioned when it was last materialized.
    """
    records = instance.fetch_materializations(asset_key, limit=1).records
    if not records or records[0].partition_key is not None:
        return None
    return _of_entry(records[0].storage_id, records[0].event_log_entry)


def latest_events(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Collection[str] | None = None
) -> dict[str, LatestEvent]:
    """Return the latest materialization of each partition that has one since it, or the asset, was last wiped.

    Args:
        instance: Whose event log is read.
        asset_key: The asset.
        partition_keys: Only these partitions; all that were ever materialized when None.
    """
    partitions = {event_id: key for key, event_id in _latest_ids(instance, asset_key, partition_keys).items()}
    events = _events(instance, asset_key, sorted(partitions))
    return {partitions[event.event_id]: event for event in events if event is not None}


def _latest_ids(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Collection[str] | None
) -> Mapping[str, int]:
    latest, kind = instance.event_log_storage.get_latest_storage_id_by_partition, dg.DagsterEventType
    if partition_keys is None or len(partition_keys) > _KEYS_A_QUERY:
        ids = latest(asset_key, kind.ASSET_MATERIALIZATION)
        return ids if partition_keys is None else {key: ids[key] for key in partition_keys if key in ids}
    # An empty set would mean all partitions.
    return latest(asset_key, kind.ASSET_MATERIALIZATION, partitions={*partition_keys}) if partition_keys else {}


def _events(instance: dg.DagsterInstance, asset_key: dg.AssetKey, ids: Sequence[int]) -> Iterator[LatestEvent | None]:
    pages = [ids[start : start + _IDS_A_QUERY] for start in range(0, len(ids), _IDS_A_QUERY)]
    connect: Callable[[], Any] | None = getattr(instance.event_log_storage, "index_connection", None)
    if connect is None:
        for page in pages:
            records = dg.AssetRecordsFilter(asset_key, storage_ids=page)
            for record in instance.fetch_materializations(records, limit=len(page)).records:
                yield _of_entry(record.storage_id, record.event_log_entry)
        return
    schemas = dict[str, Any]()
    for rows in _read_ahead(_rows(connect, pages)):
        for event_id, text in rows:
            yield _of_text(event_id, text, schemas)


def _read_ahead(pages: Generator[T]) -> Iterator[T]:
    """Yield the pages; a thread reads the next one while the caller works on one."""
    with ThreadPoolExecutor(1) as reader:
        try:
            ahead = reader.submit(next, pages, None)
            while (page := ahead.result()) is not None:
                ahead = reader.submit(next, pages, None)
                yield page
        finally:
            reader.submit(pages.close).result()  # in the thread that opened the connection, as SQLite demands


def _rows(connect: Callable[[], Any], pages: Iterable[Sequence[int]]) -> Generator[Sequence[tuple[int, str]]]:
    with connect() as connection:  # a new one takes PostgreSQL as long as the query of a page
        for ids in pages:
            numbers = ",".join(map(str, ids))
            yield connection.exec_driver_sql(f"SELECT id, event FROM event_logs WHERE id IN ({numbers})").fetchall()


def _of_entry(event_id: int, entry: dg.EventLogEntry) -> LatestEvent | None:
    materialization = entry.asset_materialization
    if is_tombstone(materialization):
        return None
    value = materialization.metadata.get(ENTRY) if materialization else None
    record = value.data if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, Mapping) else None
    return LatestEvent(event_id, datetime.fromtimestamp(entry.timestamp, UTC), record)


def _of_text(event_id: int, text: str, schemas: dict[str, Any]) -> LatestEvent | None:
    """Read an event from its JSON; None for a tombstone.

    Quotes in its strings are escaped there, so no string looks like what is sought.

    Args:
        event_id: The id of its row.
        text: The JSON.
        schemas: The schemas that were read before, by their text.
    """
    try:
        start = text.rindex(_TIME) + len(_TIME)
        at = datetime.fromtimestamp(float(text[start : text.index(",", start)]), UTC)
        if f'"{ENTRY}"' not in text and f'"{TOMBSTONE_ENTRY}"' not in text:
            return LatestEvent(event_id, at, None)
        label = text.index(_LABEL)
        record = _record(text[text.rindex(_DATA, 0, label) + len(_DATA) : label], schemas)
        if isinstance(record, dict):
            return LatestEvent(event_id, at, record)
    except (ValueError, TypeError):  # another version of Dagster writes its events in another way
        pass
    return _of_entry(event_id, dg.deserialize_value(text, dg.EventLogEntry))


def _record(text: str, schemas: dict[str, Any]) -> Any:
    """Read a record from its JSON; its schema, which is half of it, is parsed once for all records that have it."""
    start, end = text.rfind(_SCHEMA) + len(_SCHEMA), text.rfind(_AFTER_SCHEMA)
    schema = text[start:end]
    try:
        if schema not in schemas:
            schemas[schema] = pydantic_core.from_json(schema)  # twice json's speed
        record = pydantic_core.from_json(f'{text[:start]}"{_CUT}"{text[end:]}')
    except ValueError:  # a part is no JSON
        record = None
    if not isinstance(record, dict) or record.get("schema") != _CUT:  # what was cut is not the record's own schema
        return pydantic_core.from_json(text)
    record["schema"] = schemas[schema]
    return record
