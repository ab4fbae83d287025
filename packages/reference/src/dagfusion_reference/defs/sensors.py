"""The sensors, off until someone turns them on: Gold after Silver, and orders that other writers upload."""

import dagster as dg

from dagfusion_pipeline import build_landing_sensor
from dagfusion_reference.defs.ecommerce.assets import daily_sales_aggregates, partitioned_orders
from dagfusion_reference.defs.ecommerce.metrics import order_metrics
from dagfusion_reference.defs.healthcare.assets import daily_org_aggregates

gold_after_silver = dg.AutomationConditionSensorDefinition(
    "gold_after_silver",
    target=[daily_org_aggregates, daily_sales_aggregates],
    description="Materializes a day's aggregates once its 50 Silver partitions are there, and again when one changes.",
    default_status=dg.DefaultSensorStatus.STOPPED,
)

landed_orders = build_landing_sensor(
    partitioned_orders,
    name="landed_orders",
    io_manager_key="hive_parquet",
    metrics=order_metrics,
    minimum_interval_seconds=30,
)

sensors = [gold_after_silver, landed_orders]
