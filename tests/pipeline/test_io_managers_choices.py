"""What an asset, a subclass or a field of an IO manager chooses; and runs and streams that compete for room."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.io.plugins import register_io_source

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.store import ObjectStore
from dagfusion_pipeline.vacuum_rule import run_of
from tests.pipeline.written import DAILY, JAN, MULTI, check_objects, entry_of, key_range, materializations, org_rows


def test_columns_and_order_are_declared(fields: dict[str, Any]) -> None:
    @dg.asset(
        partitions_def=MULTI,
        metadata={"partition_expr": {"date": "day", "state": "st"}, "partition_order": ["date", "state"]},
    )
    def orgs() -> pl.DataFrame:
        return pl.DataFrame({"st": ["CA"], "day": JAN[:1], "n": [1]})

    manager = PartitionedS3ParquetIOManager(**fields, partition_order=["state"])
    (event,) = materializations(
        dg.materialize([orgs], resources={"io_manager": manager}, partition_key="2024-01-01|CA")
    ).values()
    assert entry_of(event)["uri"].endswith("/orgs/day=2024-01-01/st=CA/data.parquet")
    assert [column["name"] for column in entry_of(event)["partition"]] == ["day", "st"]


def test_snappy_and_files_of_each_run(fields: dict[str, Any], store: ObjectStore) -> None:
    @dg.asset(partitions_def=MULTI)
    def orgs() -> pl.DataFrame:
        return org_rows(["CA"], JAN[:1])

    manager = PartitionedS3ParquetIOManager(**fields, compression="snappy", file_naming="per_run")
    runs = [dg.materialize([orgs], resources={"io_manager": manager}, partition_key="2024-01-01|CA") for _ in range(2)]
    entries = [entry_of(materializations(run)["2024-01-01|CA"]) for run in runs]
    assert [entry["uri"].rpartition("/")[2] for entry in entries] == [f"data-{run.run_id}.parquet" for run in runs]
    for run in runs:
        check_objects(materializations(run), store)
    content = obstore.get(store.client, entries[0]["uri"].removeprefix("s3://lake/")).bytes()
    assert pq.ParquetFile(pa.BufferReader(content)).metadata.row_group(0).column(0).compression == "SNAPPY"


def test_a_retry_of_a_step_replaces_no_object_of_its_run(fields: dict[str, Any]) -> None:
    attempts: list[int] = []

    @dg.multi_asset(
        outs={"orgs": dg.AssetOut(), "after": dg.AssetOut()},
        partitions_def=MULTI,
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    def both() -> Iterator[dg.Output[pl.DataFrame]]:
        attempts.append(len(attempts))
        yield dg.Output(org_rows(["CA"], JAN[:1]), "orgs")
        if attempts == [0]:
            raise ValueError("once")
        yield dg.Output(org_rows(["CA"], JAN[:1]), "after")

    manager = PartitionedS3ParquetIOManager(**fields, file_naming="per_run")
    run = dg.materialize([both], resources={"io_manager": manager}, partition_key="2024-01-01|CA")

    names = [
        entry_of(event.materialization)["uri"].rpartition("/")[2]
        for event in run.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey("orgs")
    ]
    assert names == [f"data-{run.run_id}.parquet", f"data-{run.run_id}-1.parquet"]
    assert {run_of(f"orgs/{name}") for name in names} == {run.run_id}


def test_metadata_of_the_asset_survives(hive: PartitionedS3ParquetIOManager) -> None:
    @dg.asset(partitions_def=MULTI)
    def orgs(context: dg.AssetExecutionContext) -> pl.DataFrame:
        context.add_output_metadata({"for_all": 1})
        context.add_asset_metadata({"for_all_too": 2})
        context.add_asset_metadata({"for_one": 3}, partition_key="2024-01-01|NY")
        return org_rows(["CA", "NY", "TX"], JAN[:1])

    events = materializations(
        dg.materialize([orgs], resources={"io_manager": hive}, tags=key_range("2024-01-01|CA", "2024-01-01|TX"))
    )
    assert {event.metadata["for_all"].value for event in events.values()} == {1}
    assert {event.metadata["for_all_too"].value for event in events.values()} == {2}
    assert [key for key, event in events.items() if "for_one" in event.metadata] == ["2024-01-01|NY"]
    assert all("dagfusion/file" in event.metadata for event in events.values())


@pytest.mark.parametrize("kind", [S3ParquetIOManager, PartitionedS3ParquetIOManager])
def test_metrics_see_each_file_with_its_partition_columns(kind: Any, fields: dict[str, Any]) -> None:
    class Measured(kind):  # type: ignore[misc] # the class is the parameter
        def metrics(self, context: dg.OutputContext, table: pa.Table) -> Mapping[str, Any]:
            assert context.asset_key.path == ["totals"]
            return {"day": table["date"][0].as_py().day, "columns": sorted(table.column_names)}

    @dg.asset(partitions_def=DAILY)
    def totals() -> pl.DataFrame:
        return pl.DataFrame({"date": JAN[:3], "n": [1, 2, 3]})

    events = materializations(
        dg.materialize(
            [totals], resources={"io_manager": Measured(**fields)}, tags=key_range("2024-01-01", "2024-01-03")
        )
    )
    assert [events[f"2024-01-0{day}"].metadata["day"].value for day in (1, 2, 3)] == [1, 2, 3]
    assert events["2024-01-01"].metadata["columns"].value == ["date", "n"]


def test_metrics_of_a_file_larger_than_a_row_group(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_pipeline.parquet.ROW_GROUP_BYTES", 1000)

    class Measured(PartitionedS3ParquetIOManager):
        def metrics(self, context: dg.OutputContext, table: pa.Table) -> Mapping[str, Any]:
            assert context.has_asset_partitions
            return {"rows": table.num_rows, "columns": table.column_names}

    @dg.asset(partitions_def=DAILY)
    def totals() -> pl.LazyFrame:
        return pl.LazyFrame({"n": range(10_000)}).with_columns(date=pl.lit(JAN[0]))

    events = materializations(
        dg.materialize([totals], resources={"io_manager": Measured(**fields)}, partition_key="2024-01-01")
    )
    assert events["2024-01-01"].metadata["rows"].value == 10_000
    assert events["2024-01-01"].metadata["columns"].value == ["n", "date"]


def chunks_of(rows: pl.DataFrame, size: int) -> pl.LazyFrame:
    def chunks(_columns: object, _predicate: object, _n_rows: object, _batch_size: object) -> Any:
        yield from rows.iter_slices(size)

    return register_io_source(chunks, schema=rows.schema)


def test_sorted_stream_stays_within_its_budget(fields: dict[str, Any], store: ObjectStore) -> None:
    rows = org_rows(["CA", "NY", "TX"], JAN[:10], rows=50)

    @dg.asset(partitions_def=MULTI)
    def orgs() -> pl.LazyFrame:
        return chunks_of(rows, 77)

    manager = PartitionedS3ParquetIOManager(**fields, memory_budget_bytes=5000)
    events = materializations(
        dg.materialize([orgs], resources={"io_manager": manager}, tags=key_range("2024-01-01|CA", "2024-01-10|TX"))
    )
    assert {entry_of(event)["rows"] for event in events.values()} == {50}
    check_objects(events, store)


def test_two_runs_at_once(hive: PartitionedS3ParquetIOManager, tmp_path: Path, store: ObjectStore) -> None:
    barrier = threading.Barrier(2)

    def write(state: str, results: dict[str, dg.ExecuteInProcessResult]) -> None:
        @dg.asset(partitions_def=MULTI)
        def orgs() -> pl.DataFrame:
            barrier.wait(timeout=30)
            return org_rows([state], JAN)

        tags = key_range(f"2024-01-01|{state}", f"2024-01-31|{state}")
        (tmp_path / state).mkdir()
        with dg.DagsterInstance.local_temp(str(tmp_path / state)) as on_disk:
            results[state] = dg.materialize([orgs], resources={"io_manager": hive}, tags=tags, instance=on_disk)

    results: dict[str, dg.ExecuteInProcessResult] = {}
    threads = [threading.Thread(target=write, args=(state, results)) for state in ("CA", "NY")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for state in ("CA", "NY"):
        events = materializations(results[state])
        assert len(events) == 31
        check_objects(events, store)


def test_nothing_leaks_into_the_working_folder(
    hive: PartitionedS3ParquetIOManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    @dg.asset
    def numbers() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    dg.materialize([numbers], resources={"io_manager": hive})
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("dagfusion-")] == []


def test_the_object_store_can_be_used_before_a_run(hive: PartitionedS3ParquetIOManager) -> None:
    @dg.asset
    def t() -> pl.DataFrame:
        return pl.DataFrame({"x": [1]})

    assert list(hive.object_store.list_objects(hive.prefix)) == []
    dg.materialize([t], resources={"io_manager": hive})
    assert len(list(hive.object_store.list_objects(hive.prefix))) == 1
