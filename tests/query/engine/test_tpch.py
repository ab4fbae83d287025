"""All 22 TPC-H queries over partitioned copies of the tables give DuckDB's answers."""

import math
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import duckdb_extension_tpch
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dagfusion_query.scan import large_objects, table_scan
from tests.query.engine.consolidating import consolidate

SCALE = 0.02
# The queries that are also run over consolidated tables; all of them with DAGFUSION_TPCH=all.
CONSOLIDATED = range(1, 23) if os.environ.get("DAGFUSION_TPCH") == "all" else (3, 5, 9, 13, 18, 21)
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


@pytest.fixture(scope="module")
def consolidated(tpch: tuple[Any, duckdb.DuckDBPyConnection]) -> Iterator[tuple[Any, duckdb.DuckDBPyConnection]]:
    """The same tables, whose partitions are also in large objects."""
    lake, _ = tpch
    rng = Random(1)  # noqa: S311
    for table in list(lake.snapshot.tables.values()):
        if table.partition_schema.names:
            consolidate(lake, table, rng, group_rows=8192)
    with pytest.MonkeyPatch.context() as patched:
        for module in (large_objects, table_scan):
            patched.setattr(module, "FOOTER_REQUESTS", -(1 << 20))  # few files are worth a large object, too
        yield tpch


@pytest.mark.parametrize("number", CONSOLIDATED)
def test_consolidated_tables_give_the_same_answers(
    consolidated: tuple[Any, duckdb.DuckDBPyConnection], number: int
) -> None:
    lake, peer = consolidated
    row = peer.execute("SELECT query FROM tpch_queries() WHERE query_nr = ?", [number]).fetchone()
    assert row is not None
    query = row[0].strip().rstrip(";")

    prepared = lake.prepare(_over_lake(query))
    answer = lake.sql(_over_lake(query))

    assert prepared.path == "splice"
    assert any(scan.large is not None for scan in prepared.scans)
    _assert_equal([tuple(row.values()) for row in answer.to_pylist()], peer.execute(query).fetchall())


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
