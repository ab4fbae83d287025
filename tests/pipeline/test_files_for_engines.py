"""Files with ids of fields and with the partition columns: every reader gives the rows that it gave without them."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from dagfusion_contract.field_ids import KEY, field_id
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_pipeline.erase import erase_rows
from dagfusion_pipeline.erasure_keys import Keys
from dagfusion_pipeline.logged_files import logged_consolidations
from tests.pipeline.in_memory import STORE, Flat, Hive
from tests.pipeline.written import MULTI, STATES, check_objects, entry_of, key_range, materializations

pytestmark = pytest.mark.usefixtures("heavy")
RUN = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
FOR_ENGINES: dict[str, Any] = {"field_ids": True, "partition_columns_in_files": True}
Row = tuple[dt.date, str, int]
DATES = [dt.date(2024, 1, day) for day in (1, 2)]
ROWS: list[Row] = [(date, state, n) for date in DATES for state in ("CA", "NY", "TX") for n in range(3)]
KEY_OF_ORGS = dg.AssetKey(["Silver", "orgs"])


@dg.asset(key=KEY_OF_ORGS, partitions_def=MULTI)
def orgs() -> pl.LazyFrame:
    """The columns of the partitions are not in the order of the path."""
    frame = pl.LazyFrame(ROWS, schema={"date": pl.Date, "state": pl.String, "n": pl.Int64}, orient="row")
    return frame.select("state", "n", "date", tags=pl.concat_list("n"))


@dg.asset(ins={"orgs": dg.AssetIn(KEY_OF_ORGS)}, partitions_def=MULTI)
def seen(orgs: pa.Table) -> pa.Table:
    return orgs


def written(instance: dg.DagsterInstance, folder: Path, **options: Any) -> tuple[Hive, dict[str | None, Any]]:
    """Write the asset, and copy its objects to a folder."""
    manager = Hive(bucket="lake", prefix=folder.name, **options)
    tags = key_range("2024-01-01|CA", "2024-01-02|TX")
    events = materializations(dg.materialize([orgs], instance=instance, resources={"io_manager": manager}, tags=tags))
    check_objects(events, STORE)
    for event in events.values():
        key = entry_of(event)["uri"].removeprefix(STORE.uri(""))
        path = folder / key.partition("/")[2]
        path.parent.mkdir(parents=True)
        path.write_bytes(obstore.get(STORE.client, key).bytes())
    return manager, events


def with_duckdb(root: Path) -> list[Row]:
    source = f"read_parquet('{root}/**/*.parquet', hive_partitioning = true)"
    with duckdb.connect() as connection:
        return connection.execute(f"select date, state, n from {source} where state <> 'x'").fetchall()


def with_duckdb_from_files(root: Path) -> list[Row]:
    with duckdb.connect() as connection:
        source = f"read_parquet('{root}/**/*.parquet', hive_partitioning = false)"
        return connection.execute(f"select date, state, n from {source}").fetchall()


def with_polars(root: Path) -> list[Row]:
    frame = pl.scan_parquet(root, hive_partitioning=True).filter(pl.col("state") != "x")
    return frame.select("date", "state", "n").collect().rows()


def with_pyarrow(root: Path) -> list[Row]:
    partitioning = ds.partitioning(pa.schema([("date", pa.date32()), ("state", pa.string())]), flavor="hive")
    table = ds.dataset(root, partitioning=partitioning).to_table(columns=["date", "state", "n"])
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


READERS: list[Callable[[Path], list[Row]]] = [with_duckdb, with_duckdb_from_files, with_polars, with_pyarrow]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_others_read_the_same_rows(instance: dg.DagsterInstance, tmp_path: Path, reader: Any) -> None:
    written(instance, tmp_path, **FOR_ENGINES)
    assert sorted(reader(tmp_path / "Silver" / "orgs")) == ROWS


def test_columns_ids_and_events(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    _, without = written(instance, plain)
    _, events = written(instance, marked, **FOR_ENGINES)
    for key, event in events.items():
        entry, old = entry_of(event), entry_of(without[key])
        assert entry["partition"] == old["partition"]
        assert entry["columns"] | old["columns"] == entry["columns"]
        assert [field["name"] for field in entry["schema"]["fields"]] == ["n", "tags", "state", "date"]
        assert event.metadata["column_count"] == without[key].metadata["column_count"]
    schema = pq.read_schema(next(marked.rglob("*.parquet")))
    ids = {field.name: int(field.metadata[KEY]) for field in schema}
    assert ids == {name: field_id((name,)) for name in ("n", "tags", "state", "date")}
    assert int(schema.field("tags").type.value_field.metadata[KEY]) == field_id(("tags", "element"))
    assert all(KEY not in (field.metadata or {}) for field in pq.read_schema(next(plain.rglob("*.parquet"))))


def test_inputs_are_as_before(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    found = []
    for options in ({}, FOR_ENGINES):
        manager, _ = written(instance, tmp_path / str(len(options)), **options)
        tags = key_range("2024-01-01|CA", "2024-01-02|TX")
        how: dict[str, Any] = {"instance": instance, "resources": {"io_manager": manager}, "tags": tags}
        result = dg.materialize([orgs, seen], selection=[seen], **how)
        found.append(result.output_for_node("seen"))
    assert found[0].schema.equals(found[1].schema, check_metadata=True)
    assert found[0].equals(found[1])


def test_erased_and_consolidated_files(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """What an erasure writes has ids again, and so have large objects."""
    manager, _ = written(instance, tmp_path, **FOR_ENGINES)
    (first, *_) = erase_rows(instance, manager, KEY_OF_ORGS, Keys("n", ["1"]), run_id=RUN).rewritten
    assert first.new_uri is not None
    schema, rows = stored(first.new_uri)
    ids = {name: field_id((name,)) for name in ("n", "tags", "state", "date")}
    assert {field.name: int(field.metadata[KEY]) for field in schema} == ids
    assert rows.column("n").to_pylist() == [0, 2]
    done = consolidate_asset(instance, manager, KEY_OF_ORGS, RUN, instance.report_runless_asset_event)
    assert (done.partitions, done.unfit) == (6, ())
    (large,) = [one for found in logged_consolidations(instance, KEY_OF_ORGS) for one in found.objects]
    schema, rows = stored(large.uri)
    assert {field.name: int(field.metadata[KEY]) for field in schema} == ids
    assert large.has_field_ids
    assert sorted(rows.select(["date", "state", "n"]).to_pylist(), key=str) == [
        {"date": date, "state": state, "n": n} for date, state, n in ROWS if n != 1
    ]


def stored(uri: str) -> tuple[pa.Schema, pa.Table]:
    content = obstore.get(STORE.client, uri.removeprefix(STORE.uri(""))).bytes()
    table = pq.read_table(pa.BufferReader(pa.py_buffer(content)))
    return table.schema, table


@pytest.mark.parametrize("frame", [pl.DataFrame({"n": [1]}), pl.DataFrame({"n": [1], "state": ["CA"]})])
def test_a_frame_may_lack_the_column(instance: dg.DagsterInstance, tmp_path: Path, frame: pl.DataFrame) -> None:
    for kind in (Hive, Flat):

        @dg.asset(key=f"made_{kind.__name__}", partitions_def=STATES, metadata={"partition_expr": "state"})
        def made() -> pl.DataFrame:
            return frame

        manager = kind(bucket="lake", prefix=tmp_path.name, **FOR_ENGINES)
        result = dg.materialize([made], instance=instance, resources={"io_manager": manager}, partition_key="CA")
        entry = entry_of(materializations(result)["CA"])
        _, rows = stored(entry["uri"])
        assert rows.to_pydict() == {"n": [1], "state": ["CA"]}
        assert entry["columns"]["state"] == {"min": "CA", "max": "CA", "nulls": 0}
