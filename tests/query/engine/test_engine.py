"""SQL over a catalog: the answers are right, and only the files that matter are read."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.query.engine.conftest import DAYS, ORGS, TABLE


@pytest.mark.parametrize(
    ("where", "files", "rows"),
    [
        ("state = 'CA' AND date = '2024-01-05'", 1, 10),
        ("state = 'CA'", 7, 70),
        ("date = '2024-01-05'", 4, 40),
        ("date = DATE '2024-01-05' AND state IN ('CA', 'TX', 'XX')", 2, 20),
        ("date BETWEEN '2024-01-02' AND '2024-01-03'", 8, 80),
        ("state = 'CA' OR date = '2024-01-01'", 10, 100),
        ("state IS NULL", 7, 70),
        ("state IS NOT NULL AND date < '2024-01-02'", 3, 30),
        ("state <> 'CA'", 14, 140),
        ("state IS DISTINCT FROM 'CA'", 21, 210),
        ("lower(state) = 'ny'", 7, 70),
        ("state LIKE '_A'", 7, 70),
        ("extract(day FROM date) % 2 = 0", 12, 120),
        ("date_trunc('month', date) = '2024-02-01'", 0, 0),
        ("CASE WHEN state = 'CA' THEN date = '2024-01-01' ELSE state = 'NY' END", 8, 80),
        ("coalesce(state, 'none') = 'none'", 7, 70),
        ("NOT (state = 'CA')", 14, 140),
        ("id = 35", 1, 1),
        ("id >= 270", 1, 10),
        ("id IN (5, 15, 1000)", 2, 2),
        ("id BETWEEN 8 AND 12", 2, 5),
        ("15 > id", 2, 15),
        ("name = 'org 3'", 1, 9),
        ("name IS NULL AND state = 'TX'", 7, 7),
        ("id = 5 OR state = 'NY'", 8, 71),
        ("(id < 10 AND state = 'NY') OR (id < 10 AND state = 'CA')", 1, 10),
        ("id + 1 = 36", 28, 1),
        ("id <> 5", 28, 279),
        ("1 = 1", 28, 280),
        ("1 = 2", 0, 0),
    ],
)
def test_filters_prune_exactly(orgs: Any, where: str, files: int, rows: int) -> None:
    sql = f"SELECT id FROM {TABLE} WHERE {where}"

    assert orgs.sql(sql).num_rows == rows
    assert sum(read for read, _ in orgs.files_read(sql)) == files


def test_partition_columns_come_back_typed(orgs: Any) -> None:
    sql = f"SELECT id, state, date FROM {TABLE} WHERE id IN (0, 275) ORDER BY id"

    assert orgs.rows(sql) == [
        {"id": 0, "state": "CA", "date": dt.date(2024, 1, 1)},
        {"id": 275, "state": None, "date": dt.date(2024, 1, 7)},
    ]


def test_a_table_twice_in_one_query_is_two_scans(orgs: Any) -> None:
    sql = f"""SELECT count(*) AS n FROM {TABLE} a JOIN {TABLE} b ON a.date = b.date
              WHERE a.state = 'CA' AND b.state = 'NY' AND a.date > '2024-01-05'"""

    assert orgs.rows(sql) == [{"n": 200}]
    assert sorted(orgs.files_read(sql)) == [(2, 28), (2, 28)]


def test_equal_subqueries_give_the_right_answer_however_datafusion_merges_them(orgs: Any) -> None:
    one = f"(SELECT sum(id) FROM {TABLE} WHERE state = 'CA')"

    assert orgs.rows(f"SELECT {one} AS a, {one} + 1 AS b") == [{"a": 2415, "b": 2416}]


def test_subqueries_ctes_unions_and_windows(orgs: Any) -> None:
    sql = f"""WITH per AS (SELECT state, count(*) AS n FROM {TABLE} WHERE date = '2024-01-01' GROUP BY state)
              SELECT state, n, rank() OVER (ORDER BY state) AS r FROM per
              WHERE state IN (SELECT state FROM {TABLE} WHERE id < 80)
              UNION ALL SELECT 'all', count(*), 0 FROM {TABLE} WHERE date > '2024-01-06' ORDER BY r, state"""

    assert orgs.rows(sql) == [
        {"state": "all", "n": 40, "r": 0},
        {"state": "CA", "n": 10, "r": 1},
        {"state": "NY", "n": 10, "r": 2},
    ]


def test_a_constant_null_is_no_distinct_value(orgs: Any) -> None:
    """Plain DataFusion answers 1 where it knows the statistics of a constant column: see `test_known_faults.py`."""
    constant = f"SELECT id, CAST(NULL AS DOUBLE) AS x FROM {TABLE}"

    assert orgs.rows(f"SELECT count(*) AS n, count(DISTINCT x) AS d FROM ({constant})") == [{"n": 280, "d": 0}]


def test_parameters_by_position_and_by_name(orgs: Any) -> None:
    by_position = f"SELECT count(*) AS n FROM {TABLE} WHERE state = $1 AND date = $2"
    by_name = f"SELECT count(*) AS n FROM {TABLE} WHERE state = $state"

    assert orgs.rows(by_position, ["CA", dt.date(2024, 1, 5)]) == [{"n": 10}]
    assert orgs.rows(by_name, {"state": "' OR 1=1 --"}) == [{"n": 0}]


@pytest.mark.parametrize("value", ["a:b", "..", "100%", "ü/日本", "a b", "a=b", "%2F", "#?*", "'\"\\", "x" * 300])
def test_any_partition_value_is_found_again(lake: Any, value: str) -> None:
    for other in (value, "other"):
        lake.write(("t",), pa.table({"v": [1]}), {"p": pa.scalar(other)})

    sql = "SELECT p FROM local_default.t WHERE p = $1"

    assert lake.rows(sql, [value]) == [{"p": value}]
    assert [scan.count for scan in lake.prepare(sql, [value]).scans] == [1]


@pytest.mark.parametrize(
    "folder", ["state=CA/date=2024", "a b", "100%", "%41", "a%2Fb", "ü/日本", "a:b", "a+b&c", "q?x#y", "[x]{y}~`^|"]
)
def test_any_object_name_is_read(lake: Any, folder: str) -> None:
    lake.write(("t",), pa.table({"v": [7]}), folder=folder)

    assert lake.rows("SELECT v FROM local_default.t") == [{"v": 7}]


@pytest.mark.parametrize(
    "value",
    [
        pa.scalar(2024, pa.int32()),
        pa.scalar(-1, pa.int64()),
        pa.scalar(True),  # noqa: FBT003
        pa.scalar(dt.datetime(2024, 1, 1, 5), pa.timestamp("us")),  # noqa: DTZ001
        pa.scalar(dt.datetime(2024, 1, 1, 5, tzinfo=dt.UTC), pa.timestamp("ms", "UTC")),
        pa.scalar(1.5),
        pa.scalar(Decimal("12.34"), pa.decimal128(6, 2)),
        pa.scalar(None, pa.int64()),
        pa.scalar(None, pa.timestamp("us")),
    ],
)
def test_partition_columns_of_every_type(lake: Any, value: pa.Scalar) -> None:
    lake.write(("t",), pa.table({"v": [1, 2]}), {"p": value})

    got = lake.sql("SELECT p, sum(v) AS s FROM local_default.t GROUP BY p")

    assert got.to_pylist() == [{"p": value.as_py(), "s": 3}]
    assert got.schema.field("p").type == value.type


@pytest.mark.parametrize("name", ["a b", "größe", "日本", "100%", "select", "Upper", "a/b", "x=y", "a.b", "_p0"])
@pytest.mark.parametrize("values", [["1", "2"], ["1", None]])
def test_partition_columns_of_any_name(lake: Any, name: str, values: list[str | None]) -> None:
    for value in values:
        lake.write(("t",), pa.table({"v": [1]}), {name: pa.scalar(value, pa.string())})

    sql = f'SELECT "{name}" FROM local_default.t WHERE "{name}" = $1'

    assert lake.rows(sql, ["1"]) == [{name: "1"}]
    assert [scan.count for scan in lake.prepare(sql, ["1"]).scans] == [1]
    assert lake.prepare(sql, ["1"]).path == "splice"
    assert lake.sql("SELECT * FROM local_default.t").column_names == ["v", name]


def test_columns_added_dropped_and_widened_read_as_nulls_and_casts(lake: Any) -> None:
    lake.write(("t",), pa.table({"a": pa.array([1], pa.int32()), "gone": ["x"]}), {"p": pa.scalar("1")})
    lake.write(("t",), pa.table({"a": pa.array([2**40], pa.int64()), "b": [1.5]}), {"p": pa.scalar("2")})
    lake.write(("t",), pa.table({"a": pa.array([0.5]), "b": pa.array([2.5], pa.float32())}), {"p": pa.scalar("3")})

    assert lake.rows("SELECT a, gone, b, p FROM local_default.t ORDER BY p") == [
        {"a": 1.0, "gone": "x", "b": None, "p": "1"},
        {"a": 2.0**40, "gone": None, "b": 1.5, "p": "2"},
        {"a": 0.5, "gone": None, "b": 2.5, "p": "3"},
    ]
    assert lake.rows("SELECT count(*) AS n FROM local_default.t WHERE b IS NULL") == [{"n": 1}]
    assert lake.rows("SELECT p FROM local_default.t WHERE a > 2") == [{"p": "2"}]


def test_a_partition_column_that_is_in_the_file_too_comes_from_the_event(lake: Any) -> None:
    rows = pa.table({"date": [dt.date(1999, 1, 1)], "v": [1]})
    lake.write(("t",), rows, {"date": pa.scalar(dt.date(2024, 1, 1), pa.date32())}, folder="2024-01-01")

    assert lake.rows("SELECT date, v FROM local_default.t WHERE date = '2024-01-01'") == [
        {"date": dt.date(2024, 1, 1), "v": 1}
    ]


def test_an_empty_table_and_an_empty_partition(lake: Any) -> None:
    lake.write(("t",), pa.table({"v": pa.array([], pa.int64())}), {"p": pa.scalar("none")})

    assert lake.rows("SELECT count(*) AS n, max(v) AS m FROM local_default.t") == [{"n": 0, "m": None}]
    assert lake.sql("SELECT * FROM local_default.t").num_rows == 0


def test_order_by_and_limit(orgs: Any) -> None:
    assert [row["id"] for row in orgs.rows(f"SELECT id FROM {TABLE} ORDER BY id DESC LIMIT 3")] == [279, 278, 277]
    assert len(orgs.rows(f"SELECT id FROM {TABLE} LIMIT 3")) == 3


def test_a_query_sees_one_generation_and_the_next_sees_the_new_one(orgs: Any) -> None:
    sql = f"SELECT count(*) AS n FROM {TABLE}"
    before = orgs.prepare(sql)

    orgs.write(ORGS, pa.table({"id": [1], "name": ["x"]}), {"state": pa.scalar("WA"), "date": pa.scalar(DAYS[0])})

    assert orgs.engine.run(before).next().to_pylist() == [{"n": 280}]
    assert orgs.rows(sql) == [{"n": 281}]


def test_explain_shows_the_real_files_and_no_template(orgs: Any) -> None:
    prepared = orgs.prepare(f"EXPLAIN SELECT id FROM {TABLE} WHERE state = 'CA' AND date = '2024-01-05'")

    assert prepared.is_explain
    physical = prepared.physical.display_indent()
    assert "data.parquet" in physical
    assert "dagfusion-" not in physical


@pytest.mark.usefixtures("heavy")
def test_threads_share_an_engine(orgs: Any) -> None:
    barrier = threading.Barrier(8)

    def query(i: int) -> int:
        barrier.wait()
        total = 0
        for _ in range(5):
            total += orgs.rows(f"SELECT sum(id) AS s FROM {TABLE} WHERE id BETWEEN {10 * i} AND {10 * i + 9}")[0]["s"]
        return total

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(query, range(8))) == [5 * sum(range(10 * i, 10 * i + 10)) for i in range(8)]


@pytest.mark.usefixtures("heavy")
def test_a_huge_statement_does_not_end_the_process(orgs: Any) -> None:
    terms = " OR ".join(f"id = {i}" for i in range(3_000))

    assert orgs.rows(f"SELECT count(*) AS n FROM {TABLE} WHERE {terms}") == [{"n": 280}]


def test_a_repeated_statement_reuses_its_plan_until_the_catalog_changes(orgs: Any) -> None:
    sql = f"SELECT count(*) AS n FROM {TABLE} WHERE state = $1"
    first = orgs.prepare(sql, ["CA"])

    assert orgs.prepare(sql, ["CA"]) is first
    assert orgs.prepare(sql, ["NY"]) is not first
    assert orgs.prepare(f"{sql} AND now() > '2024-01-01'", ["CA"]) is not orgs.prepare(
        f"{sql} AND now() > '2024-01-01'", ["CA"]
    )
    assert [orgs.rows(sql, ["CA"]) for _ in range(3)] == [[{"n": 70}]] * 3

    orgs.write(
        ORGS, pa.table({"id": [1], "name": ["x"]}), {"state": pa.scalar("CA"), "date": pa.scalar(dt.date(2025, 1, 1))}
    )

    assert orgs.rows(sql, ["CA"]) == [{"n": 71}]


def test_parameters_of_different_types_do_not_share_a_plan(orgs: Any) -> None:
    sql = f"SELECT $1 AS v FROM {TABLE} LIMIT 1"

    assert [orgs.rows(sql, [value]) for value in (1, 1.0, True, "1", None)] == [
        [{"v": 1}],
        [{"v": 1.0}],
        [{"v": True}],
        [{"v": "1"}],
        [{"v": None}],
    ]
    assert [orgs.prepare(sql, [value]).schema.field("v").type for value in (1, 1.0)] == [pa.int64(), pa.float64()]
