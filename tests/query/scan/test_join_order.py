"""Joins begin with the smaller input, by the rows of the catalog, whatever the statement's order."""

import datetime as dt
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from dagfusion_query.engine.engine import Engine
from dagfusion_query.scan import splice
from dagfusion_query.settings import Settings
from tests.query.peer import duckdb_peer

pytestmark = pytest.mark.usefixtures("heavy")
FILES, ROWS, DIM, MID = 6, 400, 20, 90
STAR = "SELECT d.name, m.label, sum(v) AS total FROM {} GROUP BY 1, 2"
ORDERS = [
    "fact f JOIN dim d ON f.k = d.k JOIN mid m ON f.m = m.m",
    "dim d JOIN fact f ON f.k = d.k JOIN mid m ON f.m = m.m",
    "mid m JOIN fact f ON f.m = m.m JOIN dim d ON f.k = d.k",
    "fact f, mid m, dim d WHERE f.k = d.k AND f.m = m.m",
]
# Statements with one join, and how the plan that begins with the small table calls it.
JOINS = {
    "SELECT * FROM fact f JOIN dim d ON f.k = d.k": "Inner",
    "SELECT * FROM fact f JOIN dim d ON f.k = d.k ORDER BY v LIMIT 5": "Inner",
    "SELECT * FROM dim d JOIN fact f ON f.k = d.k": "Inner",
    "SELECT v, name FROM fact f LEFT JOIN dim d ON f.k = d.k": "Right",
    "SELECT v, name FROM dim d RIGHT JOIN fact f ON f.k = d.k": "Right",
    "SELECT v, name FROM fact f FULL JOIN dim d ON f.k = d.k AND v > 0.5": "Full",
    "SELECT v FROM fact WHERE k IN (SELECT k FROM dim WHERE name > 'n2')": "RightSemi",
    "SELECT v FROM fact f WHERE NOT EXISTS (SELECT 1 FROM dim d WHERE d.k = f.k)": "RightAnti",
    "SELECT count(*) AS c, (SELECT count(*) FROM (FROM dim LIMIT 7)) AS n FROM fact f JOIN dim d ON f.k = d.k": "Inner",
}
# Statements whose answer has to be right, whatever their plan is.
OTHERS = [
    "SELECT v FROM fact WHERE k NOT IN (SELECT k FROM dim)",
    "SELECT v FROM fact WHERE k NOT IN (SELECT nullif(k, 3) FROM dim)",
    "SELECT v FROM fact WHERE v > 0.9 OR k IN (SELECT k FROM dim WHERE name = 'n2')",
    "SELECT * FROM fact f JOIN dim d ON f.k = d.k UNION ALL SELECT * FROM fact f LEFT JOIN dim d ON f.m = d.k",
    "SELECT count(*), max(f.p), min(m.r) FROM fact f CROSS JOIN mid m",
    "SELECT count(*), sum(v) FROM fact f JOIN dim d ON f.k < d.k",
    "SELECT count(*) FROM (SELECT DISTINCT k FROM fact) f JOIN (SELECT k FROM dim LIMIT 3) d ON f.k = d.k",
    "SELECT min(p), max(p) FROM fact WHERE p IN (SELECT 'p' || k FROM dim)",
    "SELECT f.p, m.r, count(*) FROM fact f JOIN mid m ON f.m = m.m GROUP BY ALL ORDER BY f.p",
    "SELECT count(*) FROM dim CROSS JOIN (VALUES (1), (2)) v",
    "SELECT f.k, row_number() OVER (ORDER BY v, f.k) FROM fact f JOIN dim d ON f.k = d.k",
]


@pytest.fixture
def star(lake: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, duckdb.DuckDBPyConnection]]:
    """A large table and two small ones, in a lake and in DuckDB."""
    monkeypatch.setattr(splice, "SMALL_ROWS", ROWS)
    lake.with_etags = True  # a plan has an identity then
    rng, peer = np.random.default_rng(1), duckdb_peer()
    keys: dict[str, list[tuple[pa.Table, dict[str, pa.Scalar]]]] = {"fact": [], "dim": [], "mid": []}
    for number in range(FILES):
        columns = {"k": rng.integers(0, DIM + 5, ROWS), "m": rng.integers(0, MID, ROWS), "v": rng.random(ROWS)}
        keys["fact"].append((pa.table(columns), {"p": pa.scalar(f"p{number}")}))
    keys["dim"].append((pa.table({"k": np.arange(DIM), "name": [f"n{i % 7}" for i in range(DIM)]}), {}))
    labels = [f"l{i % 9}" for i in range(MID)]
    keys["mid"].append((pa.table({"m": np.arange(MID), "label": labels}), {"r": pa.scalar("x")}))
    for name, files in keys.items():
        for rows, values in files:
            lake.write((name,), rows, values)
        parts = [rows.append_column("p", pa.repeat(v["p"], len(rows))) if "p" in v else rows for rows, v in files]
        parts = [rows.append_column("r", pa.repeat("x", len(rows))) if name == "mid" else rows for rows in parts]
        peer.register(name, pa.concat_tables(parts))
    yield lake, peer
    peer.close()


@pytest.mark.parametrize("order", ORDERS)
def test_a_star_is_read_past_its_small_tables(star: Any, order: str) -> None:
    lake, peer = star
    sql = STAR.format(order)

    plan = _plan(lake, sql)

    builds = [_tables(build) for build in _builds(plan)]
    assert sorted(builds) == [["dim"], ["mid"]]
    assert plan.count("mode=CollectLeft") == 2
    assert _rounded(lake.sql(_named(sql))) == _rounded(peer.execute(sql).to_arrow_table())


@pytest.mark.parametrize("sql", JOINS)
def test_a_join_begins_with_the_small_table(star: Any, sql: str) -> None:
    lake, peer = star

    plan = _plan(lake, sql)

    assert [_tables(build) for build in _builds(plan)] == [["dim"]]
    assert f"join_type={JOINS[sql]}," in plan
    answer, expected = lake.sql(_named(sql)), peer.execute(sql).to_arrow_table()
    assert answer.column_names == [name.removesuffix("_1") for name in expected.column_names]
    assert _rounded(answer) == _rounded(expected)


@pytest.mark.parametrize("sql", OTHERS)
def test_no_answer_is_taken_from_witnesses(star: Any, sql: str) -> None:
    lake, peer = star

    assert _rounded(lake.sql(_named(sql))) == _rounded(peer.execute(sql).to_arrow_table())


DECIMAL_1, DECIMAL_38 = pa.decimal128(1, 1), pa.decimal128(38, 10)
VALUES: dict[pa.DataType, list[Any]] = {
    **{kind: [2, 1, 3] for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{kind: [2, 1, 3] for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{kind: [2.0, 1.0, 3.0] for kind in (pa.float32(), pa.float64())},
    pa.string(): ["b", "a", "c"],
    pa.bool_(): [True, False],
    pa.date32(): [dt.date(2024, 1, 2), dt.date(2024, 1, 1), dt.date(2024, 1, 3)],
    pa.timestamp("us"): [dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 3)],  # noqa: DTZ001
    pa.timestamp("ns", "UTC"): [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in (2, 1, 3)],
    DECIMAL_1: [Decimal("0.2"), Decimal("0.1"), Decimal("0.3")],
    DECIMAL_38: [Decimal(2), Decimal(1), Decimal(3)],
}
SORTED = [
    "SELECT u.id FROM u JOIN s ON u.y = s.y WHERE u.a = u.p ORDER BY u.p, u.id DESC LIMIT 3",
    "SELECT u.id FROM u JOIN s ON u.y = s.y WHERE u.a <= u.p ORDER BY u.a, u.id DESC LIMIT 3",
    "SELECT u.id FROM u JOIN s ON u.y = s.y WHERE u.a BETWEEN u.p AND u.p ORDER BY u.a, u.id DESC",
    "SELECT u.id FROM s JOIN u ON u.y = s.y AND u.p = u.a ORDER BY u.p, s.y, u.id LIMIT 3",
    "SELECT u.id FROM u WHERE u.a = u.p AND u.y IN (SELECT y FROM s) ORDER BY u.p, u.id DESC LIMIT 3",
    "SELECT DISTINCT u.p FROM u JOIN s ON u.y = s.y WHERE u.a = u.p ORDER BY u.p LIMIT 1",
    (
        "SELECT q.p, q.n FROM (SELECT u.p, max(u.a) AS a, count(*) AS n FROM u JOIN s ON u.y = s.y GROUP BY u.p) q"
        " WHERE q.a = q.p ORDER BY q.p LIMIT 1"
    ),
    (
        "SELECT u.id, rank() OVER (PARTITION BY u.p ORDER BY u.id) AS r FROM u JOIN s ON u.y = s.y WHERE u.a = u.p"
        " ORDER BY u.id"
    ),
]
OF_NUMBERS = [
    "SELECT u.id FROM u JOIN s ON u.y = s.y WHERE u.p + u.a > 2 ORDER BY u.p, u.id DESC LIMIT 3",
    "SELECT u.id FROM u JOIN s ON u.y = s.y WHERE u.p * 2 > u.a ORDER BY u.p, u.id DESC LIMIT 3",
    "SELECT u.id FROM u JOIN s ON u.y = s.y WHERE u.a + u.p = 2 ORDER BY u.a, u.id DESC LIMIT 3",
    "SELECT u.id FROM u JOIN s ON u.y = s.y WHERE u.p > 1 OR u.a = 1 ORDER BY u.a, u.id DESC LIMIT 3",
]


@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_a_partition_column_is_not_taken_for_the_constant_of_its_witnesses(
    new_lake: Any, kind: pa.DataType, parallelism: int
) -> None:
    """A sort by a constant is none, so rows would come in any order, and a limit would keep any of them."""
    lake, peer = new_lake(settings={"DAGFUSION_PARALLELISM": str(parallelism)}), duckdb_peer()
    peer.execute("SET TimeZone = 'UTC'")
    written = []
    for number, value in enumerate(VALUES[kind]):
        ids = pa.array([10 * number + row for row in range(3)], pa.int64())
        rows = pa.table({"id": ids, "y": pa.array([1, 2, 9], pa.int64()), "a": pa.array([value] * 3, kind)})
        lake.write(("u",), rows, {"p": pa.scalar(value, kind)})
        written.append(rows.append_column("p", pa.array([value] * 3, kind)))
    small = pa.table({"y": pa.array([1, 2], pa.int64())})
    lake.write(("s",), small, {"q": pa.scalar(1)})
    peer.register("u", pa.concat_tables(written))
    peer.register("s", small)
    for sql in [*SORTED, *(OF_NUMBERS if VALUES[kind][0] == 2 else [])]:
        answer = lake.sql(re.sub(r"\b(FROM|JOIN) ([us])\b", r"\1 local_default.\2 \2", sql)).to_pylist()
        assert answer == peer.execute(sql).to_arrow_table().to_pylist(), sql
    peer.close()


@pytest.mark.parametrize("sql", OF_NUMBERS)
def test_one_partition_is_not_taken_for_that_of_its_witness(new_lake: Any, sql: str) -> None:
    lake = new_lake(settings={"DAGFUSION_PARALLELISM": "4"})
    rows = pa.table({"id": [1, 2, 3], "y": [1, 2, 9], "a": [2, 1, 3]})
    lake.write(("u",), rows, {"p": pa.scalar(5)})
    lake.write(("s",), pa.table({"y": [1, 2]}), {"q": pa.scalar(1)})
    with duckdb_peer() as peer:
        peer.register("u", rows.append_column("p", pa.array([5, 5, 5])))
        peer.register("s", pa.table({"y": [1, 2]}))
        expected = peer.execute(sql).to_arrow_table().to_pylist()
    assert lake.sql(re.sub(r"\b(FROM|JOIN) ([us])\b", r"\1 local_default.\2 \2", sql)).to_pylist() == expected


@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("other", ["EXISTS (SELECT 1 FROM s)", "q.y NOT IN (SELECT y + 7 FROM s)"])
def test_a_limit_leaves_no_partition_column_constant(
    new_lake: Any, monkeypatch: pytest.MonkeyPatch, other: str, parallelism: int
) -> None:
    """The first witness alone has as many rows as a limit needs."""
    monkeypatch.setattr(splice, "SMALL_ROWS", 2)
    lake = new_lake(settings={"DAGFUSION_PARALLELISM": str(parallelism)})
    for value in (2, 1, 3):
        rows = pa.table({"id": [10 * value + row for row in range(3)], "y": [1, 2, 3], "a": [value] * 3})
        lake.write(("u",), rows, {"p": pa.scalar(value)})
    lake.write(("s",), pa.table({"y": [1, 2]}), {"q": pa.scalar(1)})
    sql = f"SELECT q.id FROM (SELECT * FROM u LIMIT 9) q WHERE q.a = q.p AND {other} ORDER BY q.p DESC, q.id LIMIT 4"

    answer = lake.sql(re.sub(r"\bFROM ([us])\b", r"FROM local_default.\1", sql))

    assert answer["id"].to_pylist() == [30, 31, 32, 20]


def test_no_bound_of_a_filter_is_that_of_a_witness(new_lake: Any) -> None:
    lake, kind = new_lake(), pa.timestamp("us")
    for number, year in enumerate([1600, 1500, 1700]):
        value = pa.scalar(dt.datetime(year, 1, 1), kind)  # noqa: DTZ001
        rows = pa.table({"id": [number], "y": [1], "a": pa.array([value.as_py()], kind)})
        lake.write(("u",), rows, {"p": value})
    lake.write(("s",), pa.table({"y": [1, 2]}), {"q": pa.scalar(1)})
    sql = (
        "SELECT u.id FROM local_default.u JOIN local_default.s ON u.y = s.y"
        " WHERE u.a = u.p AND u.a <= arrow_cast('1678-01-01', 'Timestamp(Microsecond, None)') ORDER BY u.p"
    )

    assert lake.sql(sql)["id"].to_pylist() == [1, 0]


def test_pruning_counts(star: Any) -> None:
    lake, _ = star
    lake.write(("wide",), pa.table({"m": np.arange(2 * ROWS)}))

    first = [_tables(b) for b in _builds(_plan(lake, "SELECT count(*) FROM fact f JOIN wide w ON f.m = w.m"))]
    pruned = _plan(lake, "SELECT count(*) FROM wide w JOIN fact f ON f.m = w.m WHERE f.p = 'p1'")

    assert first == [["wide"]]
    assert [_tables(b) for b in _builds(pruned)] == [["fact"]]


def test_a_joined_input_is_not_taken_for_a_small_one(star: Any) -> None:
    lake, _ = star
    sql = "SELECT count(*) FROM fact f JOIN mid m ON f.m = m.m JOIN (SELECT * FROM fact WHERE v > 0.5) g ON f.v = g.v"

    plan = _plan(lake, sql)

    assert plan.count("mode=CollectLeft") == 1
    assert plan.count("mode=Partitioned") == 1


def test_every_process_makes_the_same_plan(star: Any) -> None:
    lake, _ = star
    sql = _named(STAR.format(ORDERS[0]))
    other = Engine(Settings.read({"DAGFUSION_HOME": str(lake.root / "home")}))

    identities = {engine.prepare(sql, None, lake.snapshot).identity for engine in (lake.engine, other)}
    other.close()

    assert len(identities) == 1
    assert None not in identities


def _named(sql: str) -> str:
    return re.sub(r"\b(fact|dim|mid|wide)\b(?! *[.=])", r"local_default.\1", sql)


def _plan(lake: Any, sql: str) -> str:
    prepared = lake.prepare(_named(sql))
    assert prepared.path == "splice"
    return str(lake.engine.explain(prepared).physical)


def _builds(plan: str) -> list[str]:
    """Return the first input of each hash join of a plan's text."""
    lines = plan.splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.lstrip().startswith("HashJoinExec"):
            depth = len(lines[number + 1]) - len(lines[number + 1].lstrip())
            after = lines[number + 2 :]
            end = next(i for i, one in enumerate(after) if len(one) - len(one.lstrip()) <= depth)
            found.append("\n".join([lines[number + 1], *after[:end]]))
    return found


def _tables(plan: str) -> list[str]:
    return sorted(set(re.findall(r"/(fact|dim|mid|wide)/", plan)))


def _rounded(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [column.to_pylist() for column in table.columns]
    rows = zip(*([round(v, 6) if isinstance(v, float) else v for v in column] for column in columns), strict=True)
    return sorted(rows, key=repr)
