"""Costs as functions of sizes, ages and rules."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.documents.query_documents import Stats
from dagfusion_query.cost.estimate import (
    GIB,
    SMALLEST_MOVED_BYTES,
    Estimate,
    LifecycleRule,
    StoredFiles,
    estimate,
    query_cost,
    read_prices,
    read_rules,
    storage_classes,
)

PRICES = read_prices()
DEPLOYED: list[dict[str, Any]] = [  # as S3 returns the rules of deploy/aws
    {
        "ID": "archive-and-delete-tables",
        "Status": "Enabled",
        "Filter": {"Prefix": "tables/"},
        "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}],
        "Expiration": {"Days": 365},
    },
    {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}},
]


def files(count: int, size: int, age_days: float = 0.0, *, would_gain: bool = False) -> StoredFiles:
    keys = [f"tables/{number}" for number in range(count)]
    return StoredFiles("t", keys, np.full(count, size), np.full(count, age_days), would_gain)


def costs(stored: StoredFiles, rules: list[LifecycleRule], months: int = 1, requests: int = 0) -> Estimate:
    return estimate([stored], {"t": rules}, PRICES, months=months, requests_month=requests, requests_from="test")


def classes(size: int, age_days: float, configuration: list[dict[str, Any]], key: str = "tables/a") -> str:
    return str(storage_classes([key], np.array([size]), np.array([age_days]), read_rules(configuration))[0])


@pytest.mark.parametrize(
    ("age_days", "name"), [(0, "STANDARD"), (89, "STANDARD"), (90, "GLACIER"), (364, "GLACIER"), (365, "")]
)
def test_an_object_is_moved_and_deleted_by_its_age(age_days: float, name: str) -> None:
    assert classes(1 << 20, age_days, DEPLOYED) == name
    assert classes(1 << 20, age_days, DEPLOYED, "elsewhere/a") == "STANDARD"


def test_small_objects_are_not_moved_unless_the_rule_has_a_size() -> None:
    small = SMALLEST_MOVED_BYTES - 1
    assert classes(small, 100, DEPLOYED) == "STANDARD"
    sized = [{**DEPLOYED[0], "Filter": {"And": {"Prefix": "tables/", "ObjectSizeGreaterThan": 0}}}]
    assert classes(small, 100, sized) == "GLACIER"


@pytest.mark.parametrize("change", [{"Status": "Disabled"}, {"Filter": {"Tag": {"Key": "a", "Value": "b"}}}])
def test_rules_that_do_not_apply(change: dict[str, Any]) -> None:
    assert classes(1 << 20, 1000, [{**DEPLOYED[0], **change}]) == "STANDARD"


def test_the_later_move_counts_in_any_order() -> None:
    rules = [
        {"Status": "Enabled", "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}]},
        {"Status": "Enabled", "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]},
    ]
    for ordered in (rules, rules[::-1]):
        assert [classes(1 << 20, age, ordered) for age in (29, 30, 90)] == ["STANDARD", "STANDARD_IA", "GLACIER"]


def test_the_example_of_the_design() -> None:
    found = costs(files(1, 50 << 30, 40), [], requests=1_000_000)
    assert found.months[0].usd == pytest.approx(1.15)
    assert found.requests_usd == pytest.approx(0.40)
    assert found.usd == pytest.approx(1.55)
    hours = 730
    assert 0.5 * hours * PRICES.fargate_vcpu_hour == pytest.approx(14.78, abs=0.01)
    assert 0.5 * hours * PRICES.fargate_vcpu_hour + hours * PRICES.fargate_gb_hour == pytest.approx(18.02, abs=0.01)


def test_a_year_under_the_rules() -> None:
    found = costs(files(1000, 1 << 20), read_rules(DEPLOYED), months=13)
    held = [{one.storage_class: one.objects for one in month.classes} for month in found.months]
    assert held[:3] == [{"STANDARD": 1000}] * 3
    assert held[3:12] == [{"GLACIER": 1000}] * 9 or held[3:13] == [{"GLACIER": 1000}] * 10
    assert sum(month.moved for month in found.months) == 1000
    assert sum(month.moves_usd for month in found.months) == pytest.approx(0.03)
    assert sum(month.deleted for month in found.months) == 1000
    assert found.writes_usd == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("name", "size", "usd", "read_usd"),
    [
        ("STANDARD_IA", 1 << 20, 1000 / 1024 * 0.0125, 0.001 + 1000 / 1024 * 0.01),
        ("GLACIER_IR", 1 << 20, 1000 / 1024 * 0.004, 0.01 + 1000 / 1024 * 0.03),
        ("GLACIER_IR", 1 << 10, 1000 * 128 / (1 << 20) * 0.004, 0.01 + 1000 / (1 << 20) * 0.03),
        ("GLACIER", 1 << 10, 1000 * 33 / (1 << 20) * 0.0036 + 1000 * 8 / (1 << 20) * 0.023, None),
        ("INTELLIGENT_TIERING", 1 << 20, 1000 / 1024 * 0.023, None),
    ],
)
def test_a_storage_class_has_its_own_prices(name: str, size: int, usd: float, read_usd: float | None) -> None:
    found = costs(files(1000, size, 31), [LifecycleRule(moves=[(30, name)], above_bytes=0)])
    (held,) = found.months[0].classes
    assert (held.storage_class, held.objects, held.gb) == (name, 1000, 1000 * size / GIB)
    assert held.usd == pytest.approx(usd)
    assert held.read_usd == (None if read_usd is None else pytest.approx(read_usd))


def test_standard_costs_gets_and_no_retrieval() -> None:
    (held,) = costs(files(1000, 1 << 10), []).months[0].classes
    assert held.usd == pytest.approx(1000 / (1 << 20) * 0.023)
    assert held.read_usd == pytest.approx(PRICES.get_per_1000)


def test_a_consolidation_saves_requests_and_costs_storage() -> None:
    found = costs(files(18_250, 8_400, would_gain=True), [], requests=1_000_000)
    (saving,) = found.savings
    assert (saving.objects_now, saving.objects_then) == (18_250, 2)
    assert saving.usd_month == pytest.approx(0.4, rel=1e-3)
    assert saving.extra_usd_month == pytest.approx(18_250 * 8_400 / GIB * 0.023)
    assert costs(files(18_250, 8_400), []).savings == []


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.floats(0, 1000)), max_size=20), st.integers(1, 24))
def test_no_object_is_lost_or_counted_twice(objects: list[tuple[int, float]], months: int) -> None:
    sizes, ages = [np.array(column) for column in zip(*objects, strict=True)] or [np.array([], int), np.array([])]
    stored = StoredFiles("t", [f"tables/{n}" for n in range(len(objects))], sizes, ages)
    found = costs(stored, read_rules(DEPLOYED), months)
    gone = int((ages >= 365).sum())
    for month in found.months:
        assert sum(one.objects for one in month.classes) == len(objects) - gone
        gone += month.deleted
    assert found.usd >= 0


def test_the_price_of_a_query() -> None:
    stats = Stats(requests=2000, queued_s=10.0, total_s=3610.0)
    found = query_cost(stats, 2 << 30, PRICES)
    assert found.requests_usd == pytest.approx(2 * PRICES.get_per_1000)
    assert found.worker_usd == pytest.approx(PRICES.fargate_vcpu_hour + 2 * PRICES.fargate_gb_hour)
    assert found.prices_date == PRICES.date


def test_a_query_whose_requests_were_not_counted_has_no_price_of_requests() -> None:
    assert query_cost(Stats(queued_s=1.0, total_s=1.0), 1 << 30, PRICES).requests_usd is None
