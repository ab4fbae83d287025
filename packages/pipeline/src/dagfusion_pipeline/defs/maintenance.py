"""The vacuum: deletes the objects that per-run file names leave behind, once nothing reads them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import Field

from dagfusion_contract.layout import file_key
from dagfusion_pipeline.defs.recorded import newest_recorded
from dagfusion_pipeline.defs.resources import METRICS, MeasuredHiveParquet
from dagfusion_pipeline.defs.superseded import needed_uris, superseded
from dagfusion_pipeline.store import StoredObject

TABLES = tuple(METRICS)

_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_NAMED_IN_THE_LOG = 20


class Vacuum(dg.Config):
    """What the vacuum takes away."""

    older_than_hours: float = Field(default=24, ge=1, description="How long an object stays after it was superseded.")
    dry_run: bool = Field(default=True, description="Only say what would be deleted.")


@dg.op
def delete_superseded(
    context: dg.OpExecutionContext, config: Vacuum, hive_parquet: dg.ResourceParam[MeasuredHiveParquet]
) -> None:
    """Compares the tables' folders with the event log and deletes what has long been superseded."""
    since = _now() - timedelta(hours=config.older_than_hours)
    for table in TABLES:
        found = superseded_objects(context.instance, hive_parquet, table, since)
        context.log.info(
            "%s: %d objects of %d bytes %s%s",
            table.to_user_string(),
            len(found),
            sum(stored.size_bytes for stored in found),
            "would be deleted" if config.dry_run else "are deleted",
            _names(found),
        )
        if found and not config.dry_run:
            hive_parquet.object_store.delete_objects([stored.key for stored in found])


@dg.job(description="Deletes superseded objects of per-run file names; a dry run unless `dry_run` is set to false.")
def vacuum() -> None:
    """The vacuum as a job."""
    delete_superseded()


def superseded_objects(
    instance: dg.DagsterInstance, manager: MeasuredHiveParquet, table: dg.AssetKey, since: datetime
) -> list[StoredObject]:
    """The objects of a table that nothing has needed since then; none of a table that has no record at all."""
    # The objects come first: one that is written meanwhile is not among them, and its event is.
    objects = list(_objects_of(manager, table))
    unfinished = {run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=list(_UNFINISHED)))}
    needed = needed_uris(newest_recorded(instance, table), since)
    if not needed:
        return []
    root = manager.object_store.uri("")
    return superseded(objects, {uri.removeprefix(root) for uri in needed}, unfinished, since)


def _objects_of(manager: MeasuredHiveParquet, table: dg.AssetKey) -> Iterator[StoredObject]:
    path = file_key(manager.prefix, table.path, None, None).removesuffix(".parquet")
    for stored in manager.object_store.list_objects(path.rpartition("/")[0]):
        if stored.key.startswith((f"{path}/", f"{path}-")):
            yield stored


def _now() -> datetime:
    return datetime.now(UTC)


def _names(found: Sequence[StoredObject]) -> str:
    names = [stored.key for stored in found[:_NAMED_IN_THE_LOG]]
    return "".join(f"\n  {name}" for name in [*names, *(["..."] if len(found) > len(names) else [])])
