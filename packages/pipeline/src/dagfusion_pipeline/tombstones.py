"""Tombstones on events: what a wiped partition's event has, and how to tell it from others."""

from typing import Any

import dagster as dg

from dagfusion_contract.tombstone import TOMBSTONE_ENTRY, Tombstone, tombstone_entry


def is_tombstone(materialization: dg.AssetMaterialization | None) -> bool:
    """Return True if an event says that its partition is gone."""
    return materialization is not None and TOMBSTONE_ENTRY in materialization.metadata


def tombstone_event(asset_key: dg.AssetKey, partition_key: str | None, reason: str) -> dg.AssetMaterialization:
    """Return the event that says that a partition is gone, or the only object of an unpartitioned asset."""
    rows = "dagster/row_count" if partition_key is None else "dagster/partition_row_count"
    metadata: dict[str, Any] = {
        TOMBSTONE_ENTRY: dg.MetadataValue.json(tombstone_entry(Tombstone(reason))),
        rows: 0,
    }
    return dg.AssetMaterialization(
        asset_key, partition=partition_key, description=f"The rows are gone: {reason}.", metadata=metadata
    )
