"""What the code location reads back from the event log: for its checks, and for its vacuum."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_pipeline.defs.checks import PartitionRule, judge
from dagfusion_pipeline.defs.ecommerce.checks import ORDERS, SALES
from dagfusion_pipeline.defs.healthcare.checks import AGGREGATES, EXTRACTS
from dagfusion_pipeline.defs.recorded import Recorded, newest_recorded, recorded_by_run
from dagfusion_pipeline.defs.superseded import needed_uris, run_of, superseded
from dagfusion_pipeline.store import StoredObject

KEY = dg.AssetKey(["Silver", "Commerce", "partitioned_orders"])
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
RUNS = [str(UUID(int=number)) for number in range(4)]


def recorded(
    partition: str | None = "2024-01-01|CA",
    *,
    hours: float = 0,
    uri: str = "",
    rows: int = 100,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Recorded:
    return Recorded(partition, NOON + timedelta(hours=hours), uri, rows, columns or {}, metrics or {})


def event(partition: str, rows: int) -> dg.AssetMaterialization:
    entry = {"uri": f"s3://b/{partition}", "rows": rows, "columns": {"n": {"min": 1, "nulls": 0}}}
    return dg.AssetMaterialization(KEY, partition=partition, metadata={"revenue": 1.5, "dagfusion/file": entry})


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


def test_records_come_back_newest_first_without_events_that_claim_no_object() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        by_hand = dg.AssetMaterialization(KEY, partition="c", metadata={"note": "by hand"})
        for reported in (event("a", 1), event("b", 2), event("a", 3), by_hand):
            instance.report_runless_asset_event(reported)
        instance.report_runless_asset_event(dg.AssetMaterialization("other", metadata={"dagfusion/file": {}}))
        newest = list(newest_recorded(instance, KEY))
        assert [(record.partition, record.rows) for record in newest] == [("a", 3), ("b", 2), ("a", 1)]
        assert newest[0].metrics == {"revenue": 1.5}
        assert newest[0].lowest("n") == 1
        assert newest[0].lowest("other") is None
        current = recorded_by_run(instance, "no-such-run", KEY)
        assert {(record.partition, record.rows) for record in current} == {("a", 3), ("b", 2)}


def test_records_of_a_run_are_its_own_over_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_pipeline.defs.recorded._PAGE", 3)
    partitions = [str(number) for number in range(10)]

    @dg.asset(key=KEY, partitions_def=dg.StaticPartitionsDefinition(partitions))
    def many(context: dg.AssetExecutionContext) -> None:
        for partition in context.partition_keys:
            context.log_event(event(partition, 5))

    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(event("before", 1))
        tags = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "9"}
        run = dg.materialize([many], instance=instance, tags=tags)
        records = recorded_by_run(instance, run.run_id, KEY)
        assert {record.partition for record in records} == set(partitions)
        assert {record.rows for record in records} == {5}


def test_an_object_is_needed_while_and_until_it_is_the_newest() -> None:
    newest_first = [
        recorded("a", hours=5, uri="a5"),
        recorded("b", hours=4, uri="b4"),
        recorded("a", hours=3, uri="a3"),
        recorded("a", hours=2, uri="a2"),
        recorded("b", hours=1, uri="b1"),
        recorded(None, hours=0, uri="whole"),
    ]
    assert needed_uris(newest_first, NOON + timedelta(hours=10)) == {"a5", "b4", "whole"}
    assert needed_uris(newest_first, NOON + timedelta(hours=4.5)) == {"a5", "a3", "b4", "whole"}
    assert needed_uris(newest_first, NOON + timedelta(hours=2.5)) == {"a5", "a3", "a2", "b4", "b1", "whole"}
    assert needed_uris([], NOON) == set()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=30),
    st.integers(0, 60),
    st.randoms(),
)
def test_every_reader_since_then_finds_its_objects(
    events: list[tuple[str, int]], since: int, shuffle: random.Random
) -> None:
    history = sorted(events, key=lambda pair: pair[1])
    log = [recorded(partition, hours=hour, uri=f"{number}") for number, (partition, hour) in enumerate(history)]
    needed = needed_uris(reversed(log), NOON + timedelta(hours=since))
    for moment in (since, since + shuffle.random() * 60, 1_000):
        seen = {record.partition: record.uri for record in log if record.at <= NOON + timedelta(hours=moment)}
        assert set(seen.values()) <= needed


def test_only_old_run_named_objects_of_finished_runs_that_are_not_needed_are_superseded() -> None:
    def stored(key: str, hours: float = -1) -> StoredObject:
        return StoredObject(key, 1, None, NOON + timedelta(hours=hours))

    gone = [stored(f"t/state=CA/data-{RUNS[0]}.parquet"), stored(f"t-{RUNS[0]}.parquet")]
    kept = [
        stored(f"t/state=CA/data-{RUNS[1]}.parquet"),
        stored(f"t/state=CA/data-{RUNS[2]}.parquet"),
        stored(f"t/state=NY/data-{RUNS[0]}.parquet", hours=1),
        stored("t/state=CA/data.parquet"),
        stored("t/state=CA/somebody-elses.parquet"),
        stored(f"t/state=CA/data-{RUNS[0]}.parquet.bak"),
    ]
    assert superseded([*gone, *kept], {kept[0].key}, {RUNS[2]}, NOON) == gone


@pytest.mark.parametrize(
    ("key", "run"),
    [
        (f"t/data-{RUNS[3]}.parquet", RUNS[3]),
        (f"t/x\n=1/data-{RUNS[3]}.parquet", RUNS[3]),
        (f"t/{RUNS[3]}.parquet", None),
        ("t/data.parquet", None),
        (f"t/data-{RUNS[3]}/x.parquet", None),
    ],
)
def test_an_object_is_named_after_its_run(key: str, run: str | None) -> None:
    assert run_of(key) == run
