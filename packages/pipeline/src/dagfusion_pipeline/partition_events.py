"""Puts metadata on the events of many partitions at once. Only this module uses private names of Dagster.

A run that writes thousands of partitions should be started with `BULK_EVENT_SETTINGS` in its environment: Dagster then
stores its events in batches (18,250 in about 12 s, instead of minutes).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

Metadata = Mapping[str, Any]

BULK_EVENT_SETTINGS: Mapping[str, str] = {
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
}

# The public call takes time with the square of the keys: 0.7 s for 365, an hour for 18,250.
MAX_ONE_BY_ONE = 300


def attach_metadata(context: dg.OutputContext, metadata: Mapping[str | None, Metadata]) -> None:
    """Put its own metadata on the event of each partition that Dagster is about to log for this output.

    Args:
        context: The output's.
        metadata: By partition key; None is the key of an unpartitioned asset.
    """
    if len(metadata) == 1:
        (only,) = metadata.values()
        context.add_output_metadata(only)
        return
    keyed = {key: entries for key, entries in metadata.items() if key is not None}
    if len(keyed) > MAX_ONE_BY_ONE and attach_in_bulk(context, keyed):
        return
    for key, entries in keyed.items():
        context.step_context.add_asset_metadata(entries, asset_key=context.asset_key, partition_key=key)


def attach_in_bulk(context: dg.OutputContext, metadata: Mapping[str, Metadata]) -> bool:
    """Do what `attach_metadata` does in one step; False, with nothing done, when Dagster's internals have moved."""
    try:
        from dagster._core.execution.context.metadata_logging import (  # noqa: PLC0415 - absent in another Dagster
            AssetMetadataHandle,
            OutputMetadataAccumulator,
        )

        step: Any = context.step_context
        entries = dict(step._metadata_accumulator.per_output_metadata)  # noqa: SLF001 - what this file is for
        for key, own in metadata.items():
            handle = AssetMetadataHandle(asset_key=context.asset_key, partition_key=key)
            entries[handle] = {**entries.get(handle, {}), **own}
        accumulator = OutputMetadataAccumulator(per_output_metadata=entries)
    except (ImportError, AttributeError, TypeError) as error:
        context.log.warning(
            "Dagster %s keeps its metadata elsewhere (%s): the metadata of %d partitions is attached one by one, which"
            " takes long. Update dagfusion-pipeline, or use dagster 1.13.",
            dg.__version__,
            error,
            len(metadata),
        )
        return False
    step._metadata_accumulator = accumulator  # noqa: SLF001 - likewise
    return True
