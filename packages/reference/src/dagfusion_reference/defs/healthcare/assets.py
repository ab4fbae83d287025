"""The healthcare assets: register -> each state's extract of each day -> the day's aggregates."""

import dagster as dg
import polars as pl

from dagfusion_reference.defs.automation import WHEN_ITS_STATES_CHANGE
from dagfusion_reference.defs.columns import columns, lineage
from dagfusion_reference.defs.healthcare import aggregates, described_columns, extracts, register
from dagfusion_reference.defs.healthcare.aggregates import organizations_by_day
from dagfusion_reference.defs.healthcare.extracts import state_extracts
from dagfusion_reference.defs.healthcare.register import register_of_organizations
from dagfusion_reference.defs.partitions import DAYS_A_RUN, daily, daily_by_state, partitioned_asset, state_days
from dagfusion_reference.defs.policies import (
    BULK_WRITES,
    GOLD_IS_FRESH,
    HOOKS,
    RETRIES,
    SILVER_IS_FRESH,
    SOURCE_IS_FRESH,
)
from dagfusion_reference.defs.seed import Seed

OWNERS = ["team:provider-data"]
KINDS = {"polars", "parquet", "s3"}
AGGREGATE_COLUMNS = columns(aggregates.SCHEMA, described_columns.OF_AGGREGATES)


@dg.asset(
    key=["Silver", "TaxID", "raw_organizations"],
    metadata=columns(register.SCHEMA, described_columns.OF_REGISTER),
    freshness_policy=SOURCE_IS_FRESH,
    retry_policy=RETRIES,
    hooks=HOOKS,
    group_name="healthcare",
    io_manager_key="parquet",
    owners=OWNERS,
    kinds=KINDS,
    tags={"domain": "healthcare", "layer": "silver"},
)
def raw_organizations(seed: Seed) -> pl.DataFrame:
    """The register of healthcare organizations: NPI, name, tax ID, taxonomy, ZIP code and size; one row each."""
    return register_of_organizations(seed.value)


@partitioned_asset(
    key=["Silver", "TaxID", "partitioned_organizations"],
    ins={"raw_organizations": dg.AssetIn(key=raw_organizations.key)},
    partitions_def=daily_by_state,
    metadata={
        **columns(extracts.SCHEMA, described_columns.OF_EXTRACTS),
        **lineage(raw_organizations, described_columns.SOURCES_OF_EXTRACTS),
    },
    freshness_policy=SILVER_IS_FRESH,
    retry_policy=RETRIES,
    hooks=HOOKS,
    pool=BULK_WRITES,
    group_name="healthcare",
    io_manager_key="hive_parquet",
    owners=OWNERS,
    kinds=KINDS,
    tags={"domain": "healthcare", "layer": "silver"},
)
def partitioned_organizations(
    context: dg.AssetExecutionContext, raw_organizations: pl.DataFrame, seed: Seed
) -> pl.LazyFrame:
    """The organizations that each state reports on each day: 50 to 500 rows by the size of the state."""
    return state_extracts(raw_organizations, state_days(context.partition_keys), seed.value)


@partitioned_asset(
    key=["Gold", "Analytics", "daily_org_aggregates"],
    ins={"partitioned_organizations": dg.AssetIn(key=partitioned_organizations.key)},
    partitions_def=daily,
    partitions_a_run=DAYS_A_RUN,
    automation_condition=WHEN_ITS_STATES_CHANGE,
    metadata={
        "partition_expr": "date",
        **AGGREGATE_COLUMNS,
        **lineage(partitioned_organizations, described_columns.SOURCES_OF_AGGREGATES),
    },
    freshness_policy=GOLD_IS_FRESH,
    retry_policy=RETRIES,
    hooks=HOOKS,
    group_name="healthcare",
    io_manager_key="parquet",
    owners=OWNERS,
    kinds=KINDS,
    tags={"domain": "healthcare", "layer": "gold"},
)
def daily_org_aggregates(partitioned_organizations: pl.LazyFrame) -> pl.DataFrame:
    """Organizations, providers and specialties of each state on the day; reads the day's 50 states."""
    return organizations_by_day(partitioned_organizations)


assets = [raw_organizations, partitioned_organizations, daily_org_aggregates]
