"""Values that are no frames: another IO manager stores them, where one is configured."""

from collections.abc import Sequence

import dagster as dg

FALLBACK_KEY = "dagfusion/stored_by"


def store_in_fallback(fallback: dg.IOManager, context: dg.OutputContext, value: object) -> None:
    """Store an output in the fallback, and note that on its event, so that inputs find it without an annotation."""
    fallback.handle_output(context, value)
    if context.has_asset_key:
        context.add_output_metadata({FALLBACK_KEY: type(fallback).__qualname__})


def is_in_fallback(instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Sequence[str | None]) -> bool:
    """Return True if the latest materialization of the asset, or of one of the partitions, went to the fallback."""
    keys = [key for key in partition_keys if key is not None]
    records = dg.AssetRecordsFilter(asset_key, asset_partitions=keys[:1] or None)
    latest = instance.fetch_materializations(records, limit=1).records
    event = latest[0].asset_materialization if latest else None
    return event is not None and FALLBACK_KEY in event.metadata
