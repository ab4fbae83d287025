"""What must hold of the e-commerce assets."""

from decimal import Decimal

import polars as pl

from dagfusion_pipeline.recorded import Recorded
from dagfusion_reference.defs.checks import PartitionRule, RowRule, partition_checks, row_checks
from dagfusion_reference.defs.ecommerce import assets, sales
from dagfusion_reference.defs.ecommerce.export import CHANNELS, STATUSES
from dagfusion_reference.defs.states import CODES


def _below_zero(record: Recorded, column: str) -> bool:
    lowest = record.lowest(column)
    return lowest is not None and Decimal(lowest) < 0


EXPORT = (
    RowRule("order_id_is_unique", "No order comes twice.", pl.col("order_id").is_duplicated()),
    RowRule("status_is_known", "Every order has a known status.", ~pl.col("status").is_in(STATUSES)),
    RowRule("channel_is_known", "Every order has a known channel.", ~pl.col("channel").is_in(CHANNELS)),
    RowRule(
        "total_is_exact",
        "Every total is its quantity times its unit price.",
        pl.col("total_amount") != pl.col("unit_price") * pl.col("quantity"),
    ),
    RowRule("total_is_not_negative", "No total is below zero.", pl.col("total_amount") < 0),
)
ORDERS = (
    PartitionRule(
        "rows_fit_the_state",
        f"Every partition has {sales.FEWEST_ROWS} to {sales.MOST_ROWS} rows.",
        lambda record: not sales.FEWEST_ROWS <= record.rows <= sales.MOST_ROWS,
    ),
    PartitionRule(
        "state_is_valid",
        "Every partition is of one of the 50 states.",
        lambda record: (record.partition or "").rpartition("|")[2] not in CODES,
    ),
    PartitionRule(
        "order_id_is_unique",
        "No order comes twice in a partition.",
        lambda record: record.metrics["orders"] != record.rows,
    ),
    PartitionRule(
        "total_is_not_negative", "No total is below zero.", lambda record: _below_zero(record, "total_amount")
    ),
)
SALES = (
    PartitionRule(
        "every_state_is_there", "A day has all states.", lambda record: record.metrics["states"] != len(CODES)
    ),
    PartitionRule(
        "revenue_is_not_negative", "No state's revenue is below zero.", lambda record: _below_zero(record, "revenue")
    ),
)

checks = [
    row_checks(assets.raw_orders, EXPORT),
    partition_checks(assets.partitioned_orders, ORDERS),
    partition_checks(assets.daily_sales_aggregates, SALES),
]
