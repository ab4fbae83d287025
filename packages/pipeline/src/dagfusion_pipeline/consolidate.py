"""Consolidation: a job that writes the small objects of an asset's partitions into few large ones.

The small objects stay. A crash leaves objects that no event names, which the vacuum deletes.
"""

import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
from pydantic import Field

from dagfusion_contract.arrow_types import type_entry
from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, LargeObject, RowGroup, consolidated_entry, utc_text
from dagfusion_contract.layout import consolidated_key
from dagfusion_contract.record import schema_entry
from dagfusion_pipeline.consolidation_plan import (
    TARGET_BYTES,
    Numbers,
    held_events,
    holdings,
    is_fit,
    plan_objects,
    sorted_files,
)
from dagfusion_pipeline.large_files import LargeFile, partition_rows
from dagfusion_pipeline.logged_files import (
    CurrentFiles,
    current_files,
    latest_event_ids,
    logged_consolidations,
    records_of,
)
from dagfusion_pipeline.maintenance import Manager, asset_keys, build_job, io_manager_of
from dagfusion_pipeline.parquet import Compression
from dagfusion_pipeline.store import ObjectStore, StoredObject

Observe = Callable[[dg.AssetObservation], None]

_EVENT_PARTITIONS = 20_000  # that one observation names, about
_EVENT_OBJECTS = 64  # that are written before their observation is logged
_PLAIN = re.compile(r"\w+", re.ASCII)
_FEW_BESIDE = 500  # partitions that no object holds, whose events are read before all are
_BYTES_PER_MB = 1_000_000


class ConsolidateConfig(dg.Config):
    """The run config: how objects are written."""

    target_mb: float = Field(
        default=TARGET_BYTES / (1 << 20), gt=0, description="Megabytes of small objects in a large one, about."
    )


@dataclass(frozen=True)
class Consolidated:
    """The objects that one consolidation of an asset has written.

    Attributes:
        partitions: That the large objects hold.
        objects: Large objects.
        size_bytes: The size of all of them.
        unfit: Why nothing can be written of some partitions, a line each.
    """

    partitions: int = 0
    objects: int = 0
    size_bytes: int = 0
    unfit: tuple[str, ...] = ()


def build_consolidate_job(
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey],
    *,
    io_manager_key: str = "io_manager",
    name: str = "consolidate",
    tags: Mapping[str, Any] | None = None,
) -> dg.JobDefinition:
    """Build a job that writes small objects of the assets' partitions into few large ones, for faster scans.

    A run writes what is new since the last one. The small objects stay as they are, so every other reader of the table
    goes on. DagFusion's queries read the large objects where all of a row group's partitions are current.

    Args:
        assets: Partitioned assets that DagFusion's IO managers write.
        io_manager_key: The resource of an IO manager with the bucket and the prefix of these assets.
        name: The job's.
        tags: Tags of the job and its runs, such as the role that the run launcher gives a run.

    Example:
        >>> import dagster as dg
        >>> job = build_consolidate_job([dg.AssetKey(["Silver", "orgs"])], io_manager_key="hive_parquet")
        >>> job.name
        'consolidate'
    """
    keys = tuple(asset_keys(assets))

    @dg.op(name=f"{name}_partitions", required_resource_keys={io_manager_key})
    def consolidate_partitions(context: dg.OpExecutionContext, config: ConsolidateConfig) -> None:
        """Write new partitions of each asset into large objects, and log which."""
        manager = io_manager_of(context, io_manager_key)
        for key in keys:
            found = consolidate_asset(
                context.instance,
                manager,
                key,
                context.run_id,
                context.log_event,
                target_bytes=int(config.target_mb * (1 << 20)),
            )
            context.log.info("%s", described(key, found))

    return build_job(
        consolidate_partitions,
        "consolidate_partitions",
        name=name,
        description="Writes small objects of partitions into few large ones, for faster scans.",
        tags=tags,
    )


def build_consolidate_schedule(
    job: dg.JobDefinition, *, cron_schedule: str = "30 3 * * *", execution_timezone: str = "UTC"
) -> dg.ScheduleDefinition:
    """Build a schedule of a consolidation job; every night by default.

    Example:
        >>> import dagster as dg
        >>> job = build_consolidate_job([dg.AssetKey(["Silver", "orgs"])])
        >>> build_consolidate_schedule(job).name
        'consolidate_schedule'
    """
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule", job=job, cron_schedule=cron_schedule, execution_timezone=execution_timezone
    )


def consolidate_asset(
    instance: dg.DagsterInstance,
    manager: Manager,
    asset_key: dg.AssetKey,
    run_id: str,
    observe: Observe,
    *,
    target_bytes: int = TARGET_BYTES,
) -> Consolidated:
    """Write the partitions of an asset that no large object holds yet.

    Args:
        instance: Whose event log says what the partitions are.
        manager: An IO manager with the asset's bucket and prefix.
        asset_key: The asset.
        run_id: Named in the objects' names.
        observe: Logs an observation, after the objects that it names are there.
        target_bytes: The size of the small objects in a large one, about.
    """
    writer = _Writer(manager, asset_key, run_id)
    # Oldest first: where two of them hold a partition, the later counts.
    logged = logged_consolidations(instance, asset_key)
    logged_objects = [one for consolidation in reversed(logged) for one in consolidation.objects]
    if logged_objects and not _is_new(instance, asset_key, logged_objects):
        return Consolidated()
    layouts = current_files(instance, asset_key)
    partitions, unfit, written = 0, [], list[LargeObject]()
    for layout in layouts:
        files = layout.files
        if reason := _unfit(layout, files, manager.object_store):
            unfit.append(reason)
            continue
        files = sorted_files(files)
        plan = plan_objects(files, holdings(files, logged_objects), target_bytes)
        for some in _batches(plan):
            objects = writer.write(layout, files, some)
            if objects:
                observe(_observation(asset_key, objects))
            written += objects
            partitions += sum(len(group.events) for one in objects for group in one.row_groups)
    return Consolidated(partitions, len(written), sum(one.size_bytes for one in written), tuple(unfit))


def described(asset_key: dg.AssetKey, found: Consolidated) -> str:
    """Return a summary of the consolidation as lines of text."""
    name, size_mb = asset_key.to_user_string(), found.size_bytes / _BYTES_PER_MB
    done = f"{name}: {found.partitions} partitions written to {found.objects} large objects of {size_mb:.1f} MB"
    return "\n".join([done, *(f"{name}: {reason}" for reason in found.unfit)])


class _Writer:
    """Writes the large objects of one asset."""

    def __init__(self, manager: Manager, asset_key: dg.AssetKey, run_id: str) -> None:
        self._store, self._concurrency = manager.object_store, manager.upload_concurrency
        self._compression: Compression = manager.compression
        attempt = uuid.uuid4().hex[:8]
        self._key = partial(consolidated_key, manager.prefix, asset_key.path, run_id, attempt)
        self._count = 0

    def write(self, layout: CurrentFiles, files: pa.Table, plan: Sequence[Numbers]) -> list[LargeObject]:
        """Write some objects and return those that have rows, when the store has confirmed all of them."""
        objects: list[LargeObject] = []
        with tempfile.TemporaryDirectory(prefix="dagfusion-") as folder, self._store.uploads(2) as uploads:
            for numbers in plan:
                path = Path(folder, f"{self._count}.parquet")
                file = LargeFile(path, self._compression, layout.partition.names)
                groups = self._encode(file, layout, files.take(pa.array(numbers)))
                if not groups:
                    continue
                described = partial(self._described, layout, file.schema or pa.schema([]), file.has_field_ids, groups)
                uploads.put(self._key(self._count), path, partial(_confirm, path, objects, described))
                self._count += 1
        return objects

    def _encode(self, file: LargeFile, layout: CurrentFiles, files: pa.Table) -> Sequence[RowGroup]:
        try:
            for partition in partition_rows(files, layout.partition, self._store, self._concurrency):
                file.add(partition)
            return file.finish()
        except BaseException:
            file.discard()
            raise

    def _described(
        self,
        layout: CurrentFiles,
        schema: pa.Schema,
        has_field_ids: bool,  # noqa: FBT001
        groups: Sequence[RowGroup],
        stored: StoredObject,
    ) -> LargeObject:
        return LargeObject(
            self._store.uri(stored.key),
            stored.size_bytes,
            stored.etag,
            stored.checksum,
            utc_text(stored.modified),
            [{"name": column.name, "type": type_entry(column.type)} for column in layout.partition],
            schema_entry(schema),
            tuple(groups),
            has_field_ids,
        )


def _confirm(
    path: Path, objects: list[LargeObject], described: Callable[[StoredObject], LargeObject], stored: StoredObject
) -> None:
    path.unlink()
    objects.append(described(stored))


def _is_new(instance: dg.DagsterInstance, asset_key: dg.AssetKey, objects: Sequence[LargeObject]) -> bool:
    """Return False if no partition can be written: all are held, or cannot be held.

    To read all events takes seconds for ten thousand partitions, and their ids a tenth of a second.
    """
    latest = np.array(list(latest_event_ids(instance, asset_key)), np.int64)
    beside: list[int] = latest[~held_events(latest, objects)].tolist()
    if len(beside) > _FEW_BESIDE or not len(latest):
        return True
    # An event without a file leaves the partition the file before.
    records = list(records_of(instance, asset_key, beside))
    return len(records) < len(beside) or any(not isinstance(one, Mapping) or is_fit(one) for one in records)


def _unfit(layout: CurrentFiles, files: pa.Table, store: ObjectStore) -> str | None:
    """Return why files are not consolidated: a query would not read large objects of them."""
    if not layout.partition.names:
        return "an asset without partition columns is not consolidated"
    if odd := [name for name in layout.partition.names if not _PLAIN.fullmatch(name)]:
        return f"partition columns are letters, digits and underscores where partitions are consolidated; got {odd}"
    values = files["partition"].combine_chunks().flatten()
    if empty := [name for name, some in zip(layout.partition.names, values, strict=True) if some.null_count]:
        return f"partition columns with NULL are not consolidated: {empty}"
    root = store.uri("")
    if not all(uri.startswith(root) for uri in files["uri"].to_pylist()):
        return f"some objects are outside of {root}"
    return None


def _batches(plan: Sequence[Numbers]) -> Iterator[Sequence[Numbers]]:
    """Split objects into those that one observation names."""
    batch: list[Numbers] = []
    for numbers in plan:
        batch.append(numbers)
        if len(batch) >= _EVENT_OBJECTS or sum(map(len, batch)) >= _EVENT_PARTITIONS:
            yield batch
            batch = []
    if batch:
        yield batch


def _observation(asset_key: dg.AssetKey, objects: Sequence[LargeObject]) -> dg.AssetObservation:
    partitions = sum(len(group.events) for one in objects for group in one.row_groups)
    size_mb = round(sum(one.size_bytes for one in objects) / _BYTES_PER_MB, 6)
    metadata: dict[str, Any] = {
        CONSOLIDATED_ENTRY: dg.MetadataValue.json(consolidated_entry(objects)),
        "consolidated_partitions": partitions,
        "consolidated_objects": len(objects),
        "consolidated_size_mb": size_mb,
    }
    description = f"{partitions} partitions are also in {len(objects)} large objects, which DagFusion's queries read."
    return dg.AssetObservation(asset_key=asset_key, description=description, metadata=metadata)
