"""The sensor that makes Gold after Silver; off until someone turns it on."""

import dagster as dg

from dagfusion_reference.defs.ecommerce.assets import daily_sales_aggregates
from dagfusion_reference.defs.healthcare.assets import daily_org_aggregates

gold_after_silver = dg.AutomationConditionSensorDefinition(
    "gold_after_silver",
    target=[daily_org_aggregates, daily_sales_aggregates],
    description="Materializes a day's aggregates once its 50 Silver partitions are there, and again when one changes.",
    default_status=dg.DefaultSensorStatus.STOPPED,
)

sensors = [gold_after_silver]
