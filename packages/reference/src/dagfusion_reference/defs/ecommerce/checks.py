"""What must hold of the e-commerce assets."""

import polars as pl

from dagfusion_pipeline import partition_checks
from dagfusion_reference.defs.checks import PartitionRule, RowRule, metric_checks, row_checks
from dagfusion_reference.defs.ecommerce import assets, sales
from dagfusion_reference.defs.ecommerce.export import CHANNELS, STATUSES
from dagfusion_reference.defs.states import CODES

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
        "state_is_valid",
        "Every partition is of one of the 50 states.",
        lambda record: (record.partition or "").rpartition("|")[2] not in CODES,
    ),
    PartitionRule(
        "order_id_is_unique",
        "No order comes twice in a partition.",
        lambda record: record.metrics["orders"] != record.rows,
    ),
)
SALES = (
    PartitionRule(
        "every_state_is_there", "A day has all states.", lambda record: record.metrics["states"] != len(CODES)
    ),
)

checks = [
    row_checks(assets.raw_orders, EXPORT),
    partition_checks(
        assets.partitioned_orders,
        rows=(sales.FEWEST_ROWS, sales.MOST_ROWS),
        bounds={"total_amount": (0, None)},
        unknown="fail",
        blocking=True,
    ),
    metric_checks(assets.partitioned_orders, ORDERS),
    partition_checks(assets.daily_sales_aggregates, bounds={"revenue": (0, None)}, unknown="fail"),
    metric_checks(assets.daily_sales_aggregates, SALES),
]
