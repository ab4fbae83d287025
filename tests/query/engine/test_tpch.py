"""All 22 TPC-H queries over partitioned copies of the tables give DuckDB's answers."""

import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_tpch
import pyarrow as pa
import pyarrow.compute as pc
import pytest

SCALE = 0.02
PARTITIONED_BY = {
    "lineitem": ["l_shipmode", "l_linestatus"],
    "orders": ["o_orderpriority"],
    "customer": ["c_mktsegment"],
    "part": ["p_mfgr"],
    "partsupp": [],
    "supplier": ["s_nationkey"],
    "nation": ["n_regionkey"],
    "region": [],
}


@pytest.fixture(scope="module")
def tpch(
    tmp_path_factory: pytest.TempPathFactory,
    lake_class: Any,
    heavy: None,  # noqa: ARG001
) -> Iterator[tuple[Any, duckdb.DuckDBPyConnection]]:
    peer = duckdb.connect(config={"allow_unsigned_extensions": False})
    (extension,) = Path(duckdb_extension_tpch.__file__).parent.rglob("*.duckdb_extension")
    peer.load_extension(str(extension))
    peer.execute(f"CALL dbgen(sf = {SCALE})")
    lake = lake_class(tmp_path_factory.mktemp("tpch"))
    for name, columns in PARTITIONED_BY.items():
        for values, rows in _partitions(peer.sql(f"FROM {name}").to_arrow_table(), columns):
            lake.write(("tpch", name), rows, values)
    yield lake, peer
    lake.engine.close()
    peer.close()


@pytest.mark.parametrize("number", range(1, 23))
def test_answers_are_duckdbs(tpch: tuple[Any, duckdb.DuckDBPyConnection], number: int) -> None:
    lake, peer = tpch
    row = peer.execute("SELECT query FROM tpch_queries() WHERE query_nr = ?", [number]).fetchone()
    assert row is not None
    query = row[0].strip().rstrip(";")
    expected = peer.execute(query).fetchall()

    prepared = lake.prepare(_over_lake(query))
    answer = lake.sql(_over_lake(query))

    assert prepared.path == "splice"
    _assert_equal([tuple(row.values()) for row in answer.to_pylist()], expected)


def test_filters_on_a_partition_column_skip_files(tpch: tuple[Any, duckdb.DuckDBPyConnection]) -> None:
    lake, _ = tpch

    scans = lake.prepare("SELECT sum(l_quantity) FROM local_tpch.lineitem WHERE l_shipmode = 'AIR'").scans

    assert [(scan.count, len(scan.table.files)) for scan in scans] == [(2, 14)]


def _partitions(table: pa.Table, columns: list[str]) -> Iterator[tuple[dict[str, pa.Scalar], pa.Table]]:
    if not columns:
        yield {}, table
        return
    for values in table.select(columns).group_by(columns).aggregate([]).to_pylist():
        scalars = {name: pa.scalar(value, table.schema.field(name).type) for name, value in values.items()}
        rows = table
        for name, scalar in scalars.items():
            rows = rows.filter(pc.equal(rows[name], scalar))
        yield scalars, rows.drop_columns(columns)


def _over_lake(query: str) -> str:
    """Let the query's bare table names mean the lake's tables."""
    tables = ", ".join(f"{name} AS (SELECT * FROM local_tpch.{name})" for name in PARTITIONED_BY)
    if query.upper().startswith("WITH"):
        return f"WITH {tables}, {query[4:]}"
    return f"WITH {tables} {query}"


def _assert_equal(answer: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    """Compare rows in any order; numbers to the 6 digits that DataFusion gives an average of decimals."""
    for row, other in zip(sorted(answer, key=_key), sorted(expected, key=_key), strict=True):
        for value, wanted in zip(row, other, strict=True):
            if isinstance(wanted, Decimal | float):
                assert math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-6), (row, other)
            else:
                assert value == wanted, (row, other)


def _key(row: tuple[Any, ...]) -> str:
    return repr([round(float(value), 3) if isinstance(value, Decimal | float) else value for value in row])
