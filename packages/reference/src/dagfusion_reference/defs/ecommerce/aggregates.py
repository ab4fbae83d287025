"""The day's sales by state."""

import polars as pl

SCHEMA = pl.Schema(
    {
        "date": pl.Date(),
        "state": pl.String(),
        "orders": pl.Int64(),
        "customers": pl.Int64(),
        "units": pl.Int64(),
        "revenue": pl.Decimal(18, 2),
        "average_order_value": pl.Decimal(18, 2),
        "returned_orders": pl.Int64(),
        "cancelled_orders": pl.Int64(),
    }
)


def sales_by_day(orders: pl.LazyFrame) -> pl.DataFrame:
    """Return one row for each day and state: orders, customers, units, revenue to the cent, and returns."""
    return (
        orders.group_by("date", "state")
        .agg(
            orders=pl.len(),
            customers=pl.col("customer_id").n_unique(),
            units=pl.col("quantity").sum(),
            revenue=pl.col("total_amount").sum(),
            average_order_value=pl.col("total_amount").sum() / pl.len(),
            returned_orders=(pl.col("status") == "returned").sum(),
            cancelled_orders=(pl.col("status") == "cancelled").sum(),
        )
        .cast(SCHEMA)
        .sort("date", "state")
        .collect()
    )
