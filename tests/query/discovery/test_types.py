"""What discovery accepts of a file, `SELECT *` reads; what it does not accept is left out by column."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_client.errors import UndiscoverableError
from dagfusion_query import connect
from tests.query.discovery.conftest import Report

pytestmark = pytest.mark.usefixtures("heavy")
MOMENT = dt.datetime(2024, 1, 1, 1, 2, 3)  # noqa: DTZ001
FAR = [dt.datetime(9999, 12, 31, 23, 59, 59, 999999), dt.datetime(1, 1, 1), MOMENT, None]  # noqa: DTZ001
TIMES = [(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "America/New_York")]
VALUES: dict[pa.DataType, Any] = {
    **{pa.timestamp(unit, zone): MOMENT for unit, zone in TIMES},
    **{pa.duration(unit): dt.timedelta(1) for unit in ("s", "ms", "us", "ns")},
    **dict.fromkeys([pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")], dt.time(1, 2, 3)),
    **dict.fromkeys([pa.decimal32(5, 2), pa.decimal128(5, 2), pa.decimal256(60, 2)], Decimal("1.50")),
    **dict.fromkeys([pa.binary(), pa.binary(3), pa.large_binary(), pa.binary_view()], b"abc"),
    **dict.fromkeys([pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())], "abc"),
    **dict.fromkeys([pa.date32(), pa.date64()], dt.date(2024, 1, 1)),
    **dict.fromkeys([pa.float16(), pa.float64()], 1.5),
    **{kind: [1, 2] for kind in (pa.list_(pa.int8(), 2), pa.large_list(pa.int8()), pa.list_view(pa.int8()))},
    pa.list_(pa.duration("s")): [dt.timedelta(1)],
    pa.list_(pa.list_(pa.int8(), 2)): [[1, 2]],
    pa.struct([("a", pa.time32("s")), ("b", pa.large_string()), ("c", pa.null())]): {"a": dt.time(1), "b": "x"},
    pa.map_(pa.date32(), pa.list_(pa.int8())): [(dt.date(2024, 1, 1), [1])],
    pa.null(): None,
}
OF_DUCKDB = (
    "INTERVAL 1 DAY", "{'a': 1, 'b': INTERVAL 1 DAY}", "[INTERVAL 1 DAY]", "uuid()", "'a'::ENUM('a', 'b')",
    "170141183460469231731687303715884105727::HUGEINT", "TIME '01:02:03'", "TIMETZ '01:02:03+02'", "'101'::BIT",
    "TIMESTAMPTZ '2024-01-01 00:00:00+02'", "[1, 2]::INT[2]", "MAP {'a': 1}", "18446744073709551615::UBIGINT",
    "1::VARIANT",
)  # fmt: skip


@pytest.fixture
def reads(on_sqlite: Any, report: Report) -> Any:
    """Discover files, each as one table."""
    opened: list[Any] = []

    def discover(*paths: Path) -> Any:
        for path in paths:
            report(on_sqlite, str(path), key=path.stem)
        opened.append(connect(str(on_sqlite.home), environment="uat", settings={}))
        return opened[-1]

    yield discover
    for connection in opened:
        connection.close()


def test_every_type_that_arrow_writes_is_read(reads: Any, tmp_path: Path) -> None:
    paths: dict[Path, pa.Table] = {}
    for number, (kind, value) in enumerate(VALUES.items()):
        for store_schema in (True, False):
            path = tmp_path / f"t{number}{'s' if store_schema else ''}.parquet"
            pq.write_table(pa.table({"c": pa.array([value, None], kind), "z": [1, 2]}), path, store_schema=store_schema)
            paths[path] = pq.read_table(path)
    connection = reads(*paths)
    for path, expected in paths.items():
        found = connection.sql(f"SELECT * FROM uat_default.{path.stem} ORDER BY z").to_arrow()
        assert (expected.schema, found.to_pylist()) == (expected.schema, expected.to_pylist())


def test_every_type_that_duckdb_writes_is_read_or_left_out(reads: Any, tmp_path: Path) -> None:
    paths = [tmp_path / f"d{number}.parquet" for number in range(len(OF_DUCKDB))]
    for path, expression in zip(paths, OF_DUCKDB, strict=True):
        columns = f"1 AS a, {expression} AS c, 2 AS z, TIMESTAMP '2024-01-01' AS t"
        duckdb.sql(f"COPY (SELECT {columns}) TO '{path}' (FORMAT PARQUET)")
    connection = reads(*paths)
    for path, expression in zip(paths, OF_DUCKDB, strict=True):
        rows = connection.sql(f"SELECT * FROM uat_default.{path.stem}").to_arrow().to_pylist()
        assert {**rows[0], "c": ""} == {"a": 1, "z": 2, "t": dt.datetime(2024, 1, 1), "c": ""}, expression  # noqa: DTZ001
        assert ("c" in rows[0]) == ("INTERVAL" not in expression)
    (info,) = [info for info in connection.tables() if info.name.endswith(".d0")]
    assert info.problem is None
    assert "leaves out column 'c', because its type cannot be read: it is interval in the unpart" in info.warnings[0]
    with pytest.raises(UndiscoverableError, match="leaves out column 'c'"):
        connection.sql("SELECT c FROM uat_default.d0")


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_int96_timestamps_have_the_years_that_others_have(reads: Any, tmp_path: Path, zone: str | None) -> None:
    moments = pa.array(FAR, pa.timestamp("us", zone))
    rows = pa.table({"i": [1, 2, 3, 4], "t": moments, "s": pa.StructArray.from_arrays([moments], ["t"])})
    pq.write_table(rows, tmp_path / "old.parquet", use_deprecated_int96_timestamps=True)
    connection = reads(tmp_path / "old.parquet")
    found = connection.sql("SELECT i, t, s['t'] AS st FROM uat_default.old ORDER BY i").to_arrow()
    for column in ("t", "st"):
        assert found[column].cast(pa.int64()).to_pylist() == moments.cast(pa.int64()).to_pylist()
        assert found[column].type == pa.timestamp("us")
    late = connection.sql(
        "SELECT i FROM uat_default.old WHERE t > $1", [moments[2].cast(pa.timestamp("us"))]
    ).to_arrow()
    assert late["i"].to_pylist() == [1]
