"""The fallback: another IO manager, which stores values that are not frames."""

from collections.abc import Sequence

import dagster as dg

FALLBACK_KEY = "dagfusion/stored_by"


def store_in_fallback(fallback: dg.IOManager, context: dg.OutputContext, value: object) -> None:
    """Store an output in the fallback, and note that on its event, so that inputs find it without an annotation."""
    fallback.handle_output(context, value)
    if context.has_asset_key:
        context.add_output_metadata({FALLBACK_KEY: type(fallback).__qualname__})


def is_in_fallback(instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Sequence[str | None]) -> bool:
    """Return True if the latest materialization of the first partition went to the fallback.

    Where the first partition has none, or no partition is given, the asset's latest materialization decides.
    """
    first = [key for key in partition_keys if key is not None][:1]
    event = _latest(instance, asset_key, first or None) or _latest(instance, asset_key, None)
    return event is not None and FALLBACK_KEY in event.metadata


def _latest(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Sequence[str] | None
) -> dg.AssetMaterialization | None:
    records = dg.AssetRecordsFilter(asset_key, asset_partitions=partition_keys)
    latest = instance.fetch_materializations(records, limit=1).records
    return latest[0].asset_materialization if latest else None
