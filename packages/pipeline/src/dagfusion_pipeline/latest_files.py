"""The object that each partition's latest materialization wrote, from Dagster's event log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pyarrow as pa

from dagfusion_contract.record import ENTRY
from dagfusion_contract.values import parse_partition_entry
from dagfusion_pipeline.tombstones import is_tombstone

_KEYS_A_PAGE = 500


@dataclass(frozen=True)
class LatestFile:
    """What an event recorded of its object; events of older versions have no checksum."""

    uri: str
    checksum: str | None
    partition: Mapping[str, pa.Scalar] = field(default_factory=dict)


def latest_files(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Sequence[str | None]
) -> dict[str | None, LatestFile | None]:
    """Each partition's latest file, for the partitions that have one; None for those that were wiped.

    Materializations without a file, such as those that a person reports in Dagster's UI, are passed over.

    Args:
        instance: whose event log is read.
        asset_key: the asset.
        partition_keys: the partitions, or only None for an unpartitioned asset.
    """
    if list(partition_keys) == [None]:
        return _latest_of(instance, asset_key, None)
    keys = [str(key) for key in partition_keys]
    found: dict[str | None, LatestFile | None] = {}
    for start in range(0, len(keys), _KEYS_A_PAGE):
        found |= _latest_of(instance, asset_key, keys[start : start + _KEYS_A_PAGE])
    return found


def latest_partition_types(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Mapping[str, pa.DataType]:
    """The types of the partition columns in the asset's latest materialization with a file; empty when it has none."""
    latest = _latest_of(instance, asset_key, None, passes_wiped=True).get(None)
    return {name: value.type for name, value in latest.partition.items()} if latest else {}


def _latest_of(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    keys: Sequence[str] | None,
    *,
    passes_wiped: bool = False,
) -> dict[str | None, LatestFile | None]:
    """The latest file of each of the partitions, or of the whole asset when no keys are given."""
    found: dict[str | None, LatestFile | None] = {}
    left: set[str | None] = {None} if keys is None else {*keys}
    limit, cursor = 1 if keys is None else _KEYS_A_PAGE, None
    while left:
        # Only the partitions that are left, because those that are found may have any number of older events.
        partitions = None if keys is None else [key for key in keys if key in left]
        records = dg.AssetRecordsFilter(asset_key, asset_partitions=partitions)
        page = instance.fetch_materializations(records, limit=limit, cursor=cursor)
        for record in page.records:
            partition = None if keys is None else record.partition_key
            file = _file(record.asset_materialization)
            is_gone = not passes_wiped and is_tombstone(record.asset_materialization)
            if (file is not None or is_gone) and partition in left:
                left.remove(partition)
                found[partition] = file
        if not page.has_more:
            break
        limit, cursor = _KEYS_A_PAGE, page.cursor
    return found


def _file(materialization: dg.AssetMaterialization | None) -> LatestFile | None:
    entry = materialization.metadata.get(ENTRY) if materialization else None
    if not isinstance(entry, dg.JsonMetadataValue) or not isinstance(entry.data, Mapping):
        return None
    record: Mapping[str, Any] = entry.data
    partition = dict(map(parse_partition_entry, record["partition"]))
    return LatestFile(record["uri"], record.get("checksum"), partition)
