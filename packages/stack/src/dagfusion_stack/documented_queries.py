"""The documented queries, each with the same answer computed another way: polars over the stored objects."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

REGISTER = "local_silver_tax_id.raw_organizations"
ORGANIZATIONS = "local_silver_tax_id.partitioned_organizations"
ORG_AGGREGATES = "local_gold_analytics.daily_org_aggregates"
EXPORT = "local_bronze_commerce.raw_orders"
ORDERS = "local_silver_commerce.partitioned_orders"
SALES_AGGREGATES = "local_gold_analytics.daily_sales_aggregates"

DAY = dt.date(2024, 1, 5)

Rows = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class DocumentedQuery:
    """A query with its expected answer.

    Attributes:
        name: What the README calls it.
        title: What it shows, in a line.
        sql: The statement; its answer has one order only.
        answer: Computes the answer from the rows of every table.
        files: Computes how many objects it needs, where its filters on partition columns decide that.
    """

    name: str
    title: str
    sql: str
    answer: Callable[[Rows], pl.DataFrame]
    files: Callable[[Rows], int] | None = None


def _partitions(rows: pl.DataFrame) -> int:
    return rows.select("state", "date").n_unique()


def _point(rows: Rows) -> pl.DataFrame:
    return rows[ORGANIZATIONS].filter(pl.col("state") == "CA", pl.col("date") == DAY)


def _state(rows: Rows) -> pl.DataFrame:
    return rows[ORGANIZATIONS].filter(pl.col("state") == "CA")


def _date(rows: Rows) -> pl.DataFrame:
    return rows[ORGANIZATIONS].filter(pl.col("date") == DAY)


def _in_and_range(rows: Rows) -> pl.DataFrame:
    days = pl.col("date").is_between(dt.date(2024, 1, 2), dt.date(2024, 1, 4))
    return rows[ORDERS].filter(pl.col("state").is_in(["CA", "NY", "TX"]), days)


QUERIES = (
    DocumentedQuery(
        "point",
        "one state on one day: one object",
        f"""\
SELECT npi, organization_name, specialty, provider_count
FROM {ORGANIZATIONS}
WHERE state = 'CA' AND date = '2024-01-05'
ORDER BY npi""",
        lambda rows: _point(rows).select("npi", "organization_name", "specialty", "provider_count").sort("npi"),
        lambda rows: _partitions(_point(rows)),
    ),
    DocumentedQuery(
        "state",
        "one state on all days",
        f"""\
SELECT date, count(*) AS organizations, sum(provider_count) AS providers
FROM {ORGANIZATIONS}
WHERE state = 'CA'
GROUP BY date
ORDER BY date""",
        lambda rows: (
            _state(rows)
            .group_by("date")
            .agg(organizations=pl.len(), providers=pl.col("provider_count").sum())
            .sort("date")
        ),
        lambda rows: _partitions(_state(rows)),
    ),
    DocumentedQuery(
        "date",
        "one day in all states",
        f"""\
SELECT specialty, count(*) AS organizations, sum(provider_count) AS providers
FROM {ORGANIZATIONS}
WHERE date = '2024-01-05'
GROUP BY specialty
ORDER BY providers DESC, specialty""",
        lambda rows: (
            _date(rows)
            .group_by("specialty")
            .agg(organizations=pl.len(), providers=pl.col("provider_count").sum())
            .sort(["providers", "specialty"], descending=[True, False])
        ),
        lambda rows: _partitions(_date(rows)),
    ),
    DocumentedQuery(
        "in_and_range",
        "some states in a range of days",
        f"""\
SELECT state, sum(quantity) AS units, sum(total_amount) AS revenue
FROM {ORDERS}
WHERE state IN ('CA', 'NY', 'TX') AND date BETWEEN '2024-01-02' AND '2024-01-04'
GROUP BY state
ORDER BY state""",
        lambda rows: (
            _in_and_range(rows)
            .group_by("state")
            .agg(units=pl.col("quantity").sum(), revenue=pl.col("total_amount").sum())
            .sort("state")
        ),
        lambda rows: _partitions(_in_and_range(rows)),
    ),
    DocumentedQuery(
        "count",
        "how many rows there are",
        f"SELECT count(*) AS orders FROM {ORDERS}",
        lambda rows: rows[ORDERS].select(orders=pl.len()),
    ),
    DocumentedQuery(
        "group_by_partition",
        "a group for each value of a partition column",
        f"""\
SELECT state, count(*) AS orders
FROM {ORDERS}
GROUP BY state
ORDER BY orders DESC, state""",
        lambda rows: (
            rows[ORDERS].group_by("state").agg(orders=pl.len()).sort(["orders", "state"], descending=[True, False])
        ),
    ),
    DocumentedQuery(
        "ordinary_column",
        "a filter on a column that is no partition: files are skipped by their statistics",
        f"""\
SELECT state, date, order_id, category, total_amount
FROM {ORDERS}
WHERE order_id BETWEEN 20240105050001 AND 20240105050010
ORDER BY order_id""",
        lambda rows: (
            rows[ORDERS]
            .filter(pl.col("order_id").is_between(20240105050001, 20240105050010))
            .select("state", "date", "order_id", "category", "total_amount")
            .sort("order_id")
        ),
    ),
    DocumentedQuery(
        "join",
        "two tables",
        f"""\
SELECT e.specialty, count(*) AS organizations, min(r.enumeration_date) AS first_enumerated
FROM {ORGANIZATIONS} AS e
JOIN {REGISTER} AS r ON r.npi = e.npi
WHERE e.state = 'CA' AND e.date = '2024-01-05'
GROUP BY e.specialty
ORDER BY organizations DESC, e.specialty""",
        lambda rows: (
            _point(rows)
            .select("npi", "specialty")
            .join(rows[REGISTER].select("npi", "enumeration_date"), on="npi")
            .group_by("specialty")
            .agg(organizations=pl.len(), first_enumerated=pl.col("enumeration_date").min())
            .sort(["organizations", "specialty"], descending=[True, False])
        ),
    ),
    DocumentedQuery(
        "gold",
        "the aggregates that Dagster made from the partitions",
        f"""\
SELECT date, sum(orders) AS orders, sum(revenue) AS revenue
FROM {SALES_AGGREGATES}
WHERE date >= '2024-01-03'
GROUP BY date
ORDER BY date""",
        lambda rows: (
            rows[ORDERS]
            .filter(pl.col("date") >= dt.date(2024, 1, 3))
            .group_by("date")
            .agg(orders=pl.len(), revenue=pl.col("total_amount").sum())
            .sort("date")
        ),
        lambda rows: rows[SALES_AGGREGATES].filter(pl.col("date") >= dt.date(2024, 1, 3))["date"].n_unique(),
    ),
)
