"""The reference code location: `dagster dev -m dagfusion_reference.definitions`."""

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagfusion_pipeline.environment import Environment
from dagfusion_reference.defs.ecommerce.assets import assets as ecommerce_assets
from dagfusion_reference.defs.ecommerce.checks import checks as ecommerce_checks
from dagfusion_reference.defs.healthcare.assets import assets as healthcare_assets
from dagfusion_reference.defs.healthcare.checks import checks as healthcare_checks
from dagfusion_reference.defs.jobs import jobs
from dagfusion_reference.defs.maintenance import maintenance_jobs
from dagfusion_reference.defs.resources import resources
from dagfusion_reference.defs.schedules import schedules
from dagfusion_reference.defs.sensors import sensors
from dagfusion_reference.defs.sql_twins import twins


@dg.definitions
def defs() -> dg.Definitions:
    """The code location over the store that this process's environment names."""
    environment = Environment.from_process()
    tags = json.loads(environment.maintenance_tags or "{}")
    return code_location(resources(environment, secrets_by_name=True), maintenance_tags=tags)


def code_location(
    provided: Mapping[str, object], *, maintenance_tags: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Return the six assets and two SQL twins with checks, schedules, sensors and maintenance jobs.

    Args:
        provided: The resources.
        maintenance_tags: Tags of the maintenance jobs and their runs.
    """
    maintenance = maintenance_jobs(maintenance_tags)
    return dg.Definitions(
        assets=[*healthcare_assets, *ecommerce_assets, *twins],
        asset_checks=[*healthcare_checks, *ecommerce_checks],
        jobs=[*jobs, maintenance.vacuum, maintenance.consolidate],
        schedules=[*schedules, maintenance.consolidate_every_night],
        sensors=sensors,
        resources=provided,
    )
