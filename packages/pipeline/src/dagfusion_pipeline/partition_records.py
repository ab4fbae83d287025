"""The records of an asset's partitions from the event log, so that checks need not read the objects."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import dagster as dg

from dagfusion_contract.record import ENTRY
from dagfusion_pipeline.event_objects import is_tombstone

_PAGE = 1_000


class PartitionRecord(NamedTuple):
    """One recorded partition (or unpartitioned asset): its object, rows, column statistics and metrics."""

    partition: str | None
    at: datetime
    uri: str
    rows: int
    columns: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Any]

    def lowest(self, column: str) -> Any:
        """Return the smallest value of a column; None where the partition has none on record."""
        return self.columns.get(column, {}).get("min")


def records_of_run(instance: dg.DagsterInstance, run_id: str, asset_key: dg.AssetKey) -> list[PartitionRecord]:
    """Return the partitions of an asset that a run wrote; when it wrote none, the newest thousand of the event log."""
    written = list(_records(_events_of_run(instance, run_id), asset_key))
    if written:
        return written
    newest_first = list(islice(newest_records(instance, asset_key), _PAGE))
    return list({record.partition: record for record in reversed(newest_first)}.values())


def newest_records(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Iterator[PartitionRecord]:
    """Yield the records of an asset's partitions since each was last wiped, in pages, the newest first."""
    wiped: set[str | None] = set()
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(asset_key, limit=_PAGE, cursor=cursor)
        for record in page.records:
            if is_tombstone(record.asset_materialization):
                wiped.add(record.partition_key)
            elif record.partition_key not in wiped:
                yield from _records([record.event_log_entry], asset_key)
        cursor, more = page.cursor, page.has_more


def _events_of_run(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.EventLogEntry]:
    cursor, more = None, True
    while more:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION, limit=_PAGE
        )
        yield from (record.event_log_entry for record in page.records)
        cursor, more = page.cursor, page.has_more


def _records(events: Iterable[dg.EventLogEntry], asset_key: dg.AssetKey) -> Iterator[PartitionRecord]:
    """Yield the records of the asset's events that claim an object; one reported by hand claims none."""
    for event in events:
        materialization = event.asset_materialization
        if materialization is None or materialization.asset_key != asset_key:
            continue
        metrics: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
        file = metrics.pop(ENTRY, None)
        if file is not None:
            at = datetime.fromtimestamp(event.timestamp, UTC)
            yield PartitionRecord(materialization.partition, at, file["uri"], file["rows"], file["columns"], metrics)
