"""The e-commerce assets: export of orders -> each state's orders of each day -> the day's sales."""

import dagster as dg
import polars as pl

from dagfusion_reference.defs.automation import WHEN_ITS_STATES_CHANGE
from dagfusion_reference.defs.columns import columns, lineage
from dagfusion_reference.defs.ecommerce import aggregates, described_columns, export, sales
from dagfusion_reference.defs.ecommerce.aggregates import sales_by_day
from dagfusion_reference.defs.ecommerce.export import export_of_orders
from dagfusion_reference.defs.ecommerce.sales import state_orders
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

OWNERS = ["team:commerce-data"]
KINDS = {"polars", "parquet", "s3"}
SALES_COLUMNS = columns(aggregates.SCHEMA, described_columns.OF_SALES)


@dg.asset(
    key=["Bronze", "Commerce", "raw_orders"],
    metadata=columns(export.SCHEMA, described_columns.OF_EXPORT),
    freshness_policy=SOURCE_IS_FRESH,
    retry_policy=RETRIES,
    hooks=HOOKS,
    group_name="ecommerce",
    io_manager_key="parquet",
    owners=OWNERS,
    kinds=KINDS,
    tags={"domain": "ecommerce", "layer": "bronze"},
)
def raw_orders(seed: Seed) -> pl.DataFrame:
    """The export of orders: customer, product, channel, status, quantity and price to the cent; one row each."""
    return export_of_orders(seed.value)


@partitioned_asset(
    key=["Silver", "Commerce", "partitioned_orders"],
    ins={"raw_orders": dg.AssetIn(key=raw_orders.key)},
    partitions_def=daily_by_state,
    metadata={
        **columns(sales.SCHEMA, described_columns.OF_ORDERS),
        **lineage(raw_orders, described_columns.SOURCES_OF_ORDERS),
    },
    freshness_policy=SILVER_IS_FRESH,
    retry_policy=RETRIES,
    hooks=HOOKS,
    pool=BULK_WRITES,
    group_name="ecommerce",
    io_manager_key="hive_parquet",
    owners=OWNERS,
    kinds=KINDS,
    tags={"domain": "ecommerce", "layer": "silver"},
)
def partitioned_orders(context: dg.AssetExecutionContext, raw_orders: pl.DataFrame, seed: Seed) -> pl.LazyFrame:
    """The orders of each state on each day: 100 to 1,000 rows by the size of the state, the weekday and the season."""
    return state_orders(raw_orders, state_days(context.partition_keys), seed.value)


@partitioned_asset(
    key=["Gold", "Analytics", "daily_sales_aggregates"],
    ins={"partitioned_orders": dg.AssetIn(key=partitioned_orders.key)},
    partitions_def=daily,
    partitions_a_run=DAYS_A_RUN,
    automation_condition=WHEN_ITS_STATES_CHANGE,
    metadata={
        "partition_expr": "date",
        **SALES_COLUMNS,
        **lineage(partitioned_orders, described_columns.SOURCES_OF_SALES),
    },
    freshness_policy=GOLD_IS_FRESH,
    retry_policy=RETRIES,
    hooks=HOOKS,
    group_name="ecommerce",
    io_manager_key="parquet",
    owners=OWNERS,
    kinds=KINDS,
    tags={"domain": "ecommerce", "layer": "gold"},
)
def daily_sales_aggregates(partitioned_orders: pl.LazyFrame) -> pl.DataFrame:
    """Orders, customers, units and revenue of each state on the day; reads the day's 50 states."""
    return sales_by_day(partitioned_orders)


assets = [raw_orders, partitioned_orders, daily_sales_aggregates]
