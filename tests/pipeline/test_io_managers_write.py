"""Outputs, for real: a run against an S3 server, its objects and its events."""

import datetime as dt
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.store import ObjectStore
from tests.pipeline.written import (
    DAILY,
    JAN,
    MULTI,
    check_objects,
    entry_of,
    key_range,
    materializations,
    org_rows,
)


@pytest.mark.parametrize(
    "value",
    [pl.DataFrame({"n": [1, 2]}), pl.LazyFrame({"n": [1, 2]}), pa.table({"n": [1, 2]}), pd.DataFrame({"n": [1, 2]})],
    ids=["polars", "lazy", "arrow", "pandas"],
)
def test_unpartitioned(
    value: Any, flat: S3ParquetIOManager, hive: PartitionedS3ParquetIOManager, store: ObjectStore
) -> None:
    @dg.asset(key_prefix=["Silver", "TaxID"], io_manager_key="flat")
    def raw_organizations() -> Any:
        return value

    @dg.asset(key_prefix=["Silver", "TaxID"], io_manager_key="hive")
    def organizations() -> Any:
        return value

    result = dg.materialize([raw_organizations, organizations], resources={"flat": flat, "hive": hive})
    events = {
        event.asset_key.path[-1]: event
        for event in result.asset_materializations_for_node("Silver__TaxID__raw_organizations")
    }
    events |= {
        event.asset_key.path[-1]: event
        for event in result.asset_materializations_for_node("Silver__TaxID__organizations")
    }
    root = f"s3://lake/{flat.prefix}/Silver/TaxID"
    assert entry_of(events["raw_organizations"])["uri"] == f"{root}/raw_organizations.parquet"
    assert entry_of(events["organizations"])["uri"] == f"{root}/organizations/data.parquet"
    for event in events.values():
        assert entry_of(event)["partition"] == []
        assert event.metadata["dagster/row_count"].value == 2
        check_objects({None: event}, store)


def test_what_a_person_reads(fields: dict[str, Any]) -> None:
    @dg.asset(key_prefix=["Silver", "TaxID"], partitions_def=MULTI)
    def orgs() -> pl.DataFrame:
        return org_rows(["CA"], JAN[:1])

    manager = PartitionedS3ParquetIOManager(**fields, environment="uat")
    result = dg.materialize([orgs], resources={"io_manager": manager}, partition_key="2024-01-01|CA")
    (event,) = materializations(result).values()
    metadata: dict[str, Any] = {name: value.value for name, value in event.metadata.items()}
    key = f"{fields['prefix']}/Silver/TaxID/orgs/state=CA/date=2024-01-01/data.parquet"
    assert metadata["dagster/partition_row_count"] == 2
    assert metadata["dagster/table_name"] == "uat_silver_tax_id.orgs"
    assert metadata["dagster/uri"] == f"s3://lake/{key}"
    assert [column.name for column in metadata["dagster/column_schema"].columns] == ["npi", "name", "state", "date"]
    assert metadata["s3_path"] == f"{fields['endpoint_url']}/lake/{key}"
    assert metadata["column_count"] == 4
    assert metadata["partition_keys"] == {"state": "CA", "date": "2024-01-01"}
    assert metadata["file_size_mb"] == entry_of(event)["size_bytes"] / 1e6
    assert abs(metadata["processed_at"] - dt.datetime.now(dt.UTC).timestamp()) < 60
    assert "dagster/row_count" not in metadata


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_one_run_writes_many_partitions(
    *,
    lazy: bool,
    shuffled: bool,
    hive: PartitionedS3ParquetIOManager,
    store: ObjectStore,
) -> None:
    rows = org_rows(["CA", "NY", "TX"], JAN[:5], rows=7)

    @dg.asset(key_prefix="Silver", partitions_def=MULTI)
    def orgs() -> Any:
        frame = rows.sample(fraction=1, shuffle=True, seed=1) if shuffled else rows
        return frame.lazy() if lazy else frame

    result = dg.materialize([orgs], resources={"io_manager": hive}, tags=key_range("2024-01-01|CA", "2024-01-05|TX"))
    events = materializations(result)
    assert len(events) == 15
    check_objects(events, store)
    for partition, event in events.items():
        date, _, state = str(partition).partition("|")
        entry = entry_of(event)
        assert entry["uri"] == f"s3://lake/{hive.prefix}/Silver/orgs/state={state}/date={date}/data.parquet"
        assert entry["partition"] == [
            {"name": "state", "type": "string", "value": state},
            {"name": "date", "type": "date32[day]", "value": date},
        ]
        assert entry["columns"] == {
            "npi": {"min": 0, "max": 6, "nulls": 0},
            "name": {"min": f"{state} 0", "max": f"{state} 6", "nulls": 0},
        }
        assert (event.tags or {})["dagster/partition/state"] == state


def test_partitions_without_rows_get_an_empty_file(hive: PartitionedS3ParquetIOManager, store: ObjectStore) -> None:
    @dg.asset(partitions_def=MULTI)
    def orgs() -> pl.DataFrame:
        return org_rows(["NY"], JAN[:1])

    events = materializations(
        dg.materialize([orgs], resources={"io_manager": hive}, tags=key_range("2024-01-01|CA", "2024-01-02|TX"))
    )
    check_objects(events, store)
    assert {key: entry_of(event)["rows"] for key, event in events.items() if entry_of(event)["rows"]} == {
        "2024-01-01|NY": 2
    }
    assert len({entry_of(event)["schema"]["fingerprint"] for event in events.values()}) == 1
    assert entry_of(events["2024-01-02|TX"])["columns"] == {"npi": {"nulls": 0}, "name": {"nulls": 0}}


def test_single_partition_may_leave_its_columns_out(hive: PartitionedS3ParquetIOManager) -> None:
    @dg.asset(partitions_def=MULTI)
    def orgs() -> pl.DataFrame:
        return pl.DataFrame({"npi": [1]})

    (event,) = materializations(
        dg.materialize([orgs], resources={"io_manager": hive}, partition_key="2024-01-01|CA")
    ).values()
    assert entry_of(event)["partition"][1] == {"name": "date", "type": "date32[day]", "value": "2024-01-01"}


@pytest.mark.parametrize(
    ("definition", "key", "column", "partition", "folder"),
    [
        (
            DAILY,
            "2024-01-15",
            pl.Series("date", [dt.date(2024, 1, 15)]),
            ("date32[day]", "2024-01-15"),
            "date=2024-01-15",
        ),
        (
            dg.HourlyPartitionsDefinition("2024-01-01-00:00"),
            "2024-01-15-03:00",
            pl.Series("hour", [dt.datetime.fromisoformat("2024-01-15T03:00")]),
            ("timestamp[us]", "2024-01-15T03:00:00.000000"),
            "hour=2024-01-15-03%3A00",
        ),
        (
            dg.WeeklyPartitionsDefinition("2024-01-07"),
            "2024-01-14",
            pl.Series("date", ["2024-01-14"]),
            ("string", "2024-01-14"),
            "date=2024-01-14",
        ),
        (
            dg.MonthlyPartitionsDefinition("2024-01-01"),
            "2024-03-01",
            pl.Series("date", [dt.datetime.fromisoformat("2024-03-01T00:00+00:00")]),
            ("timestamp[us, tz=UTC]", "2024-03-01T00:00:00.000000Z"),
            "date=2024-03-01",
        ),
        (
            dg.StaticPartitionsDefinition(["a/b"]),
            "a/b",
            pl.Series("partition", ["a/b"]),
            ("string", "a/b"),
            "partition=a%2Fb",
        ),
        (dg.StaticPartitionsDefinition(["7"]), "7", pl.Series("partition", [7]), ("int64", 7), "partition=7"),
        (
            dg.StaticPartitionsDefinition(["__HIVE_DEFAULT_PARTITION__"]),
            "__HIVE_DEFAULT_PARTITION__",
            pl.Series("partition", [None], dtype=pl.String),
            ("string", None),
            "partition=__HIVE_DEFAULT_PARTITION__",
        ),
    ],
)
@pytest.mark.parametrize("kind", [S3ParquetIOManager, PartitionedS3ParquetIOManager])
def test_one_dimension(
    *,
    kind: type[S3ParquetIOManager] | type[PartitionedS3ParquetIOManager],
    definition: dg.PartitionsDefinition[Any],
    key: str,
    column: pl.Series,
    partition: tuple[str, object],
    folder: str,
    fields: dict[str, Any],
    store: ObjectStore,
) -> None:
    @dg.asset(partitions_def=definition)
    def daily() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]}).with_columns(column)

    events = materializations(dg.materialize([daily], resources={"io_manager": kind(**fields)}, partition_key=key))
    check_objects(events, store)
    entry = entry_of(events[key])
    assert entry["partition"] == [{"name": column.name, "type": partition[0], "value": partition[1]}]
    is_flat = kind is S3ParquetIOManager
    name = f"daily/{folder.partition('=')[2]}.parquet" if is_flat else f"daily/{folder}/data.parquet"
    assert entry["uri"] == f"s3://lake/{fields['prefix']}/{name}"
    assert [field["name"] for field in entry["schema"]["fields"]] == (["n", column.name] if is_flat else ["n"])


def test_dynamic_partitions(hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    tenants = dg.DynamicPartitionsDefinition(name="tenants")
    instance.add_dynamic_partitions("tenants", ["b", "a", "ü/日本"])

    @dg.asset(partitions_def=tenants, metadata={"partition_expr": "tenant"})
    def usage() -> pl.DataFrame:
        return pl.DataFrame({"tenant": ["a", "b", "b"], "n": [1, 2, 3]})

    result = dg.materialize([usage], resources={"io_manager": hive}, instance=instance, tags=key_range("b", "a"))
    assert {key: entry_of(event)["rows"] for key, event in materializations(result).items()} == {"a": 1, "b": 2}
    only = dg.materialize(
        [usage_of("ü/日本", tenants)], resources={"io_manager": hive}, instance=instance, partition_key="ü/日本"
    )
    assert entry_of(materializations(only)["ü/日本"])["uri"].endswith("/usage/tenant=ü%2F日本/data.parquet")


def usage_of(tenant: str, definition: dg.DynamicPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=definition, metadata={"partition_expr": "tenant"})
    def usage() -> pl.DataFrame:
        return pl.DataFrame({"tenant": [tenant], "n": [1]})

    return usage


def test_flat_writes_many_partitions_of_one_dimension(flat: S3ParquetIOManager, store: ObjectStore) -> None:
    @dg.asset(partitions_def=DAILY, key_prefix="Gold")
    def totals() -> pl.DataFrame:
        return pl.DataFrame({"date": JAN[:3], "n": [1, 2, 3]})

    events = materializations(
        dg.materialize([totals], resources={"io_manager": flat}, tags=key_range("2024-01-01", "2024-01-03"))
    )
    check_objects(events, store)
    assert entry_of(events["2024-01-02"])["columns"]["n"] == {"min": 2, "max": 2, "nulls": 0}
    assert entry_of(events["2024-01-02"])["uri"].endswith("/Gold/totals/2024-01-02.parquet")
