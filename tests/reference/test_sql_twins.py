"""The Gold aggregates in SQL have the rows of those in Python, whatever the seed, the days and the rows are."""

import datetime as dt
from decimal import Decimal
from typing import Any

import dagster as dg
import polars as pl
import pytest
from datafusion import SessionContext
from datafusion.catalog import Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_pipeline.environment import Credentials, Environment
from dagfusion_reference.definitions import code_location
from dagfusion_reference.defs.ecommerce.aggregates import sales_by_day
from dagfusion_reference.defs.ecommerce.assets import daily_sales_aggregates, partitioned_orders, raw_orders
from dagfusion_reference.defs.healthcare.aggregates import organizations_by_day
from dagfusion_reference.defs.healthcare.assets import (
    daily_org_aggregates,
    partitioned_organizations,
    raw_organizations,
)
from dagfusion_reference.defs.resources import resources
from dagfusion_reference.defs.sql_twins import (
    ORGANIZATIONS_BY_DAY,
    SALES_BY_DAY,
    daily_org_aggregates_sql,
    daily_sales_aggregates_sql,
)
from dagfusion_reference.defs.states import CODES
from tests.tiers import examples

FIRST, LAST = "2024-02-28", "2024-03-01"
DAYS = (FIRST, "2024-02-29", LAST)
TRIPLES = [
    (raw_organizations, partitioned_organizations, daily_org_aggregates, daily_org_aggregates_sql),
    (raw_orders, partitioned_orders, daily_sales_aggregates, daily_sales_aggregates_sql),
]


@pytest.fixture
def location(fields: dict[str, Any]) -> dg.Definitions:
    keys = Credentials(fields["access_key_id"], fields["secret_access_key"])
    place = (fields["bucket"], fields["region"], fields["prefix"], fields["endpoint_url"])
    return code_location(resources(Environment("uat", *place, credentials=keys)))


def run(
    location: dg.Definitions, instance: dg.DagsterInstance, asset: dg.AssetsDefinition, first: str = "", last: str = ""
) -> dg.ExecuteInProcessResult:
    start, end = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
    return location.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[asset.key], tags={start: first, end: last} if first else {}
    )


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("triple", TRIPLES, ids=lambda triple: triple[3].key.path[-1])
def test_a_twin_stores_the_rows_of_its_asset(
    location: dg.Definitions, persistent: dg.DagsterInstance, triple: tuple[dg.AssetsDefinition, ...]
) -> None:
    raw, silver, gold, twin = triple
    run(location, persistent, raw)
    run(location, persistent, silver, f"{FIRST}|{CODES[0]}", f"{LAST}|{CODES[-1]}")
    by_hand, by_sql = (run(location, persistent, asset, FIRST, LAST) for asset in (gold, twin))
    schemas = []
    for result in (by_hand, by_sql):
        events = [event.materialization for event in result.get_asset_materialization_events()]
        assert sorted(str(event.partition) for event in events) == [*DAYS]
        schemas.append({str(event.metadata["dagster/column_schema"].value) for event in events})
    assert schemas[0] == schemas[1]
    with location.get_asset_value_loader(instance=persistent) as loader:
        for day in DAYS:
            stored = [
                loader.load_asset_value(asset.key, python_type=pl.DataFrame, partition_key=day)
                for asset in (gold, twin)
            ]
            assert isinstance(stored[0], pl.DataFrame)
            assert stored[0].height == len(CODES)
            assert stored[0].equals(stored[1])


def test_the_lineage_of_a_twin_is_in_its_definition() -> None:
    (spec,) = daily_sales_aggregates_sql.specs
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column
    found = {name: [dep.column_name for dep in deps] for name, deps in lineage.items()}
    assert found["revenue"] == found["average_order_value"] == ["total_amount"]
    assert found["customers"] == ["customer_id"]
    assert found["orders"] == []
    assert {dep.asset_key for deps in lineage.values() for dep in deps} == {partitioned_orders.key}


GROUPS = {"date": st.sampled_from([dt.date(2024, 1, day) for day in (1, 2)]), "state": st.sampled_from(["CA", "NY"])}
FEW = st.integers(0, 3).map("id{}".format)
EXTRACT = st.fixed_dictionaries(
    {**GROUPS, "npi": FEW, "provider_count": st.integers(1, 40), "specialty": st.sampled_from(["a", "b"])}
)
ORDER = st.fixed_dictionaries(
    {
        **GROUPS,
        "customer_id": FEW,
        "quantity": st.integers(1, 9),
        "total_amount": st.integers(0, 999).map(lambda cents: Decimal(cents) / 100),
        "status": st.sampled_from(["completed", "returned", "cancelled"]),
    }
)
ORDER_SCHEMA = {
    "date": pl.Date(),
    "state": pl.String(),
    "customer_id": pl.String(),
    "quantity": pl.Int64(),
    "total_amount": pl.Decimal(18, 2),
    "status": pl.String(),
}


def answered(sql: str, table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The answer of DataFusion to a query over one table."""
    schema, name = table.split(".")
    context = SessionContext()
    context.catalog().register_schema(schema, Schema.memory_schema())
    context.catalog().schema(schema).register_table(
        name, context.from_arrow(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    )
    answer = pl.from_arrow(context.sql(sql).to_arrow_table())
    assert isinstance(answer, pl.DataFrame)
    return answer


@given(st.lists(EXTRACT, min_size=1, max_size=40))
@settings(max_examples=examples(100))
def test_organizations_are_counted_alike(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows)
    found = answered(ORGANIZATIONS_BY_DAY, "silver_tax_id.partitioned_organizations", frame)
    assert found.equals(organizations_by_day(frame.lazy()))


@given(st.lists(ORDER, min_size=1, max_size=40))
@settings(max_examples=examples(100))
def test_sales_are_added_alike(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=ORDER_SCHEMA)
    found = answered(SALES_BY_DAY, "silver_commerce.partitioned_orders", frame)
    assert found.equals(sales_by_day(frame.lazy()))
