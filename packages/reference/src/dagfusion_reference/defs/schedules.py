"""The daily schedule of each domain: yesterday's 50 states in one run."""

import datetime as dt
from collections.abc import Iterator

import dagster as dg

from dagfusion_reference.defs.ecommerce.assets import partitioned_orders, raw_orders
from dagfusion_reference.defs.healthcare.assets import partitioned_organizations, raw_organizations
from dagfusion_reference.defs.states import CODES


def all_states_of(day: dt.date) -> dict[str, str]:
    """The run tags that select every state of a day: one run for 50 partitions."""
    return {
        "dagster/asset_partition_range_start": f"{day}|{CODES[0]}",
        "dagster/asset_partition_range_end": f"{day}|{CODES[-1]}",
    }


def _every_morning(name: str, description: str, assets: list[dg.AssetsDefinition]) -> dg.ScheduleDefinition:
    job = dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=description)

    @dg.schedule(job=job, name=f"{name}_schedule", cron_schedule="0 2 * * *", execution_timezone="UTC")
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        """Yesterday's partitions, all states in one run, at 02:00 UTC."""
        day = context.scheduled_execution_time.date() - dt.timedelta(days=1)
        yield dg.RunRequest(run_key=day.isoformat(), tags=all_states_of(day))

    return schedule


schedules = [
    _every_morning(
        "healthcare_daily",
        "Refreshes the register and writes a day's extract of every state.",
        [raw_organizations, partitioned_organizations],
    ),
    _every_morning(
        "ecommerce_daily",
        "Refreshes the export and writes a day's orders of every state.",
        [raw_orders, partitioned_orders],
    ),
]
