"""What the event log knows of landed objects: their partitions and wipes, and the runs that may have written them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dagster as dg

from dagfusion_contract.record import ENTRY
from dagfusion_pipeline.dimensions import Dimension
from dagfusion_pipeline.event_objects import is_tombstone
from dagfusion_pipeline.landed_objects import Folder
from dagfusion_pipeline.latest_events import LatestEvent, latest_event, latest_events
from dagfusion_pipeline.maintenance import may_write, unfinished_runs
from dagfusion_pipeline.store import ObjectStore, StoredObject

LANDED = "dagfusion/landed"
_KEYS_A_PAGE = 500
_KEYS_A_QUERY = 500
_PAGE = 1_000
_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_SECOND = timedelta(seconds=1)  # S3 tells whole seconds


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


class Wipe(NamedTuple):
    """The last time that a partition was wiped.

    Attributes:
        at: The time of the wipe.
        etag: The etag of the object that was recorded before the wipe; None if it is not known.
    """

    at: datetime
    etag: str | None

    def removed(self, found: StoredObject) -> bool:
        """Return True if an object existed when the partition was wiped.

        S3 reports times in whole seconds. Of the objects of the same second as the wipe, only the recorded one counts
        as older than the wipe.
        """
        if found.modified > self.at:
            return False
        is_exact = found.modified.microsecond != 0 or found.modified + _SECOND <= self.at
        return is_exact or found.etag == self.etag


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
    objects = [one for one in landed.folder.objects if not wipe.removed(one)]
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


def last_wipes(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Collection[str | None]
) -> Mapping[str | None, Wipe]:
    """Return the last wipe of each partition that was ever wiped, even if it was written again since.

    Args:
        instance: The Dagster instance whose event log is read.
        asset_key: The asset.
        partition_keys: Only these partitions; None among them for an unpartitioned asset.
    """
    keys = [None if key is None else str(key) for key in partition_keys]
    found: dict[str | None, Wipe] = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        found |= _of_page(instance, asset_key, {*keys[start : start + _KEYS_A_QUERY]})
    return found


def _of_page(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Collection[str | None]
) -> dict[str | None, Wipe]:
    found: dict[str | None, Wipe] = {}
    missing = {*keys}
    for record in _newest_first(instance, asset_key, keys):
        materialization, key = record.asset_materialization, record.partition_key
        if key not in missing:
            continue
        if is_tombstone(materialization):
            found.setdefault(key, Wipe(datetime.fromtimestamp(record.timestamp, UTC), None))
        elif key in found:
            entry = materialization.metadata.get(ENTRY) if materialization else None
            data = entry.data if isinstance(entry, dg.JsonMetadataValue) else None
            found[key] = Wipe(found[key].at, data.get("etag") if isinstance(data, Mapping) else None)
            missing.remove(key)
            if not missing:
                break
    return found


def _newest_first(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Collection[str | None]
) -> Iterator[dg.EventLogRecord]:
    partitioned = [key for key in keys if key is not None]
    filter_ = dg.AssetRecordsFilter(asset_key, asset_partitions=partitioned) if partitioned else asset_key
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(filter_, _PAGE, cursor)
        yield from page.records
        cursor, more = page.cursor, page.has_more


def writing_run(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> str | None:
    """Return the id of a run that has begun and may write the asset: its objects are there before their events."""
    runs = (run for run in unfinished_runs(instance) if run.status not in _WAITING and may_write(run, asset_key))
    return next((run.run_id for run in runs), None)


def of_failed_runs(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, objects: Collection[StoredObject]
) -> Sequence[StoredObject]:
    """Return those of an asset's objects that were written while a run was to write the asset that then failed.

    Args:
        instance: Whose runs are read.
        asset_key: The asset.
        objects: With the names that runs give, and not those of the latest events.
    """
    if not objects:
        return []
    since = min(one.modified for one in objects) - _SECOND
    runs = [
        record
        for record in instance.get_run_records(dg.RunsFilter(statuses=[*_FAILED], updated_after=since))
        if may_write(record.dagster_run, asset_key) and any(_is_during(record, one) for one in objects)
    ]
    runs = [record for record in runs if _was_to_write(instance, record.dagster_run.run_id, asset_key)]
    return [one for one in objects if any(_is_during(record, one) for record in runs)]


def _is_during(run: dg.RunRecord, found: StoredObject) -> bool:
    if run.start_time is None or run.end_time is None:
        return False
    return run.start_time - 1 <= found.modified.timestamp() <= run.end_time


def _was_to_write(instance: dg.DagsterInstance, run_id: str, asset_key: dg.AssetKey) -> bool:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    return any(
        record.event_log_entry.dagster_event is not None and record.event_log_entry.dagster_event.asset_key == asset_key
        for record in instance.get_records_for_run(run_id, of_type=kind).records
    )
