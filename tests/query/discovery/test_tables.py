"""What other IO managers wrote, as tables: over real event logs and real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from dagfusion_client.errors import UndiscoverableError
from dagfusion_contract.naming import TableName
from dagfusion_query import connect
from tests.query.discovery.conftest import Follow, Report, Write, partitions, table

UNREADABLE = ("csv", "pickle", "gone", "empty", "relative", "web", "no parquet", "broken", "delta")


@pytest.mark.parametrize("name", ["dagster/uri", "uri", "path", "s3_path"])
def test_metadata_that_names_parquet_makes_a_table(
    deployment: Any, follow: Follow, report: Report, write: Write, name: str
) -> None:
    report(deployment, write("orders.parquet", n=[1, None, 7], s=["b", "a", None]), name=name)
    found = table(follow(deployment))
    assert found.file_schema == pa.schema({"n": pa.int64(), "s": pa.string()})
    (row,) = found.files.to_pylist()
    assert (row["partition_key"], row["rows"], row["partition"]) == (None, 3, {})
    assert row["stats"] == {"n": {"min": 1, "max": 7, "nulls": 1}, "s": {"min": "a", "max": "b", "nulls": 1}}
    assert row["run_id"] is not None


@pytest.mark.usefixtures("heavy")
def test_partitions_come_from_the_event(on_sqlite: Any, follow: Follow, report: Report, write: Write) -> None:
    for date, state in (("2024-01-01", "CA"), ("2024-01-02", "NY")):
        path = write(f"orders/{date}/{state}.parquet", n=[1], date=["wrong"])
        report(on_sqlite, path, f"{date}|{state}", date=date, state=state)
        report(on_sqlite, write(f"days/{date}.parquet", n=[1]), date, key="days")
        report(on_sqlite, write(f"hive/state={state}/date={date}/x.parquet", n=[1]), f"{date}|{state}", key="hive")
    catalog = follow(on_sqlite)
    assert partitions(catalog) == [
        {"date": "2024-01-01", "state": "CA", "rows": 1},
        {"date": "2024-01-02", "state": "NY", "rows": 1},
    ]
    assert table(catalog).file_schema.names == ["n"], "the event's value wins over the file's column"
    assert partitions(catalog, "days")[0] == {"partition_key": "2024-01-01", "rows": 1}
    assert table(catalog, "hive").partition_schema == pa.schema({"state": pa.string(), "date": pa.string()})


@pytest.mark.usefixtures("heavy")
def test_queries_read_it(on_sqlite: Any, report: Report, write: Write) -> None:
    for day in ("2024-01-01", "2024-01-02"):
        for part in ("a", "b"):
            write(f"orders/{day}/{part}.parquet", n=[1, 2], day=[day, part])
        report(on_sqlite, f"{write(f'orders/{day}/c.parquet', n=[5], day=['x'])[:-9]}", day)
    with connect(str(on_sqlite.home), environment="uat", settings={}) as connection:
        (info,) = connection.tables()
        assert (info.partitions, info.rows) == (2, 10), "a partition of several files is one partition"
        by_day = "SELECT partition_key, sum(n) AS n, count(*) AS c FROM uat_default.orders GROUP BY 1 ORDER BY 1"
        total = connection.sql(by_day)
        assert total.to_arrow().to_pylist() == [
            {"partition_key": "2024-01-01", "n": 11, "c": 5},
            {"partition_key": "2024-01-02", "n": 11, "c": 5},
        ]
        one = connection.sql("SELECT sum(n) AS n FROM uat_default.orders WHERE partition_key = '2024-01-02'")
        assert (one.to_arrow().to_pylist(), one.stats.files_read) == ([{"n": 11}], 3)
        pruned = connection.sql("SELECT day FROM uat_default.orders WHERE n = 5")
        assert (len(pruned.to_arrow()), pruned.stats.files_read) == (2, 2)
        answered = connection.sql("SELECT max(n) AS n, count(*) AS c FROM uat_default.orders")
        assert (answered.to_arrow().to_pylist(), answered.stats.files_read) == ([{"n": 5, "c": 10}], 0)


def test_folders_below_are_columns(on_sqlite: Any, report: Report, tmp_path: Path) -> None:
    frame = pl.DataFrame({"state": ["CA", "NY", None], "n": [1, 2, 3]})
    folder = tmp_path / "lake" / "orders"
    for (state,), part in frame.group_by("state"):
        target = folder / f"state={state or '__HIVE_DEFAULT_PARTITION__'}" / "0.parquet"
        target.parent.mkdir(parents=True)
        part.drop("state").write_parquet(target)
        (target.parent / "_SUCCESS").touch()
    report(on_sqlite, str(folder))
    with connect(str(on_sqlite.home), environment="uat", settings={}) as connection:
        result = connection.sql("SELECT n FROM uat_default.orders WHERE state IS NULL OR state = 'CA' ORDER BY n")
        assert (result.to_arrow()["n"].to_pylist(), result.stats.files_read) == ([1, 3], 2)


@pytest.mark.parametrize("dimensions", [{}, {"date": "", "state": ""}], ids=["a", "b"])
def test_a_folder_of_the_whole_table_is_told_apart_by_its_folders(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, dimensions: dict[str, str]
) -> None:
    keys = [("2024-01-01", "CA"), ("2024-01-01", "NY"), ("2024-01-02", "CA")]
    for number, (date, state) in enumerate(keys):
        root = Path(write(f"orders/date={date}/state={state}/0.parquet", n=[number])).parents[2]
    for date, state in keys:
        tags = {"date": date, "state": state} if dimensions else {}
        report(on_sqlite, f"{root}/", f"{date}|{state}", **tags)
    assert partitions(follow(on_sqlite)) == [{"date": date, "state": state, "rows": 1} for date, state in keys]


def test_a_partitions_own_folder_is_all_of_the_partition(
    on_sqlite: Any, follow: Follow, report: Report, write: Write
) -> None:
    for month in (1, 2):
        folder = Path(write(f"orders/x/month={month}/0.parquet", n=[month])).parents[1]
    report(on_sqlite, str(folder), "1")
    assert partitions(follow(on_sqlite)) == [
        {"partition_key": "1", "month": "1", "rows": 1},
        {"partition_key": "1", "month": "2", "rows": 1},
    ]


def test_partitions_that_name_one_object_are_refused(
    on_sqlite: Any, follow: Follow, report: Report, write: Write
) -> None:
    path = write("all.parquet", n=[1, 2])
    report(on_sqlite, path, "a")
    catalog = follow(on_sqlite)
    assert table(catalog).problem is None
    report(on_sqlite, path, "b")
    catalog.refresh()
    assert "partition 'a' and partition 'b' name the same object" in str(table(catalog).problem)
    assert isinstance(table(catalog).problem, UndiscoverableError)


def test_columns_that_files_have_too_stay_theirs(on_sqlite: Any, follow: Follow, report: Report, write: Write) -> None:
    write("orders/year=2024/0.parquet", n=[1], year=[2024])
    report(on_sqlite, str(Path(write("orders/year=2025/0.parquet", n=[1], year=[2025])).parents[1]))
    found = table(follow(on_sqlite))
    assert (found.file_schema.field("year").type, found.partition_schema.names) == (pa.int64(), [])


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_listed_with_its_reason(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, kind: str
) -> None:
    good = write("good.parquet", n=[1])
    report(on_sqlite, good, key="good")
    lake = Path(good).parent
    (lake / "x.csv").write_text("a,b\n1,2\n")
    (lake / "pickled").write_bytes(b"\x80\x05K\x03.")
    (lake / "void.parquet").touch()
    (lake / "folder").mkdir()
    (lake / "folder" / "x.csv").touch()
    write("broken/a.parquet", n=[1])
    (lake / "broken" / "b.parquet").write_bytes(b"torn")
    write("delta/a.parquet", n=[1])
    (lake / "delta" / "_delta_log").mkdir()
    (lake / "delta" / "_delta_log" / "0.json").touch()
    uri, reason = {
        "csv": (str(lake / "x.csv"), "not Parquet: the file does not end with the bytes PAR1"),
        "pickle": (str(lake / "pickled"), "not Parquet"),
        "gone": (str(lake / "none.parquet"), "is gone: there is no object and no folder of that name"),
        "empty": (str(lake / "void.parquet"), "the file is empty"),
        "relative": ("lake/x.parquet", "which is neither an absolute path nor an s3:// URI"),
        "web": ("https://example.org/x.parquet?token=hush", "the materialization names a https:// URL"),
        "no parquet": (str(lake / "folder"), "holds no object whose name ends in .parquet"),
        "broken": (str(lake / "broken"), "b.parquet'): not Parquet"),
        "delta": (str(lake / "delta"), "is a Delta Lake table, whose log says which of its files count"),
    }[kind]
    report(on_sqlite, uri, key="bad")
    catalog = follow(on_sqlite)
    assert table(catalog, "good").problem is None
    (warning,) = table(catalog, "bad").warnings
    assert isinstance(warning, UndiscoverableError)
    assert reason.replace("')", "'") in str(warning)
    assert "hush" not in str(warning)


def test_one_bad_partition_hides_no_other(on_sqlite: Any, follow: Follow, report: Report, write: Write) -> None:
    report(on_sqlite, write("a.parquet", n=[1]), "a")
    report(on_sqlite, "/nowhere/b.parquet", "b")
    found = table(follow(on_sqlite))
    assert (found.problem, len(found.files)) == (None, 1)
    assert "leaves out partition 'b'" in str(found.warnings[0])


def test_objects_outside_of_the_bucket_are_refused(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, file_record: Callable[..., dict[str, Any]]
) -> None:
    report(on_sqlite, write("a.parquet", n=[1]))
    report(on_sqlite, "s3://other/a.parquet", key="other")
    on_sqlite.report(file_record("CA"))
    on_sqlite.report(file_record("NY", uri="s3://elsewhere/x.parquet"))
    catalog = follow(on_sqlite, bucket="bucket")
    for name in ("orders", "other"):
        assert "outside of this environment's bucket" in str(table(catalog, name).problem)
    own = catalog.current().tables[TableName("uat_silver_tax_id", "partitioned_organizations")]
    assert (len(own.files), len(own.warnings)) == (1, 1)
    assert "must start with one of s3://bucket/" in str(own.warnings[0])


@pytest.mark.usefixtures("heavy")
def test_odd_names(on_sqlite: Any, report: Report, write: Write) -> None:
    names = ["a:b", "100%", "ü 日本", "x#y?", "a%20b", "a=b&c", "x..", "{x}", "quote'\""]
    for name in names:
        report(on_sqlite, write(f"path/{name}.parquet", n=[1]), name)
        report(on_sqlite, Path(write(f"url/{name}.parquet", n=[1])).as_uri(), f"{name} url")
        report(on_sqlite, str(Path(write(f"folder/{name}/{name}.parquet", n=[1])).parent), f"{name} folder")
    with connect(str(on_sqlite.home), environment="uat", settings={}) as connection:
        (info,) = connection.tables()
        assert info.warnings == ()
        rows = connection.sql("SELECT partition_key, sum(n) AS n FROM uat_default.orders GROUP BY 1").to_arrow()
        assert {row["partition_key"]: row["n"] for row in rows.to_pylist()} == {
            f"{name}{form}": 1 for name in names for form in ("", " url", " folder")
        }
