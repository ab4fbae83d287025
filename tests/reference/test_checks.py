"""The rules of the checks over records."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from dagfusion_pipeline.recorded import Recorded
from dagfusion_reference.defs.checks import PartitionRule, judge
from dagfusion_reference.defs.ecommerce.checks import ORDERS, SALES
from dagfusion_reference.defs.healthcare.checks import AGGREGATES, EXTRACTS

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def recorded(
    partition: str | None = "2024-01-01|CA",
    *,
    rows: int = 100,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Recorded:
    return Recorded(partition, NOON, "", rows, columns or {}, metrics or {})


GOOD_EXTRACT = recorded(
    rows=60, metrics={"organizations": 60}, columns={"provider_count": {"min": 1, "max": 9, "nulls": 0}}
)
GOOD_ORDERS = recorded(metrics={"orders": 100}, columns={"total_amount": {"min": "0.00", "max": "9.99", "nulls": 0}})
GOOD_AGGREGATES = recorded("2024-01-01", metrics={"states": 50}, columns={"organizations": {"min": 51}})
GOOD_SALES = recorded("2024-01-01", metrics={"states": 50}, columns={"revenue": {"min": "10.00"}})


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        (
            EXTRACTS,
            GOOD_EXTRACT,
            {
                "rows_fit_the_state": GOOD_EXTRACT._replace(rows=49, metrics={"organizations": 49}),
                "state_is_valid": GOOD_EXTRACT._replace(partition="2024-01-01|PR"),
                "organization_is_unique": GOOD_EXTRACT._replace(metrics={"organizations": 59}),
                "organization_has_providers": GOOD_EXTRACT._replace(columns={"provider_count": {"min": 0}}),
            },
        ),
        (
            ORDERS,
            GOOD_ORDERS,
            {
                "rows_fit_the_state": GOOD_ORDERS._replace(rows=1001, metrics={"orders": 1001}),
                "state_is_valid": GOOD_ORDERS._replace(partition=None),
                "order_id_is_unique": GOOD_ORDERS._replace(metrics={"orders": 99}),
                "total_is_not_negative": GOOD_ORDERS._replace(columns={"total_amount": {"min": "-0.01"}}),
            },
        ),
        (
            AGGREGATES,
            GOOD_AGGREGATES,
            {
                "every_state_is_there": GOOD_AGGREGATES._replace(metrics={"states": 49}),
                "has_organizations": GOOD_AGGREGATES._replace(columns={}),
            },
        ),
        (
            SALES,
            GOOD_SALES,
            {
                "every_state_is_there": GOOD_SALES._replace(metrics={"states": 49}),
                "revenue_is_not_negative": GOOD_SALES._replace(columns={"revenue": {"min": "-1.00"}}),
            },
        ),
    ],
)
def test_each_rule_finds_what_it_is_for_and_nothing_else(
    rules: tuple[PartitionRule, ...], good: Recorded, bad: Mapping[str, Recorded]
) -> None:
    assert {rule.name for rule in rules} == bad.keys()
    for name, record in bad.items():
        assert [rule.name for rule in rules if rule.broken(record)] == [name]
        assert not any(rule.broken(good) for rule in rules)


def test_a_judgement_names_what_breaks_the_rule() -> None:
    rule = PartitionRule("few", "Few rows.", lambda record: record.rows > 10)
    records = [recorded(f"p{number}", rows=number) for number in range(40)]
    failed = judge(rule, records)
    assert not failed.passed
    assert failed.metadata["partitions"].value == 40
    assert failed.metadata["broken_partitions"].value == 29
    assert str(failed.metadata["first_broken"].value).split(", ") == [f"p{number}" for number in range(11, 21)]
    assert judge(rule, records[:11]).passed
    assert not judge(rule, []).passed
