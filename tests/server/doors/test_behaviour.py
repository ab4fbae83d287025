"""What holds behind every door: rows and their types, errors, limits, tables, stats, plans."""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import dagfusion_query
from dagfusion_client.errors import (
    ConnectionClosedError,
    ExecutionError,
    PlanError,
    QueryError,
    ReadOnlyError,
    ResultTooLargeError,
    SqlSyntaxError,
    StatementTooLongError,
    UnknownTableError,
)
from dagfusion_query import Connection
from tests.server.doors.conftest import CONNECTIONS, GRANT, LIMIT_BYTES, LIMIT_ROWS, VIEW, Doors
from tests.server.doors.doors import CommandLine, Door
from tests.server.processes.process import Server

TABLE = "local_silver_tax_id.orgs"
OTHER = "local_silver_tax_id.orders"
MOMENT = dt.datetime(2024, 1, 5, 1, 2, 3, tzinfo=dt.UTC)

# ---- rows


STATEMENTS = [
    f"SELECT id, name, state FROM {TABLE} ORDER BY id",
    f"SELECT state, count(*) AS n, sum(id) AS ids, min(name) AS first FROM {TABLE} GROUP BY state ORDER BY state",
    f"SELECT id FROM {TABLE} WHERE state = 'NY' AND name IS NULL AND id < 1005 ORDER BY id",
    f"SELECT a.id, b.name FROM {TABLE} a JOIN {OTHER} b USING (id) WHERE a.id < 3 ORDER BY a.id",
    f"SELECT count(*) FROM {TABLE}",
    "SELECT value FROM generate_series(1, 100000) ORDER BY value",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT n FROM t ORDER BY n",
    f"SELECT id, name FROM {TABLE} WHERE id < 0",
    f"SELECT * FROM {TABLE} LIMIT 0",
    "SELECT 1 AS a WHERE false",
    "VALUES (1, 'x'), (2, NULL)",
    f"DESCRIBE {TABLE}",
    "EXPLAIN SELECT 1 AS a",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_rows_and_columns_are_those_of_the_embedded_engine(door: Door, doors: Doors, sql: str) -> None:
    expected = doors.open("embedded").table(sql)

    found = door.table(sql)

    assert found.schema == expected.schema
    assert found.equals(expected)


def typed(value: object, kind: pa.DataType) -> pa.Array:
    return pa.array([value], kind)


# A value of each type, as SQL writes it.
KINDS: Mapping[str, pa.Array] = {
    "true": typed(True, pa.bool_()),  # noqa: FBT003
    "arrow_cast(-8, 'Int8')": typed(-8, pa.int8()),
    "arrow_cast(-16, 'Int16')": typed(-16, pa.int16()),
    "arrow_cast(-32, 'Int32')": typed(-32, pa.int32()),
    "9223372036854775807": typed(2**63 - 1, pa.int64()),
    "arrow_cast(8, 'UInt8')": typed(8, pa.uint8()),
    "arrow_cast(18446744073709551615, 'UInt64')": typed(2**64 - 1, pa.uint64()),
    "arrow_cast(1.5, 'Float16')": typed(1.5, pa.float16()),
    "arrow_cast(1.5, 'Float32')": typed(1.5, pa.float32()),
    "1e0 / 3": typed(1 / 3, pa.float64()),
    "CAST('-inf' AS DOUBLE)": typed(-math.inf, pa.float64()),
    "CAST(1.50 AS DECIMAL(5, 2))": typed(Decimal("1.50"), pa.decimal128(5, 2)),
    "arrow_cast('12345678901234567890123456789012345678901.5', 'Decimal256(60, 1)')": typed(
        Decimal("12345678901234567890123456789012345678901.5"), pa.decimal256(60, 1)
    ),
    "'é 日本 \U0001f600'": typed("é 日本 \U0001f600", pa.string()),
    "''": typed("", pa.string()),
    "arrow_cast('a', 'LargeUtf8')": typed("a", pa.large_string()),
    "arrow_cast('a longer text than a view holds', 'Utf8View')": typed(
        "a longer text than a view holds", pa.string_view()
    ),
    "X'00ff'": typed(b"\x00\xff", pa.binary()),
    "arrow_cast(X'00ff', 'FixedSizeBinary(2)')": typed(b"\x00\xff", pa.binary(2)),
    "DATE '1969-12-31'": typed(dt.date(1969, 12, 31), pa.date32()),
    "TIME '01:02:03.5'": typed(dt.time(1, 2, 3, 500_000), pa.time64("ns")),
    "TIMESTAMP '2024-01-05T01:02:03.000000004'": typed(1_704_416_523_000_000_004, pa.timestamp("ns")),
    "arrow_cast('2024-01-05T01:02:03Z', 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))')": typed(
        MOMENT, pa.timestamp("us", "Europe/Berlin")
    ),
    "arrow_cast(5, 'Duration(Second)')": typed(dt.timedelta(seconds=5), pa.duration("s")),
    "INTERVAL '1 month 2 days 3.5 seconds'": typed((1, 2, 3_500_000_000), pa.month_day_nano_interval()),
    "[1, NULL]": typed([1, None], pa.list_(pa.int64())),
    "arrow_cast([1, 2], 'FixedSizeList(2, Int64)')": typed([1, 2], pa.list_(pa.int64(), 2)),
    "named_struct('a', 1, 'b', 'x')": typed({"a": 1, "b": "x"}, pa.struct({"a": pa.int64(), "b": pa.string()})),
    "map(['a'], [1])": typed([("a", 1)], pa.map_(pa.string(), pa.int64())),
    "arrow_cast('x', 'Dictionary(Int32, Utf8)')": pa.array(["x"]).dictionary_encode(),
    "NULL": typed(None, pa.null()),
}


def test_every_type_arrives_with_its_values_and_nulls(door: Door) -> None:
    columns = [f"{sql} AS v{n}, CASE WHEN false THEN {sql} END AS n{n}" for n, sql in enumerate(KINDS)]

    table = door.table(f"SELECT {', '.join(columns)}")

    assert table.num_rows == 1
    for number, (sql, expected) in enumerate(KINDS.items()):
        assert table[f"v{number}"].type == expected.type, sql
        assert table[f"n{number}"].type == expected.type, sql
        assert table[f"v{number}"].to_pylist() == expected.to_pylist(), sql
        assert table[f"n{number}"].to_pylist() == [None], sql


def test_each_environment_has_its_tables(doors: Doors, door: Door, dagster_home: Any) -> None:
    sql = "SELECT count(*) AS n FROM prod_silver_tax_id.orgs WHERE state = 'CA'"
    if door is doors.open("embedded"):
        with dagfusion_query.connect(str(dagster_home), environment="prod", settings={}) as connection:
            assert connection.sql(sql).to_arrow()["n"].to_pylist() == [1000]
    elif door is not doors.open("cli"):
        assert door.table(sql)["n"].to_pylist() == [1000]


# ---- errors


ERRORS: Sequence[tuple[str, type[QueryError], tuple[Mapping[str, int] | None, str]]] = [
    ("SELEC 1", SqlSyntaxError, ({"line": 1, "column": 1}, "Expected: an SQL statement, found: SELEC")),
    ("SELECT 1\nFROM a b c", SqlSyntaxError, ({"line": 2, "column": 10}, "Expected: end of statement, found: c")),
    (
        "SELECT *\nFROM local_silver_taxid.orgs",
        UnknownTableError,
        ({"line": 2, "column": 6}, "there is no table local_silver_taxid.orgs: did you mean"),
    ),
    ("SELECT * FROM dev.orders", UnknownTableError, ({"line": 1, "column": 15}, "there is no table dev.orders")),
    ("SELECT * FROM '/etc/passwd'", UnknownTableError, (None, "there is no table /etc/passwd")),
    (f"SELECT nope FROM {TABLE}", PlanError, ({"line": 1, "column": 8}, "No field named nope. Did you mean")),
    ("SELECT frob(1)", PlanError, (None, "Invalid function 'frob'")),
    ("SELECT 'a'::int", PlanError, (None, "Cannot cast string 'a' to value of Int32 type")),
    ("SELECT $1", PlanError, (None, "Placeholder '$1' was not provided a value")),
    ("SELECT 1; SELECT 2", PlanError, ({}, "one statement at a time: the text has none, or more than one")),
    (" \n", PlanError, ({}, "one statement at a time: the text has none, or more than one")),
    ("/* nothing */", PlanError, ({}, "one statement at a time: the text has none, or more than one")),
    (f"DROP TABLE {TABLE}", ReadOnlyError, ({}, "only queries can be run here, and this statement is DropTable")),
    (f"INSERT INTO {TABLE} VALUES (1, 'a', 'CA')", ReadOnlyError, ({}, "only queries can be run here")),
    ("COPY (SELECT 1) TO '/tmp/x.csv'", ReadOnlyError, ({}, "only queries can be run here")),
    ("EXPLAIN DROP TABLE x", ReadOnlyError, ({}, "only queries can be run here")),
    ("SET datafusion.execution.batch_size = 1", ReadOnlyError, ({}, "only queries can be run here")),
    ("SELECT 1 / 0", ExecutionError, ({}, "Divide by zero")),
    (f"SELECT 1 / (id - id) FROM {TABLE}", ExecutionError, ({}, "Divide by zero")),
    ("SELECT 1 / (90000 - value) FROM generate_series(1, 100000)", ExecutionError, ({}, "Divide by zero")),
]


@pytest.mark.parametrize(("sql", "error", "said"), ERRORS)
def test_errors_are_those_of_the_embedded_engine(
    doors: Doors, door: Door, sql: str, error: type[QueryError], said: tuple[Mapping[str, int] | None, str]
) -> None:
    details, words = said
    expected = doors.open("embedded").error(sql)

    found = door.error(sql)

    assert words in str(found)
    assert "Traceback" not in str(found)
    without_hint = re.compile(r": did you mean .*|\. Did you mean .*", re.DOTALL)  # of more environments
    assert without_hint.sub("", str(found)) == without_hint.sub("", str(expected))
    if not isinstance(door, CommandLine):  # it says the text only
        assert type(found) is error
        assert found.details() == expected.details()
        assert details is None or found.details() == details


@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_a_statement_that_is_no_text(connection: Connection, text: str) -> None:
    for ask in (connection.sql, connection.explain):
        with pytest.raises(SqlSyntaxError, match="line 1, column 9: a statement must be Unicode text without NUL") as e:
            ask(f"SELECT '{text}'")
        assert e.value.details() == {"line": 1, "column": 9}


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nowhere.t", f"SELECT nope FROM {TABLE}", "", "DROP TABLE x"])
def test_explain_fails_as_the_statement_does(connection: Connection, sql: str) -> None:
    with pytest.raises(QueryError) as run:
        connection.sql(sql)
    with pytest.raises(QueryError) as explained:
        connection.explain(sql)

    assert type(explained.value) is type(run.value)
    assert (str(explained.value), explained.value.details()) == (str(run.value), run.value.details())


def test_a_token_opens_its_table_and_no_other(restricted: Door) -> None:
    assert restricted.table(f"SELECT count(*) AS n FROM {GRANT}")["n"].to_pylist() == [3000]
    listed = restricted.table("SELECT DISTINCT table_schema AS s, table_name AS t FROM information_schema.tables")
    names = sorted(f"{row['s']}.{row['t']}" for row in listed.to_pylist())
    assert names == ["local_gold.evens", GRANT], "a view has the rights of its tables"
    assert restricted.table("SELECT count(*) AS n FROM local_gold.evens")["n"].to_pylist() == [1500]
    for name in (OTHER, "prod_silver_tax_id.orgs", "no.where"):
        for sql in (f"SELECT * FROM {name}", f"SELECT * FROM {GRANT} WHERE id IN (SELECT id FROM {name})"):
            error = restricted.error(sql)
            assert str(error).startswith(f"there is no table {name}")
            assert isinstance(restricted, CommandLine) or type(error) is UnknownTableError
            hint = str(error).partition(": ")[2]
            assert "orders" not in hint
            assert "prod" not in hint


def test_limits(limited: Door) -> None:
    rows = limited.error(f"SELECT value FROM generate_series(1, {LIMIT_ROWS + 1})")
    text = limited.error(f"SELECT '{'x' * LIMIT_BYTES}'")

    assert f"more than {LIMIT_ROWS:,} rows" in str(rows)
    assert f"more than the {LIMIT_BYTES:,} that the service takes" in str(text)
    if not isinstance(limited, CommandLine):
        assert (type(rows), type(text)) == (ResultTooLargeError, StatementTooLongError)


# ---- connections


def test_tables(doors: Doors, connection: Connection) -> None:
    def shown(asked: Connection) -> list[Any]:
        tables = asked.tables()
        assert [table.name for table in tables] == sorted(table.name for table in tables)
        return [replace(table, location=None) for table in tables if table.name.startswith("local_")]

    found = shown(connection)

    assert found == shown(doors.connection("embedded"))
    assert [(table.name, table.partitions, table.files, table.rows) for table in found] == [
        ("local_gold.evens", 0, 0, 0),
        (OTHER, 3, 3, 3000),
        (TABLE, 3, 3, 3000),
    ]
    view, _, table = found
    assert dict(table.columns) == {"id": "int64", "name": "string", "state": "string"}
    assert (table.partition_columns, table.view) == (("state",), None)
    assert (dict(view.columns), view.view) == ({"id": "int64", "name": "string"}, VIEW.sql)
    assert view.materialized_at is not None
    assert table.materialized_at is not None


@pytest.mark.parametrize(
    ("sql", "cost"),
    [
        (f"SELECT id FROM {TABLE} WHERE state = 'NY'", (3, 1, 1000, "splice")),
        (f"SELECT id FROM {TABLE} WHERE id >= 2500", (3, 1, 500, "splice")),
        (f"SELECT id FROM {TABLE} JOIN {OTHER} USING (id)", (6, 6, 3000, "splice")),
        (f"SELECT count(*) FROM {TABLE}", (3, 0, 1, "catalog")),
        (f"SELECT id FROM {TABLE} WHERE id < 0", (3, 0, 0, "catalog")),
        (f"EXPLAIN SELECT id FROM {TABLE}", (3, 0, 3, "splice")),
        ("SELECT 1", (0, 0, 1, "catalog")),
    ],
)
def test_stats(doors: Doors, connection: Connection, sql: str, cost: tuple[int, int, int, str]) -> None:
    total, read, rows, path = cost

    def figures(asked: Connection) -> Any:
        result = asked.sql(sql)
        result.to_arrow()
        assert result.stats.seconds > 0
        return replace(result.stats, seconds=0.0, generation=0, requests=None)

    stats = figures(connection)

    assert (stats.files_total, stats.files_read, stats.files_skipped) == (total, read, total - read)
    assert (stats.rows, stats.path) == (rows, path)
    assert (stats.bytes_read > 0) is (read > 0)
    assert stats == figures(doors.connection("embedded"))


def test_explain(doors: Doors, connection: Connection) -> None:
    sql = f"SELECT id FROM {TABLE} WHERE state = $s AND id > 3"

    def shown(asked: Connection) -> Any:
        explained = asked.explain(sql, {"s": "CA"})
        [scan] = explained.scans
        [uri] = scan.uris
        folder = uri.removesuffix("orgs-CA.parquet")  # a service does not say where it is
        plan = re.sub(r"\S*/(?=orgs-CA\.parquet)", "", explained.physical)
        return folder != uri, replace(explained, scans=[replace(scan, uris=())], physical=plan)

    ends_alike, explained = shown(connection)

    assert ends_alike
    assert explained == shown(doors.connection("embedded"))[1]
    [scan] = explained.scans
    assert (explained.path, scan.files_total, scan.files_read, scan.partitions) == ("splice", 3, 1, ["CA"])
    assert [(effect.skipped, effect.by) for effect in scan.filters] == [(2, "partition values"), (0, "statistics")]


def test_an_explain_statement_gives_plans(door: Door) -> None:
    plans = door.table(f"EXPLAIN SELECT id FROM {TABLE} WHERE state = 'CA'").to_pylist()

    assert [row["plan_type"] for row in plans] == ["files", "logical_plan", "physical_plan"]
    assert plans[0]["plan"].startswith(f"{TABLE}: 1 of 3 files")
    assert "orgs-CA.parquet" in plans[2]["plan"]


def test_threads_share_a_connection(connection: Connection) -> None:
    sql = f"SELECT sum(id) AS n FROM {TABLE} WHERE id = $1"

    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda n: connection.sql(sql, [n]).to_arrow()["n"].to_pylist(), range(40))

    assert list(found) == [[n] for n in range(40)]


def test_refresh_ends(connection: Connection) -> None:
    connection.refresh()
    assert connection.sql(f"SELECT count(*) AS n FROM {TABLE}").to_arrow()["n"].to_pylist() == [3000]


@pytest.mark.parametrize("where", CONNECTIONS)
def test_a_connection_that_is_closed_says_so(server: Server, dagster_home: Any, where: str) -> None:
    source = {"http": server.url, "flight": server.flight_url}.get(where, str(dagster_home))
    with dagfusion_query.connect(source, settings={}) as connection:
        connection.sql("SELECT 1").to_arrow()
        connection.close()
    asks: list[Callable[[], object]] = [
        lambda: connection.sql("SELECT 1"),
        lambda: connection.sql("SELECT $1", [1]),
        lambda: connection.explain("SELECT 1"),
        connection.tables,
        connection.refresh,
    ]

    for ask in asks:
        with pytest.raises(ConnectionClosedError, match="is closed: connect again"):
            ask()
