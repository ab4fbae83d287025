"""Dagster components of a `dg` project: `ParquetTables` has the IO managers and checks, `Maintenance` the jobs."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import ConfigDict, Field

from dagfusion_pipeline.asset_checks import partition_checks
from dagfusion_pipeline.consolidate import build_consolidate_job, build_consolidate_schedule
from dagfusion_pipeline.environment import SECRET_VARIABLES, Environment
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.retention import build_retention_job, build_retention_schedule
from dagfusion_pipeline.vacuum import build_vacuum_job


class TableChecks(dg.Resolvable, dg.Model):
    """The checks of one asset, as `partition_checks` has them."""

    model_config = ConfigDict(arbitrary_types_allowed=True)  # a PartitionsDefinition is no model

    asset: str = Field(description="The asset's key, such as Silver/orgs.")
    rows: list[int | None] | None = Field(default=None, description="The fewest and the most rows of a partition.")
    not_null: list[str] = Field(default=[], description="Columns without nulls.")
    bounds: dict[str, list[Any]] = Field(default={}, description="For each column the least and the greatest value.")
    complete: bool = Field(default=False, description="Every partition is materialized.")
    columns: bool | Literal["names"] = Field(
        default=False, description="Every partition has the same columns, or those that the asset declares."
    )
    fresh_within_hours: float | None = Field(
        default=None,
        description="Hours after the end of its time window in which a partition must be materialized.",
    )
    severity: Literal["ERROR", "WARN"] = Field(
        default="ERROR", description="Severity of a failed check; only ERROR blocks."
    )
    unknown: Literal["warn", "fail"] = Field(default="warn", description="Result of a check without statistics.")
    blocking: bool = Field(default=False, description="Whether assets downstream wait for the checks.")
    partitions: Annotated[
        dg.PartitionsDefinition | None, dg.Resolver(dg.ResolutionContext.resolve_value, model_field_type=str | None)
    ] = Field(
        default=None,
        description="A template variable with the asset's partitions: Dagster keeps a result for each partition.",
    )

    def build(self) -> dg.AssetChecksDefinition:
        """Return the definition of the checks.

        Raises:
            ConfigurationError: An option is not usable.
        """
        hours, key = self.fresh_within_hours, dg.AssetKey.from_user_string(self.asset)
        return partition_checks(
            key if self.partitions is None else dg.AssetSpec(key, partitions_def=self.partitions),
            rows=_pair("rows", self.rows) if self.rows is not None else None,
            not_null=self.not_null,
            bounds={column: _pair(f"bounds of {column!r}", pair) for column, pair in self.bounds.items()},
            complete=self.complete,
            schema=self.columns,
            fresh_within=None if hours is None else timedelta(hours=hours),
            severity=dg.AssetCheckSeverity[self.severity],
            unknown=self.unknown,
            blocking=self.blocking,
            partitioned=self.partitions is not None,
        )


class ParquetTables(dg.Component, dg.Resolvable, dg.Model):
    """The IO managers of Parquet tables, and checks of the tables.

    Without a bucket, the variables of the environment say where the objects are: ENVIRONMENT, S3_BUCKET and others.

    Example:
        ```yaml
        type: dagfusion_pipeline.ParquetTables
        attributes:
          checks:
            - asset: Silver/orgs
              rows: [1, 10000]
              not_null: [npi]
              bounds: {age: [0, 130]}
              complete: true
              blocking: true
        ```
    """

    io_manager_key: str = Field(
        default="parquet", description="The resource that writes one object for an asset or partition key."
    )
    hive_io_manager_key: str = Field(
        default="hive_parquet", description="The resource that writes HIVE folders, one for each partition."
    )
    fields: dict[str, Any] = Field(
        default={}, description="Fields of both IO managers, such as bucket or file_naming, over the environment's."
    )
    checks: list[TableChecks] = Field(default=[], description="Checks of assets, which may be defined elsewhere.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - Dagster's signature
        """Return the IO managers and the checks.

        Raises:
            ConfigurationError: A field, a check, or a variable of the environment is not usable.
        """
        unknown = sorted(self.fields.keys() - S3ParquetIOManager.model_fields.keys())
        if unknown:
            raise ConfigurationError(
                f"fields of ParquetTables must be fields of the IO managers, got {unknown}: use some of"
                f" {sorted(S3ParquetIOManager.model_fields)}"
            )
        fields = {**({} if "bucket" in self.fields else _of_environment()), **self.fields}
        resources = {
            self.io_manager_key: S3ParquetIOManager(**fields),
            self.hive_io_manager_key: PartitionedS3ParquetIOManager(**fields),
        }
        return dg.Definitions(resources=resources, asset_checks=[one.build() for one in self.checks])


class Retention(dg.Resolvable, dg.Model):
    """The time for which some assets keep their partitions."""

    assets: list[str] = Field(description="Keys of assets of this code location that are partitioned by time.")
    keep_days: float = Field(description="Days after the end of its time window until a partition is wiped.")

    def job(self, tags: Mapping[str, Any]) -> dg.JobDefinition:
        """Return the job that wipes old partitions, named after the days.

        Raises:
            ConfigurationError: The days are not positive.
        """
        name = f"retention_{self.keep_days:g}_days".replace(".", "_").replace("-", "_").replace("+", "_")
        return build_retention_job(_keys(self.assets), keep=timedelta(days=self.keep_days), name=name, tags=tags)


class Maintenance(dg.Component, dg.Resolvable, dg.Model):
    """Jobs and schedules that keep tables small and fast: vacuum, retention by age, consolidation of small objects.

    Example:
        ```yaml
        type: dagfusion_pipeline.Maintenance
        attributes:
          vacuum: [Silver/orgs, Gold/daily]
          consolidate: [Silver/orgs]
          consolidate_cron: "30 3 * * *"
          retention: [{keep_days: 90, assets: [Silver/orgs]}]
        ```
    """

    vacuum: list[str] = Field(default=[], description="Keys of assets whose superseded objects a job deletes.")
    consolidate: list[str] = Field(
        default=[], description="Keys of partitioned assets whose small objects a job copies into large ones."
    )
    consolidate_cron: str | None = Field(
        default="30 3 * * *", description="When the consolidation runs, once its schedule is started; null for never."
    )
    retention: list[Retention] = Field(
        default=[], description="For how long assets keep partitions; a job for each entry."
    )
    retention_cron: str | None = Field(
        default="0 4 * * *",
        description="When old partitions are wiped, once the schedules are started; null for no schedules.",
    )
    io_manager_key: str = Field(
        default="hive_parquet", description="The resource of an IO manager with the bucket and prefix of the assets."
    )
    iceberg_metadata: str | None = Field(
        default=None,
        description="The folder of the query service's Iceberg metadata; the vacuum deletes old objects.",
    )
    tags: dict[str, Any] = Field(
        default={}, description="Tags of the jobs and their runs, such as the role that the run launcher gives a run."
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - Dagster's signature
        """Return the jobs, and the schedules of consolidation and retention.

        Raises:
            ConfigurationError: No asset is named, or a number of days is not positive or has two entries.
        """
        days = [one.keep_days for one in self.retention]
        if len({*days}) < len(days):
            raise ConfigurationError(
                f"retention must have one entry for each keep_days, got {days}: put the assets into one entry"
            )
        if not (self.vacuum or self.consolidate or self.retention):
            raise ConfigurationError(
                "Maintenance has nothing to do: name assets in vacuum, consolidate or retention, such as"
                " vacuum: [Silver/orgs]"
            )
        jobs, schedules = [], []
        common: Any = {"io_manager_key": self.io_manager_key, "tags": self.tags}
        if self.vacuum:
            jobs.append(build_vacuum_job(_keys(self.vacuum), iceberg_metadata=self.iceberg_metadata, **common))
        if self.consolidate:
            job = build_consolidate_job(_keys(self.consolidate), **common)
            jobs.append(job)
            if self.consolidate_cron is not None:
                schedules.append(build_consolidate_schedule(job, cron_schedule=self.consolidate_cron))
        for one in self.retention:
            jobs.append(one.job(self.tags))
            if self.retention_cron is not None:
                schedules.append(build_retention_schedule(jobs[-1], cron_schedule=self.retention_cron))
        return dg.Definitions(jobs=jobs, schedules=schedules)


def _of_environment() -> Mapping[str, Any]:
    """Return the fields from environment variables; secrets by name, because Dagster shows the config."""
    fields = Environment.from_process().io_manager_fields()
    return {**fields, **{name: dg.EnvVar(variable) for name, variable in SECRET_VARIABLES.items() if name in fields}}


def _pair(what: str, values: Sequence[Any]) -> tuple[Any, Any]:
    if len(values) != 2:  # noqa: PLR2004 - a pair
        raise ConfigurationError(f"{what} must be a list of two values, of which one may be null; got {list(values)!r}")
    return values[0], values[1]


def _keys(names: Sequence[str]) -> list[dg.AssetKey]:
    return [dg.AssetKey.from_user_string(name) for name in names]
