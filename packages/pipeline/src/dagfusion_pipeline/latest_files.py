"""The object that each partition's latest materialization wrote, from Dagster's event log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pyarrow as pa

from dagfusion_contract.values import parse_partition_entry
from dagfusion_pipeline.event_objects import Unrecorded, named_objects

_KEYS_A_PAGE = 500


@dataclass(frozen=True)
class LatestFile:
    """The record of an event's object; events of older versions have no checksum."""

    uri: str
    checksum: str | None
    partition: Mapping[str, pa.Scalar] = field(default_factory=dict)


def latest_files(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Sequence[str | None]
) -> dict[str | None, LatestFile | Unrecorded | None]:
    """Return each partition's latest file, or the place that its latest event names; None if it was wiped.

    Materializations that say nothing of objects, such as those that a person reports in Dagster's UI, are passed over.

    Args:
        instance: Whose event log is read.
        asset_key: The asset.
        partition_keys: The partitions, or only None for an unpartitioned asset.
    """
    if list(partition_keys) == [None]:
        return _latest_of(instance, asset_key, None)
    keys = [str(key) for key in partition_keys]
    found: dict[str | None, LatestFile | Unrecorded | None] = {}
    for start in range(0, len(keys), _KEYS_A_PAGE):
        found |= _latest_of(instance, asset_key, keys[start : start + _KEYS_A_PAGE])
    return found


def latest_partition_types(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Mapping[str, pa.DataType]:
    """Return the types of the partition columns in the asset's latest materialization with a file."""
    latest = _latest_of(instance, asset_key, None, only_files=True).get(None)
    if not isinstance(latest, LatestFile):
        return {}
    return {name: value.type for name, value in latest.partition.items()}


def _latest_of(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    keys: Sequence[str] | None,
    *,
    only_files: bool = False,
) -> dict[str | None, LatestFile | Unrecorded | None]:
    """Return the latest file of each of the partitions, or of the whole asset when no keys are given."""
    found: dict[str | None, LatestFile | Unrecorded | None] = {}
    left: set[str | None] = {None} if keys is None else {*keys}
    limit, cursor = 1 if keys is None else _KEYS_A_PAGE, None
    while left:
        # Only the partitions that are left, because those that are found may have any number of older events.
        partitions = None if keys is None else [key for key in keys if key in left]
        records = dg.AssetRecordsFilter(asset_key, asset_partitions=partitions)
        page = instance.fetch_materializations(records, limit=limit, cursor=cursor)
        for record in page.records:
            partition = None if keys is None else record.partition_key
            objects = named_objects(record.asset_materialization)
            if objects is None or partition not in left:
                continue
            file = _file(objects) if isinstance(objects, Mapping) else objects
            # What is not a file tells nothing of an unpartitioned asset if it is of an old partition.
            is_other = only_files or record.partition_key != partition
            if isinstance(file, LatestFile) or not is_other:
                left.remove(partition)
                found[partition] = file
        if not page.has_more:
            break
        limit, cursor = _KEYS_A_PAGE, page.cursor
    return found


def _file(record: Mapping[str, Any]) -> LatestFile | None:
    if not record:
        return None
    partition = dict(map(parse_partition_entry, record["partition"]))
    return LatestFile(record["uri"], record.get("checksum"), partition)
