"""The daily schedule of each domain: yesterday's 50 states in one run, and those of missed days."""

import datetime as dt
from collections.abc import Collection, Iterator, Sequence

import dagster as dg

from dagfusion_reference.defs.ecommerce.assets import partitioned_orders, raw_orders
from dagfusion_reference.defs.healthcare.assets import partitioned_organizations, raw_organizations
from dagfusion_reference.defs.partitions import FIRST_DAY
from dagfusion_reference.defs.states import CODES

CATCH_UP_DAYS = 7  # before yesterday
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def all_states_of(day: dt.date) -> dict[str, str]:
    """Return the run tags that select every state of a day: one run for 50 partitions."""
    return {_RANGE_START: f"{day}|{CODES[0]}", _RANGE_END: f"{day}|{CODES[-1]}"}


def missed_days(
    instance: dg.DagsterInstance, asset: dg.AssetKey, job_name: str, days: Sequence[dt.date]
) -> list[dt.date]:
    """Return the days of which a state is not materialized, without those that a run of the job is about to write.

    One query for the ids of events, whatever the number of days; no event is read.
    """
    keys = {f"{day}|{state}": day for day in days for state in CODES}
    if not keys:
        return []
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    written = instance.get_latest_storage_id_by_partition(asset, kind, {*keys})
    incomplete = {day for key, day in keys.items() if key not in written}
    return [day for day in days if day in incomplete - _under_way(instance, job_name, incomplete)]


def _under_way(instance: dg.DagsterInstance, job_name: str, days: Collection[dt.date]) -> set[dt.date]:
    runs = instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=_UNFINISHED))
    ranges = [(run.tags.get(_RANGE_START), run.tags.get(_RANGE_END)) for run in runs]
    return {day for day in days if (all_states_of(day)[_RANGE_START], all_states_of(day)[_RANGE_END]) in ranges}


def _every_morning(name: str, description: str, assets: list[dg.AssetsDefinition]) -> dg.ScheduleDefinition:
    job = dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=description)
    partitioned = assets[-1].key

    @dg.schedule(job=job, name=f"{name}_schedule", cron_schedule="0 2 * * *", execution_timezone="UTC")
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        """Yesterday's partitions, all states in one run, at 02:00 UTC.

        Days before that are requested too if they are not materialized, the oldest first: the daemon was down, or
        their run failed. A key of a run has the time of the tick, so that a day whose run failed is requested again.
        """
        tick = context.scheduled_execution_time
        yesterday = tick.date() - dt.timedelta(days=1)
        earlier = [yesterday - dt.timedelta(days=back) for back in range(CATCH_UP_DAYS, 0, -1)]
        open_days = [day for day in earlier if day >= FIRST_DAY]
        for day in missed_days(context.instance, partitioned, name, open_days):
            yield dg.RunRequest(run_key=f"{day} at {tick:%Y-%m-%d}", tags={**all_states_of(day), "catch_up": "true"})
        yield dg.RunRequest(run_key=yesterday.isoformat(), tags=all_states_of(yesterday))

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
