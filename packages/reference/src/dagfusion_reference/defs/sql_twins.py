"""The Gold aggregates once more, as queries: their rows equal those of the assets that are written in Python.

Polars rounds halves to even, and DataFusion away from zero. So both queries round by themselves.
"""

import warnings

import dagster as dg

from dagfusion_pipeline import sql_asset
from dagfusion_reference.defs.ecommerce.assets import OWNERS as COMMERCE
from dagfusion_reference.defs.ecommerce.assets import SALES_COLUMNS, partitioned_orders
from dagfusion_reference.defs.healthcare.assets import AGGREGATE_COLUMNS, partitioned_organizations
from dagfusion_reference.defs.healthcare.assets import OWNERS as PROVIDERS
from dagfusion_reference.defs.partitions import DAYS_A_RUN, daily
from dagfusion_reference.defs.policies import GOLD_IS_FRESH, HOOKS, RETRIES

KINDS = {"sql", "datafusion", "parquet", "s3"}

ORGANIZATIONS_BY_DAY = """
    WITH by_day AS (
        SELECT
            date,
            state,
            count(DISTINCT npi) AS organizations,
            sum(provider_count) AS providers,
            avg(provider_count) * 100 AS hundredths,
            count(DISTINCT specialty) AS specialties
        FROM silver_tax_id.partitioned_organizations
        GROUP BY date, state
    )
    SELECT
        date,
        state,
        organizations,
        providers,
        CASE WHEN hundredths - floor(hundredths) = 0.5 THEN 2 * round(hundredths / 2) ELSE round(hundredths) END / 100
            AS mean_providers,
        specialties
    FROM by_day
    ORDER BY date, state
"""

SALES_BY_DAY = """
    WITH by_day AS (
        SELECT
            date,
            state,
            count(*) AS orders,
            count(DISTINCT customer_id) AS customers,
            sum(quantity) AS units,
            CAST(sum(total_amount) AS DECIMAL(18, 2)) AS revenue,
            CAST(sum(total_amount) * 100 AS BIGINT) AS cents,
            count(*) FILTER (WHERE status = 'returned') AS returned_orders,
            count(*) FILTER (WHERE status = 'cancelled') AS cancelled_orders
        FROM silver_commerce.partitioned_orders
        GROUP BY date, state
    )
    SELECT
        date,
        state,
        orders,
        customers,
        units,
        revenue,
        CAST(
            (cents / orders + CASE WHEN 2 * (cents % orders) + cents / orders % 2 > orders THEN 1 ELSE 0 END) * 0.01
            AS DECIMAL(18, 2)
        ) AS average_order_value,
        returned_orders,
        cancelled_orders
    FROM by_day
    ORDER BY date, state
"""

with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's word for backfill policies
    daily_org_aggregates_sql = sql_asset(
        "Gold/Analytics/daily_org_aggregates_sql",
        ORGANIZATIONS_BY_DAY,
        partitions_def=daily,
        assets=[partitioned_organizations],
        backfill_policy=dg.BackfillPolicy(DAYS_A_RUN),
        metadata={"partition_expr": "date", **AGGREGATE_COLUMNS},
        freshness_policy=GOLD_IS_FRESH,
        retry_policy=RETRIES,
        hooks=HOOKS,
        description="`daily_org_aggregates` as SQL: organizations, providers and specialties of each state on the day.",
        group_name="healthcare",
        io_manager_key="parquet",
        owners=PROVIDERS,
        kinds=KINDS,
        tags={"domain": "healthcare", "layer": "gold"},
    )
    daily_sales_aggregates_sql = sql_asset(
        "Gold/Analytics/daily_sales_aggregates_sql",
        SALES_BY_DAY,
        partitions_def=daily,
        assets=[partitioned_orders],
        backfill_policy=dg.BackfillPolicy(DAYS_A_RUN),
        metadata={"partition_expr": "date", **SALES_COLUMNS},
        freshness_policy=GOLD_IS_FRESH,
        retry_policy=RETRIES,
        hooks=HOOKS,
        description="`daily_sales_aggregates` as SQL: orders, customers, units and revenue of each state on the day.",
        group_name="ecommerce",
        io_manager_key="parquet",
        owners=COMMERCE,
        kinds=KINDS,
        tags={"domain": "ecommerce", "layer": "gold"},
    )

twins = [daily_org_aggregates_sql, daily_sales_aggregates_sql]
