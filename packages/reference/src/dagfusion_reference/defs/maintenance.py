"""The vacuum over all assets, and the consolidation of those with two dimensions of partitions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import dagster as dg

from dagfusion_pipeline import build_consolidate_job, build_consolidate_schedule, build_vacuum_job
from dagfusion_reference.defs.ecommerce.assets import partitioned_orders
from dagfusion_reference.defs.healthcare.assets import partitioned_organizations
from dagfusion_reference.defs.resources import METRICS


class MaintenanceJobs(NamedTuple):
    """The maintenance jobs of the code location, and the schedule of one."""

    vacuum: dg.JobDefinition
    consolidate: dg.JobDefinition
    consolidate_every_night: dg.ScheduleDefinition


def maintenance_jobs(tags: Mapping[str, Any] | None = None) -> MaintenanceJobs:
    """Return the jobs; their runs have the tags, such as a role that may delete objects."""
    vacuum = build_vacuum_job(METRICS, io_manager_key="hive_parquet", tags=tags)
    partitioned = [partitioned_organizations, partitioned_orders]
    consolidate = build_consolidate_job(partitioned, io_manager_key="hive_parquet", tags=tags)
    return MaintenanceJobs(vacuum, consolidate, build_consolidate_schedule(consolidate))
