"""A sensor that logs a materialization for the Parquet objects that other writers put under an asset's HIVE prefix."""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import pyarrow as pa

from dagfusion_contract.layout import hive_key
from dagfusion_pipeline.dimensions import Dimension, dimensions
from dagfusion_pipeline.errors import ConfigurationError, PipelineError, StoreError
from dagfusion_pipeline.event_metadata import event_metadata, metadata_without_record
from dagfusion_pipeline.frames import read_frame
from dagfusion_pipeline.landed_objects import list_folders
from dagfusion_pipeline.landed_partitions import LANDED, Landed, Partitions, not_yet_logged, of_failed_runs, writing_run
from dagfusion_pipeline.latest_files import latest_partition_types
from dagfusion_pipeline.maintenance import Manager, io_manager_of
from dagfusion_pipeline.parquet import decode
from dagfusion_pipeline.run_partitions import RunPartitions
from dagfusion_pipeline.store import ObjectVersion, StoredObject
from dagfusion_pipeline.writer import Target, found_file

Metrics = Callable[[pa.Table], Mapping[str, Any]]

_MOST_BYTES_A_TICK = 256 << 20
_READS_AT_ONCE = 16
_SHOWN = 5


@dataclass(frozen=True)
class _Watch:
    """The asset and the folder that a sensor watches."""

    asset: dg.AssetSpec
    prefix: str | None
    partition_order: Sequence[str]
    metrics: Metrics | None
    objects_a_tick: int
    events_a_tick: int
    max_read_bytes: int


def build_landing_sensor(
    asset: dg.AssetsDefinition | dg.AssetSpec,
    *,
    prefix: str | None = None,
    io_manager_key: str = "io_manager",
    partition_order: Sequence[str] = (),
    metrics: Metrics | None = None,
    name: str | None = None,
    objects_a_tick: int = 10_000,
    events_a_tick: int = 200,
    max_read_bytes: int = 64 << 20,
    minimum_interval_seconds: int = 60,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """Build a sensor that logs a materialization for each partition whose Parquet objects are new under a HIVE prefix.

    The objects come from other writers, such as Spark or an upload. Each is logged once, and again when it is uploaded
    with other content, by comparing its ETag with the latest materialization of its partition. So objects that runs of
    the asset have logged are not logged twice. A partition with one readable object gets event metadata v1, as if an IO
    manager had written it. A partition with several objects, or with one that cannot be read or is too large, gets a
    materialization that names the folder or the object, which the query side reads by itself.

    A tick lists a bounded number of objects; the next tick continues there, and starts over after the last object.
    Objects that lie in no folder of a partition of the asset are left out, with a warning in the log of the tick. So
    are objects that cannot be read, and those of failed runs. Ticks are skipped while a run that may
    write the asset is in progress.

    Args:
        asset: Whose partitions the folders are. An asset that no run writes is a `dagster.AssetSpec`.
        prefix: The folder in the bucket; by default where `PartitionedS3ParquetIOManager` writes the asset.
        io_manager_key: The resource of an IO manager of DagFusion with the bucket.
        partition_order: The asset's dimensions in the order of the folders; by default as the IO manager orders them.
        metrics: Numbers about the rows of a partition that is read, for its event.
        name: The sensor's.
        objects_a_tick: Objects that a tick lists, at most; the folder in which it stops is listed whole.
        events_a_tick: Materializations that a tick logs, at most.
        max_read_bytes: Size of the largest object that is read for its statistics.
        minimum_interval_seconds: Between ticks.
        default_status: Whether the sensor runs before it is started in Dagster's UI.

    Raises:
        ConfigurationError: `asset` is not one asset with a definition or a spec.

    Example:
        >>> import dagster as dg
        >>> days = dg.DailyPartitionsDefinition("2024-01-01")
        >>> orders = dg.AssetSpec(["Bronze", "orders"], partitions_def=days)
        >>> sensor = build_landing_sensor(orders, prefix="landing/orders", io_manager_key="hive_parquet")
        >>> sensor.name
        'Bronze__orders_landing'
    """
    watch = _Watch(_spec(asset), prefix, partition_order, metrics, objects_a_tick, events_a_tick, max_read_bytes)

    @dg.sensor(
        name=name or f"{watch.asset.key.to_python_identifier()}_landing",
        minimum_interval_seconds=minimum_interval_seconds,
        required_resource_keys={io_manager_key},
        default_status=default_status,
        description=f"Logs materializations of {watch.asset.key.to_user_string()} for new objects under its prefix.",
    )
    def landing(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _tick(context, watch, io_manager_of(context, io_manager_key))

    return landing


def _tick(context: dg.SensorEvaluationContext, watch: _Watch, manager: Manager) -> dg.SensorResult:
    asset, key = watch.asset, watch.asset.key
    order = _order(watch, manager)
    prefix = _prefix(watch, manager)
    after = json.loads(context.cursor)["after"] if context.cursor else None
    objects = manager.object_store.list_objects(prefix, after)
    listing = list_folders(objects, prefix, [dimension.column for dimension in order], watch.objects_a_tick)
    if (run := writing_run(context.instance, key)) is not None:
        return dg.SensorResult(
            skip_reason=f"run {run} may write {key.to_user_string()}, and its objects count once it has ended",
            cursor=context.cursor,
        )
    partitions = Partitions(asset.partitions_def, order, context.instance)
    landed = [Landed(partitions.key_of(one), one) for one in listing.folders if partitions.has(one)]
    others = [one.path for one in listing.folders if not partitions.has(one)]
    if left_out := [*listing.unmatched_keys, *others]:
        context.log.warning(
            "%d objects or folders under %s are of no partition of %s and are left out, such as %s",
            len(left_out),
            manager.object_store.uri(prefix),
            key.to_user_string(),
            ", ".join(left_out[:_SHOWN]),
        )
    new, mixed = not_yet_logged(context.instance, key, landed, manager.object_store)
    failed = _of_failed_runs(context.instance, watch, manager, new)
    new = [one for one in new if one.folder.path not in failed]
    _warn(context, mixed, "have several new objects beside those of a wiped partition: delete the old ones")
    _warn(context, sorted(failed), "have an object of a run that failed: run it again, or upload the object again")
    chosen = _first(new, watch)
    recorder = _Recorder(watch, manager, order, context.instance, context.log)
    events = list(recorder.events(chosen))
    after = chosen[-1].folder.last_key if len(chosen) < len(new) else listing.after
    return dg.SensorResult(
        asset_events=events,
        dynamic_partitions_requests=partitions.new_dynamic([one.folder for one in chosen]),
        cursor=json.dumps({"after": after}),
        skip_reason=None if events else _nothing_new(len(landed), len(left_out)),
    )


def _warn(context: dg.SensorEvaluationContext, folders: Sequence[str], what: str) -> None:
    if folders:
        context.log.warning("%d folders %s, such as %s", len(folders), what, ", ".join(folders[:_SHOWN]))


def _of_failed_runs(
    instance: dg.DagsterInstance, watch: _Watch, manager: Manager, new: Sequence[Landed]
) -> Collection[str]:
    """Return the folders with an object of a run that failed after it had written it."""
    prefix, _, name = _own_key(watch, manager).rpartition("/")
    if _prefix(watch, manager) != prefix:
        return ()
    objects = [found for one in new for found in one.folder.objects if found.key == f"{one.folder.path}/{name}"]
    failed = of_failed_runs(instance, watch.asset.key, objects)
    return {found.key.rpartition("/")[0] for found in failed}


def _nothing_new(partitions: int, left_out: int) -> str:
    ignored = f"; {left_out} objects or folders are of no partition, and left out" if left_out else ""
    return f"{partitions} partitions were listed, and none has new objects{ignored}"


@dataclass(frozen=True)
class _Recorder:
    watch: _Watch
    manager: Manager
    order: Sequence[Dimension]
    instance: dg.DagsterInstance
    log: logging.Logger

    def events(self, landed: Sequence[Landed]) -> Iterator[dg.AssetMaterialization]:
        """Yield one materialization for each partition; none where `_contents` has None."""
        recorded = latest_partition_types(self.instance, self.watch.asset.key)
        readable = [one for one in landed if _readable(one, self.watch) is not None]
        versions = [
            ObjectVersion(found.key, found.etag or "", found.size_bytes)
            for one in readable
            if (found := one.folder.only) is not None
        ]
        contents = self._contents(versions)
        by_path = {one.folder.path: content for one, content in zip(readable, contents, strict=True)}
        for one in landed:
            content = by_path.get(one.folder.path)
            if content is not None or one.folder.path not in by_path:
                metadata = self._metadata(one, content, recorded)
                yield dg.AssetMaterialization(
                    self.watch.asset.key, partition=one.partition_key, metadata={**metadata, LANDED: _landed(one)}
                )

    def _contents(self, versions: Sequence[ObjectVersion]) -> Sequence[Any]:
        """Return the objects; None for one that is replaced at the moment, or that the store does not give."""
        store = self.manager.object_store
        try:
            return store.read_versions(versions, _READS_AT_ONCE)
        except StoreError:  # of one of them: it must not keep the others
            with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
                return [*pool.map(self._content, versions)]

    def _content(self, version: ObjectVersion) -> Any:
        try:
            return self.manager.object_store.read_versions([version], 1)[0]
        except StoreError as error:
            self.log.warning("an object is left out until it can be read: %s", error)
            return None

    def _metadata(self, one: Landed, content: Any, recorded: Mapping[str, pa.DataType]) -> Mapping[str, Any]:
        found = one.folder.only
        if found is None:
            return self._text(one, f"{one.folder.path}/", f"the folder has {len(one.folder.objects)} objects")
        if content is None:
            return self._text(one, found.key, f"the object is larger than {self.watch.max_read_bytes} bytes")
        try:
            return self._record(one, found, content, recorded)
        except (PipelineError, pa.ArrowException, OSError, ValueError) as error:
            return self._text(one, found.key, f"the object cannot be read: {error}")

    def _record(
        self, one: Landed, found: StoredObject, content: Any, recorded: Mapping[str, pa.DataType]
    ) -> Mapping[str, Any]:
        asset = self.watch.asset.key.to_user_string()
        frame = read_frame(decode(content), asset)
        rows = pa.Table.from_batches(
            [batch for table in frame.tables for batch in table.to_batches()], schema=frame.schema
        )
        partitions = RunPartitions(asset, tuple(self.order), [one.partition_key], [one.folder.dimension_keys])
        names = [dimension.column for dimension in self.order]
        data = pa.schema([column for column in frame.schema if column.name not in names])
        columns = [
            replace(column, data_type=recorded.get(column.name, column.data_type))
            for column in partitions.columns(data, lambda: recorded)
        ]
        target = Target(
            one.partition_key, found.key, {name: array[0] for name, array in partitions.values(columns).items()}
        )
        file = found_file(self.manager.object_store, target, found, content, rows)
        own = self.manager.asset_facts(self.watch.asset.key, self.watch.asset.metadata, data, target.values)
        measured = self.watch.metrics(rows) if self.watch.metrics else {}
        return {**measured, **event_metadata(target, file, own, partitions.names_of(0))}

    def _text(self, one: Landed, key: str, reason: str) -> Mapping[str, Any]:
        partitions = RunPartitions("", tuple(self.order), [one.partition_key], [one.folder.dimension_keys])
        facts = self.manager.asset_facts(self.watch.asset.key, self.watch.asset.metadata, pa.schema([]), {})
        uri = self.manager.object_store.uri(key)
        return {
            **metadata_without_record(key, uri, one.folder.size_bytes, facts, partitions.names_of(0)),
            "without_record": reason,
        }


def _landed(one: Landed) -> dg.JsonMetadataValue:
    return dg.MetadataValue.json({"objects": len(one.folder.objects), "fingerprint": one.folder.fingerprint()})


def _readable(one: Landed, watch: _Watch) -> StoredObject | None:
    found = one.folder.only
    return found if found is not None and found.size_bytes <= watch.max_read_bytes else None


def _first(new: Sequence[Landed], watch: _Watch) -> Sequence[Landed]:
    """Return as many as a tick may log and read, and at least one."""
    total = 0
    for position, one in enumerate(new):
        found = _readable(one, watch)
        total += found.size_bytes if found is not None else 0
        if position and (position >= watch.events_a_tick or total > _MOST_BYTES_A_TICK):
            return new[:position]
    return new


def _order(watch: _Watch, manager: Manager) -> Sequence[Dimension]:
    definition = watch.asset.partitions_def
    if definition is None:
        return ()
    metadata = dict(watch.asset.metadata)
    if watch.partition_order:
        metadata["partition_order"] = list(watch.partition_order)
    return dimensions(definition, metadata, manager.partition_order, watch.asset.key.to_user_string())


def _prefix(watch: _Watch, manager: Manager) -> str:
    if watch.prefix is not None:
        return watch.prefix.strip("/")
    if manager.file_naming == "per_run":
        raise ConfigurationError(
            f"the folder of asset {watch.asset.key.to_user_string()!r} has the objects of all runs, because its IO"
            " manager has file_naming='per_run': let other writers put their objects elsewhere, and name that prefix"
        )
    return _own_key(watch, manager).rpartition("/")[0]


def _own_key(watch: _Watch, manager: Manager) -> str:
    """Return the key that runs would write if the asset had no partitions."""
    return hive_key(manager.prefix, watch.asset.key.path, [], None)


def _spec(asset: dg.AssetsDefinition | dg.AssetSpec) -> dg.AssetSpec:
    if isinstance(asset, dg.AssetSpec):
        return asset
    keys = sorted(asset.keys) if isinstance(asset, dg.AssetsDefinition) else []
    if len(keys) != 1 or not isinstance(asset, dg.AssetsDefinition):
        raise ConfigurationError(
            f"a landing sensor watches one asset, given by its definition or its spec, which has the partitions;"
            f" got {asset!r}: pass definition.get_asset_spec(key), or dagster.AssetSpec(key, partitions_def=...)"
        )
    return asset.get_asset_spec(keys[0])
