"""Parameters have the same values, types and errors behind every door."""

import datetime as dt
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import ParameterError, PlanError, QueryError
from dagfusion_query import Connection
from tests.server.doors.conftest import CONNECTIONS, Doors
from tests.server.doors.doors import Door
from tests.tiers import examples

MOMENT = dt.datetime(2024, 1, 5, 1, 2, 3, tzinfo=dt.UTC)
VALUES: Sequence[Any] = (
    *(None, True, 5, -(2**63), 1.5, -0.0, "a", "it's", "", "' OR true --", "7", "2024-01-05", "a=b"),
    *(dt.date(2024, 1, 5), dt.datetime(2024, 1, 5, 1, 2, 3, 4), MOMENT),  # noqa: DTZ001
)
UNWRITTEN: Sequence[Any] = (
    *(math.inf, b"\x00\xff", dt.time(1, 2, 3), dt.timedelta(seconds=5), Decimal("-1.50"), 2**64 - 1),
    *(pa.scalar(1, pa.int8()), pa.scalar(1.5, pa.float32()), pa.scalar(None, pa.date32())),
    *(pa.scalar(1, pa.timestamp("ns", "Europe/Berlin")), pa.scalar(b"ab", pa.binary(2)), pa.scalar(7, pa.time32("s"))),
)  # what the command line has no form for


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_parameter_is_its_value(door: Door, value: Any) -> None:
    _check_value(door.table("SELECT $1 AS x, $1 IS NULL AS missing", [value]), pa.scalar(value))


@pytest.mark.parametrize("value", UNWRITTEN, ids=repr)
def test_a_parameter_of_a_connection_is_its_value(connection: Connection, value: Any) -> None:
    expected = value if isinstance(value, pa.Scalar) else pa.scalar(value, pa.uint64() if value == 2**64 - 1 else None)

    _check_value(connection.sql("SELECT $1 AS x, $1 IS NULL AS missing", [value]).to_arrow(), expected)


def _check_value(table: pa.Table, expected: pa.Scalar) -> None:
    assert table["x"].type == expected.type
    assert str(table["x"].to_pylist()) == str([expected.as_py()])  # a zero has its sign
    assert table["missing"].to_pylist() == [not expected.is_valid]


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.times(),
    st.timedeltas(dt.timedelta(days=-100_000), dt.timedelta(days=100_000)),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**20), max_value=10**20),
)


def test_any_parameters_are_the_same_for_all_connections(doors: Doors) -> None:
    @settings(max_examples=examples(25))
    @given(st.lists(ANY, min_size=1, max_size=4))
    def check(values: list[Any]) -> None:
        sql = "SELECT " + ", ".join(f"${n} AS c{n}" for n in range(1, len(values) + 1))
        embedded, *others = (doors.open(name).table(sql, values) for name in CONNECTIONS)
        for found in others:
            assert found.schema == embedded.schema
            assert str(found.to_pylist()) == str(embedded.to_pylist())

    check()


@pytest.mark.parametrize(
    ("sql", "params", "row"),
    [
        ("SELECT $b AS x, $a AS y", {"a": 1, "b": "z"}, ["z", 1]),
        ("SELECT $a AS x, $A AS y", {"a": 1, "A": 2}, [1, 2]),
        ("SELECT $2 AS x, $1 AS y, $2 AS z", ["a", "b"], ["b", "a", "b"]),
        ("SELECT $1 AS x", {"1": 7}, [7]),
        ("SELECT $1 AS x", [1, 2], [1]),
        ("SELECT $a AS x", {"a": 1, "b": 2}, [1]),
        ("SELECT 1 AS x", [5], [1]),
        ("SELECT 1 AS x", {}, [1]),
        ("SELECT '$1' AS x", [], ["$1"]),
    ],
)
def test_parameters_are_found_by_their_names(connection: Connection, sql: str, params: Any, row: list[Any]) -> None:
    table = connection.sql(sql, params).to_arrow()

    assert [column[0].as_py() for column in table.columns] == row
    assert connection.explain(sql, params).path == "catalog"


@pytest.mark.parametrize(
    ("sql", "params", "error", "words"),
    [
        ("SELECT $1, $2", [1], PlanError, r"No value found for placeholder with name \$2"),
        ("SELECT $a", [1], PlanError, r"No value found for placeholder with name \$a"),
        ("SELECT $1", {"a": 1}, PlanError, r"No value found for placeholder with name \$1"),
        ("SELECT $a, $b", {"a": 1}, PlanError, r"No value found for placeholder with name \$b"),
        ("SELECT $1 + 'a'", ["b"], PlanError, "Cannot coerce"),
        ("SELECT $1", [object()], ParameterError, r"parameter \$1 of type object has no Arrow type"),
        ("SELECT $1, $2", [1, 2**70], ParameterError, r"parameter \$2 of type int has no Arrow type"),
        ("SELECT $a", {"a": "\ud800"}, ParameterError, r"parameter \$a of type str has no Arrow type"),
    ],
)
def test_parameters_that_do_not_fit(
    connection: Connection, sql: str, params: Any, error: type[QueryError], words: str
) -> None:
    for ask in (connection.sql, connection.explain):
        with pytest.raises(error, match=words) as raised:
            ask(sql, params)
        assert type(raised.value) is error
