"""The records of an asset's partitions, read from Dagster's event log."""

import dagster as dg
import pytest

from dagfusion_pipeline.partition_records import newest_records, records_of_run

KEY = dg.AssetKey(["Silver", "Commerce", "partitioned_orders"])


def event(partition: str, rows: int) -> dg.AssetMaterialization:
    entry = {"uri": f"s3://b/{partition}", "rows": rows, "columns": {"n": {"min": 1, "nulls": 0}}}
    return dg.AssetMaterialization(KEY, partition=partition, metadata={"revenue": 1.5, "dagfusion/file": entry})


def test_records_come_back_newest_first_without_events_that_claim_no_object() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        by_hand = dg.AssetMaterialization(KEY, partition="c", metadata={"note": "by hand"})
        for reported in (event("a", 1), event("b", 2), event("a", 3), by_hand):
            instance.report_runless_asset_event(reported)
        instance.report_runless_asset_event(dg.AssetMaterialization("other", metadata={"dagfusion/file": {}}))
        newest = list(newest_records(instance, KEY))
        assert [(record.partition, record.rows) for record in newest] == [("a", 3), ("b", 2), ("a", 1)]
        assert newest[0].metrics == {"revenue": 1.5}
        assert newest[0].lowest("n") == 1
        assert newest[0].lowest("other") is None
        current = records_of_run(instance, "no-such-run", KEY)
        assert {(record.partition, record.rows) for record in current} == {("a", 3), ("b", 2)}


@pytest.mark.usefixtures("heavy")
def test_records_of_a_run_are_its_own_over_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_pipeline.partition_records._PAGE", 3)
    partitions = [str(number) for number in range(10)]

    @dg.asset(key=KEY, partitions_def=dg.StaticPartitionsDefinition(partitions))
    def many(context: dg.AssetExecutionContext) -> None:
        for partition in context.partition_keys:
            context.log_event(event(partition, 5))

    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(event("before", 1))
        tags = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "9"}
        run = dg.materialize([many], instance=instance, tags=tags)
        records = records_of_run(instance, run.run_id, KEY)
        assert {record.partition for record in records} == set(partitions)
        assert {record.rows for record in records} == {5}
