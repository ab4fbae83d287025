"""Reads which objects a materialization names: by its record, as wiped, or by a URI without a record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagfusion_contract.metadata_uri import uri_in_metadata
from dagfusion_contract.record import ENTRY
from dagfusion_contract.view import VIEW_ENTRY
from dagfusion_pipeline.tombstones import is_tombstone


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
