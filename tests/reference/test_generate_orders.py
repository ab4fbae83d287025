import datetime as dt
import random
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_reference.defs.ecommerce import export, sales
from dagfusion_reference.defs.ecommerce.aggregates import SCHEMA as AGGREGATES
from dagfusion_reference.defs.ecommerce.aggregates import sales_by_day
from dagfusion_reference.defs.ecommerce.checks import EXPORT
from dagfusion_reference.defs.ecommerce.export import export_of_orders
from dagfusion_reference.defs.ecommerce.metrics import order_metrics, sales_metrics
from dagfusion_reference.defs.ecommerce.sales import activity, state_orders
from dagfusion_reference.defs.partitions import StateDay
from dagfusion_reference.defs.states import BY_CODE, CODES
from tests.tiers import examples

EXPORTED = export_of_orders(7)
YEAR = [dt.date(2024, 1, 1) + dt.timedelta(days=day) for day in range(366)]
WEEK = [StateDay(day, state) for day in YEAR[:7] for state in CODES]

partitions = st.builds(StateDay, st.dates(dt.date(2024, 1, 1), dt.date(2026, 12, 31)), st.sampled_from(CODES))


def test_the_export_has_its_rows_and_columns() -> None:
    assert EXPORTED.shape == (50_000, 9)
    assert EXPORTED.schema == export.SCHEMA
    assert sum(EXPORTED.null_count().row(0)) == 0


def test_the_export_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert export_of_orders(7).equals(EXPORTED)
    assert not export_of_orders(8).equals(EXPORTED)


@settings(max_examples=examples(5), deadline=None)
@given(st.integers(-(2**63), 2**63))
def test_the_export_keeps_its_rules_for_any_seed(seed: int) -> None:
    exported = export_of_orders(seed)
    for rule in EXPORT:
        assert exported.select(rule.broken.sum()).item() == 0, rule.name


def test_orders_look_like_their_domain() -> None:
    prices = EXPORTED.group_by("product_id").agg(pl.col("unit_price").n_unique(), pl.col("category").n_unique())
    assert prices["unit_price"].max() == prices["category"].max() == 1
    assert set(EXPORTED["unit_price"].cast(pl.String).str.slice(-2)) == {"99", "95", "50"}
    assert EXPORTED["unit_price"].min() > 0  # type: ignore[operator]
    assert EXPORTED["quantity"].is_between(1, 12).all()
    assert EXPORTED["quantity"].median() == 1
    assert EXPORTED["customer_id"].n_unique() < EXPORTED.height / 2
    delivered = (EXPORTED["status"] == "delivered").mean()
    assert delivered == pytest.approx(0.78, abs=0.02)


def test_partitions_have_their_columns_and_bounds() -> None:
    written = state_orders(EXPORTED, [StateDay(day, state) for day in YEAR[::20] for state in CODES], 7).collect()
    assert written.schema == sales.SCHEMA
    assert written.width == 11
    sizes = written.group_by("state", "date").len()["len"]
    assert sizes.is_between(100, 1_000).all()
    assert written["order_id"].is_unique().all()
    assert sum(written.null_count().row(0)) == 0


def test_an_order_id_reads_as_its_partition() -> None:
    written = state_orders(EXPORTED, [StateDay(dt.date(2024, 1, 15), "CA")], 7).collect()
    assert written["order_id"][0] == 20240115_05_0001
    assert (written["order_id"].diff().drop_nulls() == 1).all()


def test_orders_follow_size_weekday_and_season() -> None:
    run = [StateDay(day, state) for state in ("CA", "OH", "WY") for day in YEAR]
    rows = state_orders(EXPORTED, run, 7).group_by("state", "date").len().collect()
    by_state = dict(rows.group_by("state").agg(pl.col("len").mean()).iter_rows())
    assert by_state["CA"] > by_state["OH"] > by_state["WY"]
    california = rows.filter(pl.col("state") == "CA")
    by_weekday = dict(california.group_by(pl.col("date").dt.weekday()).agg(pl.col("len").mean()).iter_rows())
    assert by_weekday[6] > by_weekday[2]
    by_month = dict(california.group_by(pl.col("date").dt.month()).agg(pl.col("len").mean()).iter_rows())
    assert max(by_month, key=lambda month: by_month[month]) == 12


def test_activity_is_a_share() -> None:
    shares = activity(YEAR)
    assert 0 < shares.min() < shares.max() <= 1


def test_larger_states_have_larger_partitions() -> None:
    rows = dict(state_orders(EXPORTED, WEEK, 7).group_by("state").len().collect().iter_rows())
    population = np.array([BY_CODE[code].population for code in CODES])
    assert np.corrcoef(population, [rows[code] for code in CODES])[0, 1] > 0.9


def test_orders_repeat_baskets_of_the_export() -> None:
    written = state_orders(EXPORTED, WEEK, 7).collect()
    baskets = EXPORTED.columns[1:]
    assert written.join(EXPORTED, on=baskets, how="anti").height == 0
    assert (written["total_amount"] == written["unit_price"] * written["quantity"]).all()


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(partitions, min_size=1, max_size=12, unique=True), st.integers(1, 3), st.randoms())
def test_a_partition_is_the_same_in_any_run(run: list[StateDay], seed: int, shuffle: random.Random) -> None:
    alone = pl.concat([state_orders(EXPORTED, [partition], seed).collect() for partition in run])
    assert state_orders(EXPORTED, run, seed).collect().equals(alone)
    shuffled = list(run)
    shuffle.shuffle(shuffled)
    assert state_orders(EXPORTED, shuffled, seed).collect().sort("order_id").equals(alone.sort("order_id"))


def test_an_empty_export_is_refused() -> None:
    with pytest.raises(ValueError, match="raw_orders has no rows"):
        state_orders(EXPORTED.clear(), WEEK, 7)


def test_aggregates_and_metrics_are_of_the_orders() -> None:
    written = state_orders(EXPORTED, WEEK, 7).collect()
    days = sales_by_day(written.lazy())
    assert days.schema == AGGREGATES
    assert days.height == len(WEEK)
    day = written.filter((pl.col("state") == "TX") & (pl.col("date") == YEAR[2]))
    row = days.row(by_predicate=(pl.col("state") == "TX") & (pl.col("date") == YEAR[2]), named=True)
    revenue = sum(day["total_amount"], Decimal(0))
    assert row["revenue"] == revenue
    assert row["orders"] == day.height
    assert abs(row["average_order_value"] - revenue / day.height) <= Decimal("0.01")
    assert row["returned_orders"] == list(day["status"]).count("returned")
    assert row["cancelled_orders"] == list(day["status"]).count("cancelled")
    metrics = order_metrics(day.to_arrow())
    assert metrics == {
        "orders": day.height,
        "customers": row["customers"],
        "units": row["units"],
        "revenue": float(revenue),
        "average_order_value": pytest.approx(float(revenue / day.height), abs=0.01),
    }
    assert sales_metrics(days.to_arrow())["revenue"] == pytest.approx(float(written["total_amount"].sum()))


def test_metrics_of_nothing_are_zero() -> None:
    assert set(order_metrics(pl.DataFrame(schema=sales.SCHEMA).to_arrow()).values()) == {0}
    assert set(sales_metrics(pl.DataFrame(schema=AGGREGATES).to_arrow()).values()) == {0}
