"""The vacuum: deletes objects that per-run file names, consolidations and wipes leave behind, once unread."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple

import dagster as dg
from pydantic import Field

from dagfusion_pipeline.consolidation_plan import holdings
from dagfusion_pipeline.errors import shortened
from dagfusion_pipeline.logged_files import LoggedConsolidation, current_files, logged_consolidations, logged_files
from dagfusion_pipeline.maintenance import (
    Manager,
    asset_keys,
    build_job,
    io_manager_of,
    is_below,
    is_in_partition_folder,
    large_objects_of,
    may_be_of,
    may_write,
    objects_of,
    unfinished_runs,
)
from dagfusion_pipeline.old_iceberg_metadata import large_objects_in_use, superseded_metadata
from dagfusion_pipeline.store import StoredObject
from dagfusion_pipeline.vacuum_rule import collect_uris, needed, of_wiped_partitions, renamed, run_of, superseded

_NAMED_IN_THE_LOG = 20
_PAGE = 1_000


class VacuumConfig(dg.Config):
    """Which objects a run of the job deletes."""

    older_than_hours: float = Field(default=24, ge=1, description="How long an object stays after it was superseded.")
    dry_run: bool = Field(default=True, description="Only log what would be deleted.")


def build_vacuum_job(
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey],
    *,
    io_manager_key: str = "io_manager",
    name: str = "vacuum",
    iceberg_metadata: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> dg.JobDefinition:
    """Build a job that deletes objects of the assets once later runs have superseded them.

    It is for assets with `file_naming="per_run"`, for those that are consolidated, and for wiped partitions. An object
    is deleted once it has not been its partition's newest for `older_than_hours`, and a large object once queries have
    not read it for as long. After a wipe of the whole asset in Dagster, all its objects stay for as long. An object
    with a stable name is deleted only if its partition was wiped that long ago, and no run that may write the asset is
    in progress. Only a run that has `dry_run: false` deletes.

    Args:
        assets: The assets whose objects are compared with the event log.
        io_manager_key: The resource of an IO manager with the bucket and the prefix of these assets.
        name: The job's.
        iceberg_metadata: The folder in which the query service writes Iceberg metadata, a URI in the same bucket. The
            job deletes what no version of the metadata has needed for `older_than_hours`, of all tables.
        tags: Tags of the job and its runs, such as the role that the run launcher gives a run.

    Example:
        >>> import dagster as dg
        >>> job = build_vacuum_job([dg.AssetKey(["Silver", "orgs"])], io_manager_key="hive_parquet")
        >>> job.name
        'vacuum'
    """
    keys = tuple(asset_keys(assets))

    @dg.op(name=f"{name}_delete_superseded", required_resource_keys={io_manager_key})
    def delete_superseded(context: dg.OpExecutionContext, config: VacuumConfig) -> None:
        """Compare the assets' folders with the event log and delete what has long been superseded."""
        manager = io_manager_of(context, io_manager_key)
        since = _now() - timedelta(hours=config.older_than_hours)
        assets_of = cache(partial(_assets_of, context.instance))  # a run may have written several of the assets
        for key in keys:
            of_partitions = partial(
                superseded_objects, context.instance, manager, key, since, context.run_id, assets_of=assets_of
            )
            found = [
                *of_partitions(say=context.log.info),
                *superseded_large_objects(context.instance, manager, key, since, iceberg_metadata),
            ]
            if found and not config.dry_run:  # what was written while the event log was read stays
                now = {*of_partitions()}
                found = [one for one in found if run_of(one.key) or one in now]
            still = partial(_unwritten, context.instance, manager, key, context.run_id)
            _finish(context.log, manager, key.to_user_string(), found, config, still=still)
        if iceberg_metadata is not None:
            old = superseded_metadata(manager.object_store, iceberg_metadata, since)
            _finish(context.log, manager, iceberg_metadata, old, config, still=list)

    return build_job(
        delete_superseded,
        "delete_superseded",
        name=name,
        description="Deletes superseded objects of per-run file names, consolidations and wiped partitions; a dry run"
        " unless `dry_run` is set to false.",
        tags=tags,
    )


def superseded_objects(
    instance: dg.DagsterInstance,
    manager: Manager,
    asset_key: dg.AssetKey,
    since: datetime,
    own_run: str = "",
    *,
    assets_of: Callable[[str], Collection[dg.AssetKey]] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[StoredObject]:
    """Return the objects of an asset that nothing has needed since then; none of an asset that has no record at all.

    Args:
        instance: Whose event log is read.
        manager: An IO manager with the asset's bucket and prefix.
        asset_key: The asset.
        since: From when on queries may still read objects.
        own_run: The run that asks; others may write objects with stable names.
        assets_of: Returns the assets of a run, by its id; by default, the event log is read for each asset and run.
        say: Called with a line about objects that stay because a run is in progress.
    """
    # The objects come first: one that is written meanwhile is not among them, and its event is.
    objects = list(objects_of(manager, asset_key, instance.get_asset_keys()))
    unfinished = unfinished_runs(instance)
    gone: dict[str, datetime] = {}
    named_uris: set[str] = set()
    logged = collect_uris(logged_files(instance, asset_key), since, gone, named_uris)
    # What an event names without a record may be a folder with the object before, so it supersedes none.
    uris = {one.uri for one in needed((one for one in logged if one.unrecorded is None), since)}
    if not uris:
        return []
    root = manager.object_store.uri("")
    keys = {uri.removeprefix(root) for uri in uris if uri is not None}
    old = superseded(objects, keys, {run.run_id for run in unfinished}, since)
    found = []
    if not was_wiped_since(instance, asset_key, since):
        named_keys = {uri.removeprefix(root) for uri in named_uris}
        known = _known_to_the_log(instance, asset_key, old, named_keys)
        found = _surely_of(assets_of or partial(_assets_of, instance), manager, asset_key, known, named_keys)
    wiped = of_wiped_partitions(objects, {uri.removeprefix(root): at for uri, at in gone.items()}, keys)
    writers = [run.run_id for run in unfinished if run.run_id != own_run and may_write(run, asset_key)]
    if wiped and writers and say is not None:
        say(
            f"{asset_key.to_user_string()}: {len(wiped)} objects of wiped partitions stay while run {writers[0]} may"
            " write the asset"
        )
    return found if writers else [*found, *wiped]


def superseded_large_objects(
    instance: dg.DagsterInstance,
    manager: Manager,
    asset_key: dg.AssetKey,
    since: datetime,
    iceberg_metadata: str | None = None,
) -> list[StoredObject]:
    """Return the large objects of an asset that no query has needed since then.

    Args:
        instance: Whose event log is read.
        manager: An IO manager with the asset's bucket and prefix.
        asset_key: The asset.
        since: From when on queries may still read objects.
        iceberg_metadata: The folder of Iceberg metadata; what it names stays.
    """
    objects = large_objects_of(manager, asset_key)
    if not objects:
        return []
    unfinished = {run.run_id for run in unfinished_runs(instance)}
    logged = logged_consolidations(instance, asset_key)
    recorded = (file for file in logged_files(instance, asset_key) if file.unrecorded is None)
    events = {file.event_id for file in needed(recorded, since)}
    holders = needed(_holders(logged, events, _owners(instance, asset_key, logged), since), since)
    root = manager.object_store.uri("")
    if was_wiped_since(instance, asset_key, since):
        return []
    # Also one that a purged event named: where a large object is missing, queries read the small ones.
    found = superseded(objects, {one.uri.removeprefix(root) for one in holders}, unfinished, since)
    if not found or iceberg_metadata is None:
        return found
    # Clients of the Iceberg catalog have no other object to read.
    in_use = large_objects_in_use(manager.object_store, iceberg_metadata, since)
    return [] if in_use is None else [one for one in found if f"{root}{one.key}" not in in_use]


def was_wiped_since(instance: dg.DagsterInstance, asset_key: dg.AssetKey, since: datetime) -> bool:
    """Return True if the whole asset may have been wiped at or after a time.

    The event log no longer gives the events from before the wipe, so it does not tell which objects were the newest
    until then. An object that was written before `since` may be one of them. Dagster has no record of an asset without
    an event after its wipe.
    """
    details = [record.asset_entry.asset_details for record in instance.get_asset_records([asset_key])]
    if not details:
        return True
    wipes = [one.last_wipe_timestamp for one in details if one is not None and one.last_wipe_timestamp is not None]
    return any(wiped_s >= since.timestamp() for wiped_s in wipes)


def _surely_of(
    assets_of: Callable[[str], Collection[dg.AssetKey]],
    manager: Manager,
    asset_key: dg.AssetKey,
    found: Sequence[StoredObject],
    named_keys: Collection[str],
) -> list[StoredObject]:
    """Leave out objects that may be those of another asset, which was wiped: Dagster no longer has its key.

    `S3ParquetIOManager` gives the partition `c` of the asset `a/b` and the unpartitioned asset `a/b/c` the same name.
    The records of the run that wrote an object remain after a wipe, and have the keys of the run's assets. An object is
    left out if one of these keys begins with the asset's and the object may be that asset's file. An object of a run
    without records of the asset is the asset's only if an event names the file of another run there.
    """
    unsure = {one.key for one in found if one.key not in named_keys}
    unsure -= {key for key in unsure if is_in_partition_folder(manager, asset_key, key)}
    assets = {run: assets_of(run) for run in {run_of(key) for key in unsure} if run is not None}
    places = {renamed(key, "") for key in named_keys}

    def is_own(key: str) -> bool:
        of_run = assets.get(run_of(key) or "", ())
        if any(is_below(other, asset_key) and may_be_of(manager, other, key) for other in of_run):
            return False
        return asset_key in of_run or renamed(key, "") in places

    return [one for one in found if one.key not in unsure or is_own(one.key)]


def _assets_of(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    """Return the assets that a run materialized or was to materialize, also wiped ones; none of a deleted run."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
    assets: set[dg.AssetKey] = set()
    cursor = None
    while True:
        page = instance.get_records_for_run(run_id, cursor, kinds, _PAGE)
        events = (record.event_log_entry.dagster_event for record in page.records)
        assets.update(event.asset_key for event in events if event is not None and event.asset_key is not None)
        if not page.has_more:
            return assets
        cursor = page.cursor


def _known_to_the_log(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, found: Sequence[StoredObject], named_keys: Collection[str]
) -> list[StoredObject]:
    """Leave out objects that no event names, if their run's events were purged or it did not write the asset.

    The query service may serve the objects of purged events. A purge by age removes the start of a run first, and a
    deleted run has none. Commands write under the id of a run that never starts, and an event names their objects.
    """
    runs = {run for stored in found if stored.key not in named_keys and (run := run_of(stored.key)) is not None}
    logged = {run for run in runs if _wrote(instance, asset_key, run)}
    return [stored for stored in found if stored.key in named_keys or run_of(stored.key) in logged]


def _wrote(instance: dg.DagsterInstance, asset_key: dg.AssetKey, run_id: str) -> bool:
    """Return True if the event log has the start of a run that may have written an asset."""
    start = dg.DagsterEventType.PIPELINE_START
    if not instance.get_records_for_run(run_id, of_type=start, limit=1).records:
        return False
    run = instance.get_run_by_id(run_id)
    return run is not None and may_write(run, asset_key)


class _Holder(NamedTuple):
    """A large object that holds the rows of a materialization, as a version of that."""

    partition: int
    at: datetime
    uri: str


def _owners(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, newest_first: Sequence[LoggedConsolidation]
) -> dict[int, str]:
    """Return the large object that queries read the rows of a materialization from."""
    objects = [one for logged in reversed(newest_first) for one in logged.objects]
    owners: dict[int, str] = {}
    for layout in current_files(instance, asset_key):
        files = layout.files
        owner = holdings(files, objects).owner.tolist()
        owned = zip(files["event_id"].to_pylist(), owner, strict=True)
        owners |= {event: objects[number].uri for event, number in owned if number >= 0}
    return owners


def _holders(
    newest_first: Iterable[LoggedConsolidation], events: Collection[int], owners: Mapping[int, str], since: datetime
) -> Iterator[_Holder]:
    """Yield the large objects that hold events; one that queries do not read makes no older one superfluous."""
    for logged in newest_first:
        for one in logged.objects:
            for group in one.row_groups:
                for event in group.events:
                    if event in events:
                        yield _Holder(event, logged.at if owners.get(event) == one.uri else since, one.uri)


def _now() -> datetime:
    return datetime.now(UTC)


def _unwritten(
    instance: dg.DagsterInstance,
    manager: Manager,
    asset_key: dg.AssetKey,
    own_run: str,
    batch: Sequence[StoredObject],
) -> list[StoredObject]:
    """Leave out objects with stable names that were written since they were found, or may be right now."""
    stable = [one for one in batch if run_of(one.key) is None]
    if not stable:
        return list(batch)
    now = manager.object_store.look_at_many([one.key for one in stable], manager.upload_concurrency)
    # The runs come last: one that wrote before the objects were looked at has changed them.
    busy = any(may_write(run, asset_key) for run in unfinished_runs(instance, but=own_run))
    same = {one.key for one, seen in zip(stable, now, strict=True) if seen == one and not busy}
    return [one for one in batch if run_of(one.key) is not None or one.key in same]


def _finish(
    log: dg.DagsterLogManager,
    manager: Manager,
    what: str,
    found: Sequence[StoredObject],
    config: VacuumConfig,
    *,
    still: Callable[[Sequence[StoredObject]], list[StoredObject]],
) -> None:
    """Log what was found, and delete what it `still` is unless this is a dry run."""
    log.info(
        "%s: %d objects of %d bytes %s%s",
        what,
        len(found),
        sum(stored.size_bytes for stored in found),
        "would be deleted" if config.dry_run else "are deleted",
        _names(found),
    )
    for first in () if config.dry_run else range(0, len(found), _PAGE):
        batch = found[first : first + _PAGE]
        gone = [stored.key for stored in still(batch)]
        if len(gone) < len(batch):
            log.warning("%s: %d objects stay, because a run writes or wrote them", what, len(batch) - len(gone))
        if gone:
            manager.object_store.delete_objects(gone)


def _names(found: Sequence[StoredObject]) -> str:
    return "".join(f"\n  {name}" for name in shortened([stored.key for stored in found], _NAMED_IN_THE_LOG))
