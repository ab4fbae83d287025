"""Clients of the Iceberg catalog give DagFusion's rows of the tables of TPC-H, and its answers to the statements."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from dagfusion_query import connect
from tests.interop.spark import tpch
from tests.interop.spark.answers import key
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake
from tests.server.doors.iceberg.other_clients import ClientError, Daft

SCALE = 0.01
PARTITIONED_BY = {"lineitem": "l_returnflag", "orders": "o_orderstatus", "customer": "c_mktsegment"}
_DIGITS = 1e-6  # averages of decimals are doubles in some clients
# What the SQL of Daft 0.7.26 does not have, in its words: drop a number when an upgrade runs its statement.
NOT_IN_DAFT = {
    1: "Cannot infer supertypes for multiply on types: Decimal",
    8: "Expected if_true and if_false arguments for if_else to be castable",
    9: "Cannot infer supertypes for subtraction on types: Decimal",
    14: "Expected if_true and if_false arguments for if_else to be castable",
    21: "Outer reference columns cannot be bound",
    22: "Unsupported SQL: '`SUBSTRING",
}
pytestmark = [
    pytest.mark.usefixtures("long"),
    pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning"),
]


class Answers(NamedTuple):
    """What a client answers.

    Attributes:
        table: Returns a table of the schema `uat_default`.
        sql: Runs a statement. Names of the lake's tables in it begin with `prefix`.
        prefix: What stands for `uat_default.` there.
        refused: The statements that it cannot run, and what it says of them.
    """

    table: Callable[[str], pa.Table]
    sql: Callable[[str], pa.Table]
    prefix: str = "lake_"
    refused: Mapping[int, str] = {}


@pytest.fixture(scope="module")
def queries(request: pytest.FixtureRequest, lake: Lake, s3_fields: dict[str, Any]) -> Mapping[int, str]:
    """The statements, over tables whose files have what a client needs."""
    options = Daft.options if request.param == "with ids" else {}
    writer = tpch.Writer.over(lake.instance, {**s3_fields, "prefix": "iceberg"}, options)
    queries = tpch.materialize(writer, SCALE, PARTITIONED_BY)
    lake.environments.refresh(PATIENCE_S)
    assert len(queries) == 22
    return queries


@contextmanager
def by_duckdb(lake: Lake, _: pytest.FixtureRequest) -> Iterator[Answers]:
    with lake.duckdb() as duck:

        def sql(statement: str) -> pa.Table:
            return duck.execute(statement).to_arrow_table()

        yield Answers(lambda name: sql(f"SELECT * FROM lake.uat_default.{name}"), sql, "lake.uat_default.")


@contextmanager
def by_polars(lake: Lake, _: pytest.FixtureRequest) -> Iterator[Answers]:
    loaded = {name: lake.pyiceberg().load_table(f"uat_default.{name}") for name in tpch.TABLES}
    frames = {name: pl.scan_iceberg(table, storage_options=table.config) for name, table in loaded.items()}
    context = pl.SQLContext({f"lake_{name}": frame for name, frame in frames.items()})
    yield Answers(
        lambda name: frames[name].collect().to_arrow(),
        lambda statement: context.execute(statement).collect().to_arrow(),
    )


@contextmanager
def by_pyiceberg(lake: Lake, _: pytest.FixtureRequest) -> Iterator[Answers]:
    """It has no SQL: DuckDB runs the statements over what it read."""
    tables = {name: lake.pyiceberg().load_table(f"uat_default.{name}").scan().to_arrow() for name in tpch.TABLES}
    with duckdb.connect() as duck:
        for name, table in tables.items():
            duck.register(f"lake_{name}", table)
        yield Answers(tables.__getitem__, lambda statement: duck.execute(statement).to_arrow_table())


@contextmanager
def by_daft(lake: Lake, request: pytest.FixtureRequest) -> Iterator[Answers]:
    daft: Daft = request.getfixturevalue("daft")
    with connect(settings=lake.variables) as own:
        columns = {one.name: [*one.columns] for one in own.tables()}
    reads = {name: daft.loaded(f"uat_default.{name}", columns[f"uat_default.{name}"]) for name in tpch.TABLES}
    yield Answers(lambda name: reads[name](), daft.sql, refused=NOT_IN_DAFT)


FILES = {"daft": "with ids"}
CLIENTS = {"daft": by_daft, "duckdb": by_duckdb, "polars": by_polars, "pyiceberg": by_pyiceberg}


@pytest.mark.parametrize(
    ("queries", "client"),
    [(FILES.get(name, "plain"), name) for name in sorted(CLIENTS)],
    indirect=["queries"],
    ids=sorted(CLIENTS),
    scope="module",  # or each of them writes the tables again
)
def test_tpch(
    lake: Lake,
    queries: Mapping[int, str],
    client: str,
    request: pytest.FixtureRequest,
    processes: None,  # noqa: ARG001  # Daft is one
) -> None:
    with CLIENTS[client](lake, request) as answers, connect(settings=lake.variables) as own:
        for name in tpch.TABLES:
            found, wanted = (
                pl.DataFrame(table)
                for table in (answers.table(name), own.sql(f"SELECT * FROM uat_default.{name}").to_arrow())
            )
            assert_frame_equal(found.select(wanted.columns), wanted, check_row_order=False, check_dtypes=False)
        for number, sql in queries.items():
            statement = sql.replace("uat_default.", answers.prefix)
            if (reason := answers.refused.get(number)) is not None:
                with pytest.raises(ClientError) as raised:
                    answers.sql(statement)
                assert reason in str(raised.value), number
                continue
            check(number, answers.sql(statement), own.sql(sql).to_arrow())


def check(number: int, table: pa.Table, expected: pa.Table) -> None:
    found, wanted = ordered(table), ordered(expected)
    assert len(found) == len(wanted), number
    for row, other in zip(found, wanted, strict=True):
        assert all(map(is_close, row, other)), (number, row, other)


def ordered(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=key)


def is_close(value: Any, wanted: Any) -> bool:
    numbers = (int, float, Decimal)
    if isinstance(value, numbers) and isinstance(wanted, numbers):
        return math.isclose(value, wanted, rel_tol=_DIGITS, abs_tol=_DIGITS)
    return bool(value == wanted)
