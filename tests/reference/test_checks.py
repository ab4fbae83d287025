"""The rules of the checks over records."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from dagfusion_contract.record import WrittenFile, file_entry, schema_entry
from dagfusion_pipeline.partition_records import PartitionRecord
from dagfusion_reference.defs.checks import PartitionRule, evaluate
from dagfusion_reference.defs.ecommerce.checks import ORDERS, SALES
from dagfusion_reference.defs.ecommerce.checks import checks as ecommerce
from dagfusion_reference.defs.healthcare.checks import AGGREGATES, EXTRACTS
from dagfusion_reference.defs.healthcare.checks import checks as healthcare

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def recorded(
    partition: str | None = "2024-01-01|CA",
    *,
    rows: int = 100,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> PartitionRecord:
    return PartitionRecord(partition, NOON, "", rows, columns or {}, metrics or {})


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
                "state_is_valid": GOOD_EXTRACT._replace(partition="2024-01-01|PR"),
                "organization_is_unique": GOOD_EXTRACT._replace(metrics={"organizations": 59}),
            },
        ),
        (
            ORDERS,
            GOOD_ORDERS,
            {
                "state_is_valid": GOOD_ORDERS._replace(partition=None),
                "order_id_is_unique": GOOD_ORDERS._replace(metrics={"orders": 99}),
            },
        ),
        (
            AGGREGATES,
            GOOD_AGGREGATES,
            {
                "every_state_is_there": GOOD_AGGREGATES._replace(metrics={"states": 49}),
            },
        ),
        (
            SALES,
            GOOD_SALES,
            {
                "every_state_is_there": GOOD_SALES._replace(metrics={"states": 49}),
            },
        ),
    ],
)
def test_each_rule_finds_what_it_is_for_and_nothing_else(
    rules: tuple[PartitionRule, ...], good: PartitionRecord, bad: Mapping[str, PartitionRecord]
) -> None:
    assert {rule.name for rule in rules} == bad.keys()
    for name, record in bad.items():
        assert [rule.name for rule in rules if rule.broken(record)] == [name]
        assert not any(rule.broken(good) for rule in rules)


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (healthcare[1], {"rows": 60, "provider_count": 1}, {"row_count": 49, "provider_count_in_bounds": 0}),
        (healthcare[3], {"organizations": 51}, {"organizations_in_bounds": 0}),
        (ecommerce[1], {"rows": 100, "total_amount": "0.00"}, {"row_count": 1001, "total_amount_in_bounds": "-0.01"}),
        (ecommerce[3], {"revenue": "10.00"}, {"revenue_in_bounds": "-1.00"}),
    ],
)
def test_each_check_of_records_finds_what_it_is_for_and_nothing_else(
    check: dg.AssetChecksDefinition, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    assert {key.name for key in check.check_keys} == bad.keys()
    assert failing(check, good) == set()
    for name, value in bad.items():
        field = name.removesuffix("_in_bounds").replace("row_count", "rows")
        assert failing(check, {**good, field: value}) == {name}


def failing(check: dg.AssetChecksDefinition, values: Mapping[str, Any]) -> set[str]:
    """The checks that fail over one partition with these rows and least values."""
    (asset,) = {key.asset_key for key in check.check_keys}
    partition = "2024-01-01|CA" if asset.path[0] == "Silver" else "2024-01-01"
    columns = {name: value for name, value in values.items() if name != "rows"}
    kinds = {name: pa.decimal128(10, 2) if isinstance(value, str) else pa.int64() for name, value in columns.items()}
    statistics = {name: {"min": value, "max": value, "nulls": 0} for name, value in columns.items()}
    rows = values.get("rows", 1)
    entry = file_entry(
        WrittenFile("s3://b/a", 1, None, NOON, rows, [], schema_entry(pa.schema([*kinds.items()])), statistics)
    )
    with dg.DagsterInstance.ephemeral() as instance:
        event = dg.AssetMaterialization(asset, partition=partition, metadata={"dagfusion/file": entry})
        instance.report_runless_asset_event(event)
        defs = dg.Definitions(asset_checks=[check])
        job = defs.resolve_implicit_global_asset_job_def()
        results = job.execute_in_process(instance=instance, raise_on_error=False).get_asset_check_evaluations()
    assert {result.severity for result in results} == {dg.AssetCheckSeverity.ERROR}
    return {result.check_name for result in results if not result.passed}


def test_a_judgement_names_what_breaks_the_rule() -> None:
    rule = PartitionRule("few", "Few rows.", lambda record: record.rows > 10)
    records = [recorded(f"p{number}", rows=number) for number in range(40)]
    failed = evaluate(rule, records)
    assert not failed.passed
    assert failed.metadata["partitions"].value == 40
    assert failed.metadata["broken_partitions"].value == 29
    assert str(failed.metadata["first_broken"].value).split(", ") == [f"p{number}" for number in range(11, 21)]
    assert evaluate(rule, records[:11]).passed
    assert not evaluate(rule, []).passed
