"""The vacuum's job over the readings, as if it ran later, and what it is about."""

import datetime as dt

import dagster as dg
import pytest

from dagfusion_pipeline import build_vacuum_job, vacuum
from tests.e2e.consolidation import KEY, PARTITIONS, Readings


def vacuumed(readings: Readings, *, kept_s: float) -> None:
    """Delete what was superseded longer ago than some seconds, where the job's own least retention is an hour."""
    ahead = dt.timedelta(hours=1, seconds=1 - kept_s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vacuum, "_now", lambda now=vacuum._now: now() + ahead)
        asset = dg.AssetSpec(KEY, partitions_def=PARTITIONS)
        job = build_vacuum_job([asset], io_manager_key="hive")
        defs = dg.Definitions(assets=[asset], jobs=[job], resources={"hive": readings.manager})
        config = {"ops": {"delete_superseded": {"config": {"dry_run": False, "older_than_hours": 1}}}}
        assert defs.resolve_job_def("vacuum").execute_in_process(instance=readings.instance, run_config=config).success


def large_objects(readings: Readings) -> dict[str, int]:
    """The bytes of each large object in the store, by its key."""
    prefix = f"{readings.manager.prefix}/_consolidated"
    return {stored.key: stored.size_bytes for stored in readings.manager.object_store.list_objects(prefix)}


def small_objects(readings: Readings) -> set[str]:
    """The keys of the partitions' own objects in the store."""
    prefix = f"{readings.manager.prefix}/Silver"
    return {stored.key for stored in readings.manager.object_store.list_objects(prefix)}


def vacuum_one_by_one(readings: Readings) -> None:
    """Delete what was superseded in one request for each object, so that there are many moments between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vacuum, "_PAGE", 1)
        vacuumed(readings, kept_s=0)
