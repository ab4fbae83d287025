"""Retention by age: a job that wipes the partitions whose time window ended long ago."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from dagfusion_pipeline.checked_partitions import window_end
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.maintenance import Asset, asset_keys, build_job, known_partitions
from dagfusion_pipeline.wipe import Wiped, report, wipe_partitions


class RetentionConfig(dg.Config):
    """The run config: whether partitions are wiped."""

    dry_run: bool = Field(default=True, description="Only log which partitions would be wiped.")


def build_retention_job(
    assets: Iterable[Asset], *, keep: timedelta, name: str = "retention", tags: Mapping[str, Any] | None = None
) -> dg.JobDefinition:
    """Build a job that wipes the partitions whose time window ended longer ago than `keep`.

    Their objects stay until a vacuum job deletes them. Only a run that has `dry_run: false` wipes.

    Args:
        assets: Assets of any IO manager that are partitioned by time, alone or with other dimensions. Of an asset that
            is given by its key, the code location must have the definition.
        keep: How long rows are kept after the end of their partition's time window.
        name: The job's.
        tags: Tags of the job and its runs, such as the role that the run launcher gives a run.

    Raises:
        ConfigurationError: `keep` is not positive.

    Example:
        >>> import dagster as dg
        >>> from datetime import timedelta
        >>> build_retention_job([dg.AssetKey(["Silver", "orgs"])], keep=timedelta(days=90)).name
        'retention'
    """
    if keep <= timedelta(0):
        raise ConfigurationError(f"keep must be longer than 0; got {keep}")
    assets_of_job = tuple(assets)
    keys = tuple(asset_keys(assets_of_job))

    @dg.op(name=f"{name}_wipe_old_partitions")
    def wipe_old_partitions(context: dg.OpExecutionContext, config: RetentionConfig) -> None:
        """Log a tombstone for each partition that is older."""
        before = _now() - keep
        wiped = {
            key: _wipe(
                context, key, known_partitions(context, assets_of_job, key), before, keep, dry_run=config.dry_run
            )
            for key in keys
        }
        report(context, wiped, dry_run=config.dry_run)

    return build_job(
        wipe_old_partitions,
        "wipe_old_partitions",
        name=name,
        description=f"Wipes partitions whose time window ended more than {_words(keep)} ago; a dry run unless"
        " `dry_run` is set to false.",
        tags=tags,
    )


def build_retention_schedule(
    job: dg.JobDefinition, *, cron_schedule: str = "0 4 * * *", execution_timezone: str = "UTC"
) -> dg.ScheduleDefinition:
    """Build a schedule of a retention job whose runs wipe: they have `dry_run: false`. It is stopped until started.

    Example:
        >>> import dagster as dg
        >>> from datetime import timedelta
        >>> job = build_retention_job([dg.AssetKey(["Silver", "orgs"])], keep=timedelta(days=90))
        >>> build_retention_schedule(job).name
        'retention_schedule'
    """
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron_schedule,
        execution_timezone=execution_timezone,
        run_config={"ops": {"wipe_old_partitions": {"config": {"dry_run": False}}}},
    )


def _wipe(
    context: dg.OpExecutionContext,
    key: dg.AssetKey,
    definition: dg.PartitionsDefinition[Any],
    before: datetime,
    keep: timedelta,
    *,
    dry_run: bool,
) -> Wiped:
    end_of = window_end(definition)
    if end_of is None:
        raise ConfigurationError(
            f"asset {key.to_user_string()!r} has no time partitions, so its partitions have no age: leave it out of the"
            " retention job"
        )
    old, others = [], []
    for partition in sorted(context.instance.get_materialized_partitions(key)):
        end = _end(definition, end_of, partition)
        if end is None:
            others.append(partition)
        elif end <= before:
            old.append(partition)
    if others:
        what = "%s: partitions of another definition, which have no age here and are kept: %d, such as %r"
        context.log.warning(what, key.to_user_string(), len(others), others[0])
    reason = f"older than {_words(keep)}"
    found = wipe_partitions(context.instance, key, old, reason=reason, dry_run=dry_run, log=context.log_event)
    return Wiped(found.partitions)  # the others were wiped before


def _end(
    definition: dg.PartitionsDefinition[Any], end_of: Callable[[str], datetime], partition: str
) -> datetime | None:
    """Return the end of a partition's time window; None if the key is not of the definition."""
    if isinstance(definition, dg.MultiPartitionsDefinition):
        if partition.count("|") != len(definition.partitions_defs) - 1:
            return None
    elif "|" in partition:
        return None
    try:
        return end_of(partition)
    except ValueError:
        return None


def _words(keep: timedelta) -> str:
    return f"{keep.days} days" if keep == timedelta(days=keep.days) else str(keep)


def _now() -> datetime:
    return datetime.now(UTC)
