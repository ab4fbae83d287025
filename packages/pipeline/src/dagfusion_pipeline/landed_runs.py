"""Which runs of an asset a landing sensor has to wait for, and which objects are of runs that failed."""

from collections.abc import Collection, Sequence
from datetime import timedelta

import dagster as dg

from dagfusion_pipeline.maintenance import may_write, unfinished_runs
from dagfusion_pipeline.store import StoredObject

_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_SECOND = timedelta(seconds=1)  # S3 tells whole seconds


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
