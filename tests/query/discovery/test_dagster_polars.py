"""A Dagster project that knows nothing of this one: dagster-polars' Parquet, its own code's, and CSV."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import psycopg
import pytest
from dagster_polars import PolarsParquetIOManager

from dagfusion_query import connect

DAYS = dg.DailyPartitionsDefinition("2024-01-01")
STATES = dg.StaticPartitionsDefinition(["CA", "NY"])
KEYS = ["2024-01-01|CA", "2024-01-01|NY", "2024-01-02|CA"]


@dg.asset(key=["shop", "Customers"], io_manager_key="polars")
def customers() -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [1, 2, 3], "name": ["Ada", "Bo", None], "kind": pl.Series(["x", "y", "x"], dtype=pl.Categorical)}
    )


@dg.asset(key=["shop", "orders"], io_manager_key="polars", partitions_def=DAYS)
def orders(context: dg.AssetExecutionContext) -> pl.DataFrame:
    day = int(context.partition_key[-2:])
    return pl.DataFrame(
        {"id": range(day * 10), "customer": [1 + i % 3 for i in range(day * 10)], "price": [1.5] * day * 10}
    )


@dg.asset(
    key=["shop", "visits"],
    io_manager_key="polars",
    partitions_def=dg.MultiPartitionsDefinition({"date": DAYS, "state": STATES}),
)
def visits(context: dg.AssetExecutionContext) -> pl.LazyFrame:
    date, state = context.partition_key.split("|")
    return pl.LazyFrame({"at": [date], "where": [state], "tags": [["a", "b"]], "info": [{"n": 1, "s": "x"}]})


@pytest.fixture
def lake(deployment: Any) -> Path:
    """Materialize the project; return the folder of its data."""
    folder: Path = deployment.home.parent / "lake"
    folder.mkdir()

    @dg.asset
    def report() -> dg.MaterializeResult[None]:
        (folder / "report.csv").write_text("a,b\n1,2\n")
        return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(str(folder / "report.csv"))})

    @dg.asset
    def summary() -> dg.MaterializeResult[None]:
        pl.DataFrame({"n": [42]}).write_parquet(folder / "summary.parquet")
        return dg.MaterializeResult(
            metadata={"uri": dg.MetadataValue.url((folder / "summary.parquet").as_uri()), "n": 1}
        )

    resources = {"polars": PolarsParquetIOManager(base_dir=str(folder / "polars"))}

    def run(*assets: Any, **options: Any) -> None:
        assert dg.materialize(assets, instance=deployment.instance, resources=resources, **options).success

    run(customers, report, summary)
    for day in ("2024-01-01", "2024-01-02"):
        run(orders, partition_key=day)
    for key in KEYS:
        date, state = key.split("|")
        run(visits, partition_key=dg.MultiPartitionKey({"date": date, "state": state}))
    return folder


def contents(deployment: Any, lake: Path) -> Iterator[object]:
    """Yield what a reader of the deployment could change."""
    for folder in (deployment.home, lake):
        # SQLite's readers and writers meet in files beside the database, which go with the last of them.
        files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]
        yield sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    if deployment.url:
        with psycopg.connect(deployment.url) as connection:
            for table in ("event_logs", "asset_keys", "asset_event_tags", "runs"):
                yield connection.execute(f"select count(*), sum(hashtext(t::text)) from {table} t".encode()).fetchone()


def test_an_existing_deployment_is_queryable_as_it_is(deployment: Any, lake: Path) -> None:
    before = list(contents(deployment, lake))
    with connect(deployment.url or str(deployment.home), environment="uat", settings={}) as connection:
        tables = {table.name: table for table in connection.tables()}
        assert {name: table.partition_columns for name, table in tables.items()} == {
            "uat_shop.customers": (),
            "uat_shop.orders": ("partition_key",),
            "uat_shop.visits": ("date", "state"),
            "uat_default.report": (),
            "uat_default.summary": (),
        }
        assert "not Parquet" in str(tables["uat_default.report"].problem)
        assert (tables["uat_shop.orders"].partitions, tables["uat_shop.orders"].rows) == (2, 30)
        assert tables["uat_shop.customers"].columns == {"id": "int64", "name": "string", "kind": "string"}
        joined = connection.sql("""
            SELECT c.name, count(*) AS orders, sum(o.price) AS price FROM uat_shop.orders o
            JOIN uat_shop.customers c ON c.id = o.customer WHERE o.partition_key >= '2024-01-02' GROUP BY 1 ORDER BY 1
        """)
        assert joined.to_arrow().to_pylist() == [
            {"name": "Ada", "orders": 7, "price": 10.5},
            {"name": "Bo", "orders": 7, "price": 10.5},
            {"name": None, "orders": 6, "price": 9.0},
        ]
        assert joined.stats.files_skipped == 1
        one = connection.sql("SELECT * FROM uat_shop.visits WHERE date = '2024-01-01' AND state = 'NY'")
        assert one.to_arrow().to_pylist() == [
            {"at": "2024-01-01", "where": "NY", "tags": ["a", "b"], "info": {"n": 1, "s": "x"}}
            | {"date": "2024-01-01", "state": "NY"}
        ]
        assert (one.stats.files_total, one.stats.files_read) == (3, 1)
        assert connection.sql("SELECT n FROM uat_default.summary").to_arrow()["n"].to_pylist() == [42]
        assert connection.sql("SELECT kind FROM uat_shop.customers WHERE kind = 'y'").to_arrow()[
            "kind"
        ].to_pylist() == ["y"]
    assert list(contents(deployment, lake)) == before
