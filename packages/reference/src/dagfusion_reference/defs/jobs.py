"""Jobs that make a day's Gold again after checks of its Silver, for Silver that no run of this location wrote."""

import dagster as dg

from dagfusion_reference.defs.ecommerce.assets import daily_sales_aggregates, partitioned_orders
from dagfusion_reference.defs.healthcare.assets import daily_org_aggregates, partitioned_organizations

jobs = [
    dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(gold) | dg.AssetSelection.checks_for_assets(silver),
        description="Checks the Silver partitions of the days of a run, then makes the days' aggregates. If a blocking"
        " check fails, no aggregates are written.",
    )
    for name, gold, silver in (
        ("healthcare_gold", daily_org_aggregates, partitioned_organizations),
        ("ecommerce_gold", daily_sales_aggregates, partitioned_orders),
    )
]
