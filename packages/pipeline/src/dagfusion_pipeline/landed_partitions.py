"""Folders of landed objects as partitions of an asset, and which of them the event log does not know yet."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import dagster as dg

from dagfusion_pipeline.dimensions import Dimension
from dagfusion_pipeline.landed_objects import Folder
from dagfusion_pipeline.landed_wipes import Wipe, last_wipes
from dagfusion_pipeline.latest_events import LatestEvent, latest_event, latest_events
from dagfusion_pipeline.store import ObjectStore

LANDED = "dagfusion/landed"
_KEYS_A_PAGE = 500


@dataclass(frozen=True)
class Landed:
    """A partition and its folder."""

    partition_key: str | None
    folder: Folder


class Unlogged(NamedTuple):
    """The landed objects of a listing that the event log does not have.

    Attributes:
        new: Partitions with new objects.
        mixed: Folders with several new objects beside wiped ones, which an event of the folder would bring back.
    """

    new: Sequence[Landed]
    mixed: Sequence[str]


class Partitions:
    """The partitions of an asset, by the folders of its HIVE prefix.

    Args:
        definition: The asset's; None for an unpartitioned asset.
        order: Its dimensions in path order.
        instance: Which has the keys of dynamic partitions.
    """

    def __init__(
        self,
        definition: dg.PartitionsDefinition[str] | None,
        order: Sequence[Dimension],
        instance: dg.DagsterInstance,
    ) -> None:
        self._definition, self._order, self._instance = definition, order, instance
        self._exists: dict[tuple[str, str], bool] = {}

    def key_of(self, folder: Folder) -> str | None:
        """Return the partition key of a folder; None for an unpartitioned asset."""
        key_of_dimension = {
            dimension.name: key for dimension, key in zip(self._order, folder.dimension_keys, strict=True)
        }
        if isinstance(self._definition, dg.MultiPartitionsDefinition):
            return dg.MultiPartitionKey(key_of_dimension)
        return next(iter(key_of_dimension.values()), None)

    def has(self, folder: Folder) -> bool:
        """Return True if the definition has the folder's partition, or can get it."""
        return all(self._has(one, key) for one, key in zip(self._order, folder.dimension_keys, strict=True))

    def new_dynamic(self, folders: Sequence[Folder]) -> list[Any]:
        """Return the requests that add the keys of dynamic partitions that are not there yet."""
        requests = []
        for place, dimension in enumerate(self._order):
            definition = dimension.definition
            if isinstance(definition, dg.DynamicPartitionsDefinition) and definition.name is not None:
                keys = dict.fromkeys(folder.dimension_keys[place] for folder in folders)
                have = set(self._instance.get_dynamic_partitions(definition.name))
                if missing := [key for key in keys if key not in have]:
                    requests.append(definition.build_add_request(missing))
        return requests

    def _has(self, dimension: Dimension, key: str) -> bool:
        if isinstance(dimension.definition, dg.DynamicPartitionsDefinition):
            return True
        place = (dimension.name, key)
        if place not in self._exists:
            self._exists[place] = bool(dimension.definition.has_partition_key(key))
        return self._exists[place]


def not_yet_logged(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, landed: Sequence[Landed], store: ObjectStore
) -> Unlogged:
    """Return the partitions whose objects are not those of their latest materialization.

    An object is known by its ETag. Objects that are older than a materialization of another writer, such as a run of
    this asset, are superseded by it. Those that are older than the last wiping of their partition went with it, and are
    left out of its folder.
    """
    events = _latest(instance, asset_key, [one.partition_key for one in landed])
    unknown = _unknown(instance, asset_key, landed, events, store)
    wipes = last_wipes(instance, asset_key, [one.partition_key for one in unknown])
    unwiped = [_without_wiped(one, wipes.get(one.partition_key)) for one in unknown]
    listed = {one.folder.path: len(one.folder.objects) for one in unknown}
    new = _unknown(instance, asset_key, [one for one in unwiped if one.folder.objects], events, store)
    mixed = [
        one.folder.path for one in new if one.folder.only is None and len(one.folder.objects) < listed[one.folder.path]
    ]
    return Unlogged([one for one in new if one.folder.path not in mixed], mixed)


def _unknown(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    landed: Sequence[Landed],
    events: Mapping[str | None, LatestEvent],
    store: ObjectStore,
) -> list[Landed]:
    unmatched = [one for one in landed if not _is_recorded(one.folder, events.get(one.partition_key), store)]
    ids = [events[one.partition_key].event_id for one in unmatched if one.partition_key in events]
    fingerprints = _fingerprints(instance, asset_key, ids)
    return [one for one in unmatched if not _is_known(one.folder, events.get(one.partition_key), fingerprints, store)]


def _without_wiped(landed: Landed, wipe: Wipe | None) -> Landed:
    if wipe is None:
        return landed
    objects = [one for one in landed.folder.objects if not wipe.took(one)]
    return replace(landed, folder=replace(landed.folder, objects=objects))


def _latest(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Collection[str | None]
) -> Mapping[str | None, LatestEvent]:
    if None in keys:
        event = latest_event(instance, asset_key)
        return {} if event is None else {None: event}
    return dict(latest_events(instance, asset_key, [key for key in keys if key is not None]).items())


def _is_recorded(folder: Folder, event: LatestEvent | None, store: ObjectStore) -> bool:
    only = folder.only
    if only is None or event is None or event.record is None:
        return False
    record = event.record
    return (record["uri"], record["etag"], record["size_bytes"]) == (store.uri(only.key), only.etag, only.size_bytes)


def _is_known(
    folder: Folder, event: LatestEvent | None, fingerprints: Mapping[int, str | None], store: ObjectStore
) -> bool:
    if event is None:
        return False
    logged = fingerprints.get(event.event_id)
    if logged is not None:
        return logged == folder.fingerprint()
    uri = event.record["uri"] if event.record is not None else None
    if any(store.uri(one.key) == uri and one.etag != (event.record or {})["etag"] for one in folder.objects):
        return False  # the object of a run was written again by another writer
    return all(one.modified <= event.at for one in folder.objects if store.uri(one.key) != uri)


def _fingerprints(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, event_ids: Sequence[int]
) -> Mapping[int, str | None]:
    found: dict[int, str | None] = {}
    for start in range(0, len(event_ids), _KEYS_A_PAGE):
        ids = event_ids[start : start + _KEYS_A_PAGE]
        records = instance.fetch_materializations(dg.AssetRecordsFilter(asset_key, storage_ids=ids), limit=len(ids))
        for record in records.records:
            materialization = record.asset_materialization
            entry = materialization.metadata.get(LANDED) if materialization else None
            data = entry.data if isinstance(entry, dg.JsonMetadataValue) else None
            found[record.storage_id] = data.get("fingerprint") if isinstance(data, Mapping) else None
    return found
