"""What a person watches of the sales: pure functions from one written table to numbers."""

from collections.abc import Mapping
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc


def order_metrics(table: pa.Table) -> Mapping[str, int | float]:
    """Orders, customers, units sold, revenue and its average an order, in dollars."""
    revenue = pc.sum(table["total_amount"]).as_py() or Decimal(0)
    return {
        "orders": pc.count_distinct(table["order_id"]).as_py(),
        "customers": pc.count_distinct(table["customer_id"]).as_py(),
        "units": pc.sum(table["quantity"]).as_py() or 0,
        **_revenue(revenue, table.num_rows),
    }


def sales_metrics(table: pa.Table) -> Mapping[str, int | float]:
    """Return the totals over the states."""
    orders = pc.sum(table["orders"]).as_py() or 0
    revenue = pc.sum(table["revenue"]).as_py() or Decimal(0)
    return {
        "orders": orders,
        "units": pc.sum(table["units"]).as_py() or 0,
        "states": pc.count_distinct(table["state"]).as_py(),
        **_revenue(revenue, orders),
    }


def _revenue(revenue: Decimal, orders: int) -> dict[str, float]:
    average = revenue / orders if orders else Decimal(0)
    return {"revenue": float(revenue), "average_order_value": float(round(average, 2))}
