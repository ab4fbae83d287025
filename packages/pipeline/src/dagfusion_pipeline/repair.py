"""Repairs the event log where it and the objects differ: tombstones for missing objects, events for changed ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagfusion_contract.repair import FailedRepair, Repair, RepairedTable
from dagfusion_contract.values import parse_partition_entry
from dagfusion_pipeline.consolidation_plan import held_events
from dagfusion_pipeline.errors import ConfigurationError, CorruptObjectError, PipelineError
from dagfusion_pipeline.event_metadata import event_metadata
from dagfusion_pipeline.event_objects import tombstone_event
from dagfusion_pipeline.frames import storable_table
from dagfusion_pipeline.logged_files import LoggedFile, logged_consolidations, logged_files
from dagfusion_pipeline.maintenance import (
    LogMaterialization,
    Manager,
    large_objects_of,
    objects_of,
    refuse_busy,
    table_to_maintain,
)
from dagfusion_pipeline.replacing import found_objects
from dagfusion_pipeline.rewriter import is_current
from dagfusion_pipeline.store import ObjectVersion, StoredObject
from dagfusion_pipeline.writer import Target, found_file

_GONE = "its object is not in the bucket"
_HELD = "it is not in the bucket, but its rows are in a large object: materialize the partition again, or wipe it"
_NO_EVENT = "no current event in the event log of DAGSTER_HOME names it"


def repair_asset(
    instance: dg.DagsterInstance,
    manager: Manager,
    asset_key: dg.AssetKey,
    *,
    only: Collection[str] | None = None,
    dry_run: bool = False,
    log: LogMaterialization | None = None,
) -> Repair:
    """Log what is true of the objects of an asset where the event log says something else.

    Objects that no event names are left to the vacuum. A partition whose rows are in a large object of a consolidation
    gets no tombstone: its rows are not lost. An object and its event are looked at once more just before an event is
    logged: a run may have begun since.

    Args:
        instance: Whose event log names the objects.
        manager: An IO manager with the asset's bucket and prefix.
        asset_key: The asset.
        only: The URIs of the objects to repair; all when None.
        dry_run: Whether nothing is logged.
        log: Logs an event; by default outside of a run.

    Raises:
        BusyAssetError: A run that may write the asset is in progress.
        ConfigurationError: No object of the asset is in the bucket, so that the environment may be another one.
        StoreError: A request to the object store failed.
    """
    if not dry_run:
        refuse_busy(instance, asset_key)
    current, unrecorded = _current(instance, asset_key, manager)
    stored = {one.key: one for one in objects_of(manager, asset_key)}
    stored |= _elsewhere(manager, [key for file in current if (key := _key(manager, file)) not in stored])
    missing = [file for file in current if _key(manager, file) not in stored]
    if current and len(missing) == len(current):
        raise ConfigurationError(
            f"none of the {len(current)} objects of asset {asset_key.to_user_string()!r} is in"
            f" {manager.object_store.root}. Check ENVIRONMENT, the bucket and the prefix. If the objects are really"
            " gone, wipe the asset in Dagster"
        )
    chosen = ((file, stored.get(_key(manager, file))) for file in current if only is None or file.uri in only)
    differing = [(file, found) for file, found in chosen if found is None or _differs(found, file)]
    emit = log or instance.report_runless_asset_event
    held = _held(instance, manager, asset_key, current) if missing else frozenset[int]()
    work = _Work(instance, manager, asset_key, None if dry_run else emit, held)
    work.not_repaired.update(dict.fromkeys(sorted({*(only or ())} - {str(file.uri) for file in current}), _NO_EVENT))
    stopped: str | None = None
    try:
        for start in range(0, len(differing), manager.upload_concurrency):
            work.repair(differing[start : start + manager.upload_concurrency])
    except Exception as error:  # a database or a store may raise anything, and what was logged is reported
        if dry_run or not (work.missing or work.changed):
            raise
        stopped = f"{type(error).__name__}: {error}"
    asset = asset_key.to_user_string()
    return Repair(asset, len(current), work.missing, work.changed, work.not_repaired, tuple(unrecorded), stopped)


@dataclass(frozen=True)
class _Work:
    """The repair of one asset as far as it is done.

    Attributes:
        emit: Logs an event; None in a dry run.
        held: The events whose rows are in large objects.
    """

    instance: dg.DagsterInstance
    manager: Manager
    asset_key: dg.AssetKey
    emit: LogMaterialization | None
    held: frozenset[int]
    missing: list[str | None] = field(default_factory=list)
    changed: list[str | None] = field(default_factory=list)
    not_repaired: dict[str, str] = field(default_factory=dict)

    def repair(self, batch: Sequence[tuple[LoggedFile, StoredObject | None]]) -> None:
        """Repair a few files whose object was missing, or was another one, in the listing."""
        if self.emit is not None:
            refuse_busy(self.instance, self.asset_key)
        keys = [_key(self.manager, file) for file, _ in batch]
        now = found_objects(self.manager.object_store, keys, self.manager.upload_concurrency)
        for (file, listed), found in zip(batch, now, strict=True):
            if listed is None and found is None and file.event_id in self.held:
                self.not_repaired[str(file.uri)] = _HELD
            elif listed is None and found is None:
                self._log(file, tombstone_event(self.asset_key, file.partition, _GONE), self.missing)
            elif listed is not None and found is not None and _differs(found, file):
                self._correct(file, found)

    def _correct(self, file: LoggedFile, found: StoredObject) -> None:
        try:
            event = _corrected(self.manager, self.asset_key, file, found)
        except (PipelineError, ValueError) as error:  # of this object, and the others are repaired
            self.not_repaired[str(file.uri)] = str(error)
            return
        if event is not None:
            self._log(file, event, self.changed)

    def _log(self, file: LoggedFile, event: dg.AssetMaterialization, done: list[str | None]) -> None:
        """Log an event, unless the partition was written or wiped meanwhile."""
        if is_current(self.instance, self.asset_key, file):
            if self.emit is not None:
                self.emit(event)
            done.append(file.partition)


def _current(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, manager: Manager
) -> tuple[list[LoggedFile], list[str | None]]:
    """Return the current files, and the partitions whose latest event has no record, both by partition."""
    latest: dict[str | None, LoggedFile] = {}
    for file in logged_files(instance, asset_key):
        latest.setdefault(file.partition, file)
    root = manager.object_store.uri("")
    files = [file for file in latest.values() if file.uri is not None]
    elsewhere = next((file.uri for file in files if not str(file.uri).startswith(root)), None)
    if elsewhere is not None:
        raise ConfigurationError(f"{elsewhere} is outside of {root}: repair the asset with the bucket that it is in")
    unrecorded = [file.partition for file in latest.values() if file.unrecorded is not None]
    return sorted(files, key=lambda file: file.partition or ""), sorted(unrecorded, key=lambda key: key or "")


def _held(
    instance: dg.DagsterInstance, manager: Manager, asset_key: dg.AssetKey, current: Sequence[LoggedFile]
) -> frozenset[int]:
    """Return the events of current files whose rows are in large objects that are in the bucket."""
    there = {manager.object_store.uri(one.key) for one in large_objects_of(manager, asset_key)}
    logged = logged_consolidations(instance, asset_key) if there else []
    objects = [one for newest_first in reversed(logged) for one in newest_first.objects if one.uri in there]
    events = np.array([file.event_id for file in current], np.int64)
    return frozenset(events[held_events(events, objects)].tolist())


def _elsewhere(manager: Manager, keys: Sequence[str]) -> dict[str, StoredObject]:
    """Return the objects that are below another prefix than the one that was listed."""
    found = found_objects(manager.object_store, keys, manager.upload_concurrency)
    return {one.key: one for one in found if one is not None}


def _key(manager: Manager, file: LoggedFile) -> str:
    return str(file.uri).removeprefix(manager.object_store.uri(""))


def _differs(stored: StoredObject, file: LoggedFile) -> bool:
    etag: str | None = file.record.get("etag")
    is_other = etag is not None and stored.etag is not None and etag.strip('"') != stored.etag.strip('"')
    return is_other or stored.size_bytes != int(file.record["size_bytes"])


def _corrected(
    manager: Manager, asset_key: dg.AssetKey, file: LoggedFile, stored: StoredObject
) -> dg.AssetMaterialization | None:
    """Return the event of an object as it is now; None if it was written again meanwhile.

    Raises:
        CorruptObjectError: It is no Parquet file that an IO manager can load.
    """
    version = ObjectVersion(stored.key, stored.etag or "", stored.size_bytes)
    (content,) = manager.object_store.read_versions([version], 1)
    if content is None:
        return None
    asset = asset_key.to_user_string()
    values = dict(map(parse_partition_entry, file.record["partition"]))
    target = Target(file.partition, stored.key, values)
    try:
        rows = pq.ParquetFile(pa.BufferReader(pa.py_buffer(content))).read().replace_schema_metadata(None)
        table = storable_table(rows, asset)
        written = found_file(manager.object_store, target, stored, content, table)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptObjectError(f"{file.uri} of asset {asset!r} is not a Parquet file: {error}") from error
    shared = manager.asset_facts(asset_key, {}, table.schema, values)
    return dg.AssetMaterialization(
        asset_key,
        partition=file.partition,
        description="The record describes the current object, which was not written by a run.",
        metadata=dict(event_metadata(target, written, shared, file.partition)),
    )


def repair_table(table: str, *, dry_run: bool) -> str:
    """Repair the events of a table and say what was logged.

    Args:
        table: The table's name, with its schema.
        dry_run: Whether nothing is logged.

    Raises:
        BusyAssetError: A run may write the asset.
        ConfigurationError: No asset has this table's name, or the environment is not usable.
        PipelineError: An error ended it early, or an object is not repaired; the text has what was logged before.
        StoreError: A request to the object store failed.
    """
    with table_to_maintain(table) as (instance, manager, key):
        found = repair_asset(instance, manager, key, dry_run=dry_run)
    if found.stopped is not None or (found.not_repaired and not dry_run):
        raise PipelineError(found.described(dry_run=dry_run))
    hint = "\nThis is a dry run. Add --yes to log them." if dry_run and (found.missing or found.changed) else ""
    return f"{found.described(dry_run=dry_run)}{hint}"


def repair_tables(
    objects: Mapping[str, Collection[str]], endpoints: Mapping[str, str | None], *, dry_run: bool
) -> Sequence[RepairedTable | FailedRepair]:
    """Repair the events of objects of tables. A table that cannot be repaired does not stop the others.

    `dagfusion doctor` finds this function by its entry point.

    Args:
        objects: As of `RepairTables`.
        endpoints: The same.
        dry_run: Whether nothing is logged.
    """
    done = list[RepairedTable | FailedRepair]()
    for table, uris in objects.items():
        try:
            with table_to_maintain(table) as (instance, manager, key):
                _check_store(manager, uris, endpoints[table])
                found = repair_asset(instance, manager, key, only=frozenset(uris), dry_run=dry_run)
        except PipelineError as error:
            done.append(FailedRepair(table, str(error)))
        except Exception as error:  # noqa: BLE001  # a database or a store may raise anything, and it is reported
            done.append(FailedRepair(table, f"{type(error).__name__}: {error}"))
        else:
            done.append(RepairedTable(**vars(found), table=table))
    return done


def _check_store(manager: Manager, uris: Collection[str], endpoint: str | None) -> None:
    """Refuse objects that were looked for in another store than that of the IO manager.

    Raises:
        ConfigurationError: The endpoint or the bucket is another one.
    """
    own = manager.endpoint_url
    if (own or "").rstrip("/") != (endpoint or "").rstrip("/"):
        raise ConfigurationError(
            f"the objects were searched at {_shown(endpoint)}, and AWS_ENDPOINT_URL of the IO managers is"
            f" {_shown(own)}: give both the same endpoint"
        )
    root = manager.object_store.uri("")
    elsewhere = next((uri for uri in uris if not uri.startswith(root)), None)
    if elsewhere is not None:
        raise ConfigurationError(
            f"{elsewhere} is outside of {root}, the bucket of the IO managers: set S3_BUCKET to the one that it is in"
        )


def _shown(endpoint: str | None) -> str:
    return endpoint or "that of AWS"
