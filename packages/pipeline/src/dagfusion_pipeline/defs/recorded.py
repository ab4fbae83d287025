"""What the event log holds about partitions: a check reads this instead of the objects."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg

_NEWEST = 1_000


class Recorded(NamedTuple):
    """One recorded partition (or unpartitioned asset): its rows, column statistics and metrics."""

    partition: str | None
    rows: int
    columns: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Any]

    def lowest(self, column: str) -> Any:
        """The smallest value of a column; None where the partition has none on record."""
        return self.columns.get(column, {}).get("min")


def recorded_by_run(instance: dg.DagsterInstance, run_id: str, asset_key: dg.AssetKey) -> list[Recorded]:
    """The partitions of an asset that a run wrote; when it wrote none, the newest ones of the event log."""
    written = list(_of_run(instance, run_id, asset_key))
    return written or _newest(instance, asset_key)


def _of_run(instance: dg.DagsterInstance, run_id: str, asset_key: dg.AssetKey) -> Iterator[Recorded]:
    cursor, more = None, True
    while more:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION, limit=_NEWEST
        )
        events = [record.event_log_entry.asset_materialization for record in page.records]
        yield from _recorded(event for event in events if event and event.asset_key == asset_key)
        cursor, more = page.cursor, page.has_more


def _newest(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> list[Recorded]:
    newest_first = instance.fetch_materializations(asset_key, limit=_NEWEST).records
    events = [record.asset_materialization for record in reversed(newest_first)]
    return list(_recorded({event.partition: event for event in events if event}.values()))


def _recorded(events: Iterable[dg.AssetMaterialization]) -> Iterator[Recorded]:
    """The records of the events that claim an object; one reported by hand claims none."""
    for event in events:
        metrics: dict[str, Any] = {name: value.value for name, value in event.metadata.items()}
        file = metrics.pop("dagfusion/file", None)
        if file is not None:
            yield Recorded(event.partition, file["rows"], file["columns"], metrics)
