"""Which objects a materialization names: by its record, by a URI without a record, or none if it is a tombstone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagfusion_contract.metadata_uri import uri_in_metadata
from dagfusion_contract.record import ENTRY
from dagfusion_contract.tombstone import TOMBSTONE_ENTRY, Tombstone, tombstone_entry
from dagfusion_contract.view import VIEW_ENTRY


@dataclass(frozen=True)
class Unrecorded:
    """A URI or path that an event names without a record, as a landing sensor or another IO manager does.

    Queries read its objects, too.

    Attributes:
        place: The URI or path of an object or a folder, as the event has it.
    """

    place: str

    def has(self, uri: str) -> bool:
        """Return True if `uri` is the named object, or is below the named folder."""
        return uri == self.place or uri.startswith(f"{self.place.rstrip('/')}/")


def named_objects(materialization: dg.AssetMaterialization | None) -> Mapping[str, Any] | Unrecorded | None:
    """Return the record of an event, {} for a tombstone, or the URI that it names without a record.

    None means that the event names no object, such as one that was reported in Dagster's UI. The caller then uses the
    event before it. Otherwise the newest event counts, as in queries.
    """
    if materialization is None:
        return None
    if is_tombstone(materialization):
        return {}
    metadata = materialization.metadata
    entry = metadata.get(ENTRY)
    if isinstance(entry, dg.JsonMetadataValue) and isinstance(entry.data, Mapping) and entry.data:
        return entry.data
    if VIEW_ENTRY in metadata:
        return Unrecorded("a view")
    texts = {label: text for label, value in metadata.items() if (text := _text(value)) is not None}
    place = uri_in_metadata(texts)
    return None if place is None else Unrecorded(place)


def _text(value: dg.MetadataValue[Any]) -> str | None:
    if isinstance(value, dg.TextMetadataValue | dg.UrlMetadataValue | dg.PathMetadataValue):
        return value.value
    return None


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
