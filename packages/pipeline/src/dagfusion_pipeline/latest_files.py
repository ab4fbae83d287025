"""Which object each partition's latest materialization wrote, from Dagster's event log."""

from collections.abc import Mapping, Sequence

import dagster as dg

from dagfusion_pipeline.record import FILE_ENTRY_KEY

_KEYS_A_PAGE = 500


def latest_uris(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Sequence[str | None]
) -> dict[str | None, str | None]:
    """The URI of each partition's latest file; None where no materialization with a file is logged.

    Args:
        instance: whose event log is read.
        asset_key: the asset.
        partition_keys: the partitions, or only None for an unpartitioned asset.
    """
    if list(partition_keys) == [None]:
        event = instance.get_latest_materialization_event(asset_key)
        return {None: _uri(event.asset_materialization) if event else None}
    keys = [str(key) for key in partition_keys]
    found: dict[str | None, str | None] = {}
    for start in range(0, len(keys), _KEYS_A_PAGE):
        found |= _latest_of(instance, asset_key, keys[start : start + _KEYS_A_PAGE])
    return {key: found.get(key) for key in keys}


def _latest_of(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Sequence[str]
) -> dict[str | None, str | None]:
    found: dict[str | None, str | None] = {}
    left = set(keys)
    cursor = None
    while left:
        records = dg.AssetRecordsFilter(asset_key, asset_partitions=sorted(left))
        page = instance.fetch_materializations(records, limit=_KEYS_A_PAGE, cursor=cursor)
        for record in page.records:
            if record.partition_key in left:
                left.remove(record.partition_key)
                found[record.partition_key] = _uri(record.asset_materialization)
        if not page.has_more:
            break
        cursor = page.cursor
    return found


def _uri(materialization: dg.AssetMaterialization | None) -> str | None:
    entry = materialization.metadata.get(FILE_ENTRY_KEY) if materialization else None
    if not isinstance(entry, dg.JsonMetadataValue) or not isinstance(entry.data, Mapping):
        return None
    return str(entry.data["uri"])
