"""Statements that fail: each says what is wrong, where, and in this package's errors."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_client.errors import (
    ExecutionError,
    ParameterError,
    PlacedError,
    PlanError,
    QueryError,
    ReadOnlyError,
    ResourcesError,
    SqlSyntaxError,
    StaleObjectError,
    StatementError,
    UnknownTableError,
)
from dagfusion_client.sql_text import check_text
from dagfusion_query.engine.datafusion_errors import execution_error
from dagfusion_query.engine.runtime import Stores
from dagfusion_query.engine.stored_objects import diagnose
from tests.query.engine.conftest import TABLE


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("SELECT * FROM orgs", UnknownTableError, rf"no table orgs: did you mean {TABLE}\?"),
        ("SELECT * FROM local_silver_taxid.orgs", UnknownTableError, TABLE),
        ("SELECT *\nFRON x", SqlSyntaxError, "line 2, column 1"),
        (f"SELECT nope FROM {TABLE}", PlanError, "No field named nope"),
        (f"INSERT INTO {TABLE} SELECT * FROM {TABLE}", ReadOnlyError, "only queries"),
        (f"DROP TABLE {TABLE}", ReadOnlyError, "only queries"),
        (f"COPY (SELECT 1) TO '/tmp/x.csv'", ReadOnlyError, "only queries"),  # noqa: F541
        ("COPY (SELECT 1) TO '/tmp/x'", ReadOnlyError, "only queries"),
        ("SET datafusion.execution.batch_size = 1", ReadOnlyError, "only queries"),
        ("EXPLAIN DROP TABLE x", ReadOnlyError, "only queries"),
        ("SELECT 1; SELECT 2", PlanError, "one statement"),
        ("", PlanError, "one statement"),
        (f"SELECT id FROM {TABLE} WHERE id = $1", PlanError, r"\$1"),
        (
            f"SELECT * FROM {TABLE} a, LATERAL (SELECT id FROM {TABLE} b WHERE b.state = a.state LIMIT 2) x",
            PlanError,
            "not",
        ),
        ("SELECT * FROM '/etc/passwd'", UnknownTableError, "no table"),
        (  # DataFusion 55 panics
            f"SELECT count(x) FROM (SELECT (SELECT 1 WHERE false) AS x FROM {TABLE})",
            PlanError,
            r"a fault of DataFusion \(.*\): write it in another way. One cause is a subquery that never has rows",
        ),
    ],
)
def test_statements_that_cannot_run_say_why(orgs: Any, sql: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        orgs.rows(sql)


@pytest.mark.parametrize(
    ("sql", "line", "column"),
    [
        (f"SELECT id,\n  nope FROM {TABLE}", 2, 3),
        (f"SELECT o.nope FROM {TABLE} o", 1, 8),
        (f'SELECT "Id" FROM {TABLE}', 1, 8),
        ("SELECT *\nFROM local_silver_taxid.orgs", 2, 6),
        (f"SELECT id FROM {TABLE} WHERE frob(id) = 1", 1, 17 + len(TABLE) + 6),
        (f"SELECT id FROM {TABLE} a JOIN {TABLE} b ON a.id = b.id", 1, 8),
    ],
)
def test_names_that_mean_nothing_are_placed(orgs: Any, sql: str, line: int, column: int) -> None:
    with pytest.raises(PlacedError) as caught:
        orgs.rows(sql)
    assert caught.value.details() == {"line": line, "column": column}


@pytest.mark.parametrize(
    "call",
    [
        "abs(*)",
        "count(*), abs(*)",
        "upper(*)",
        "abs()",
        "abs('a')",
        "abs(1, 2)",
        "frob(1)",
        "sum(*)",
        "coalesce()",
        "id FROM {table} WHERE abs(*) > 1",
        "id FROM {table} ORDER BY abs(*)",
        "state FROM {table} GROUP BY state HAVING max(*) > 1",
        "nope FROM {table}",
        "'x'::int",
        "arrow_cast(1, 'Nope')",
    ],
)
def test_a_malformed_call_gets_the_same_error_inside_explain(orgs: Any, call: str) -> None:
    sql = f"SELECT {call.format(table=TABLE)}"
    with pytest.raises(StatementError) as plain:
        orgs.rows(sql)
    for prefix in ("EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE"):
        with pytest.raises(StatementError) as inside:
            _run(orgs, f"{prefix} {sql}")
        assert (type(inside.value), str(inside.value)) == (type(plain.value), str(plain.value))


def _run(orgs: Any, sql: str) -> None:
    prepared = orgs.prepare(sql)
    if prepared.is_explain:
        orgs.engine.explain(prepared)
    else:
        orgs.rows(sql)


def test_a_wildcard_in_a_call_is_explained(orgs: Any) -> None:
    with pytest.raises(PlanError, match=r"\* is not an argument that this function takes"):
        orgs.rows(f"SELECT abs(*) FROM {TABLE}")


def test_a_failure_at_run_time_says_what(orgs: Any) -> None:
    with pytest.raises(ExecutionError, match="Divide by zero"):
        orgs.rows(f"SELECT 1 / (id - id) FROM {TABLE}")


def test_an_object_that_is_gone_is_named(orgs: Any) -> None:
    sql = f"SELECT sum(id) FROM {TABLE} WHERE state = 'CA'"
    uri = orgs.prepare(sql).scans[0].kept["uri"][3].as_py()
    orgs.root.joinpath(uri.removeprefix("file://")).unlink()

    with pytest.raises(StaleObjectError, match="is gone") as caught:
        orgs.rows(sql)

    assert uri in str(caught.value)
    assert TABLE in str(caught.value)
    assert "Silver/TaxID/orgs" in str(caught.value)


def test_an_object_that_has_changed_is_named(orgs: Any) -> None:
    sql = f"SELECT sum(id) FROM {TABLE} WHERE state = 'CA'"
    uri = orgs.prepare(sql).scans[0].kept["uri"][0].as_py()
    pq.write_table(pa.table({"id": range(100_000)}), uri.removeprefix("file://"))

    with pytest.raises(StaleObjectError, match="has changed"):
        orgs.rows(sql)


@pytest.mark.parametrize(
    ("sql", "line", "column"), [("SELECT '\0'", 1, 9), ("SELECT\n1,\n  2 \0", 3, 5), ("\ud800", 1, 1)]
)
def test_text_that_is_none_is_a_syntax_error(orgs: Any, sql: str, line: int, column: int) -> None:
    with pytest.raises(SqlSyntaxError, match="a statement must be Unicode text without NUL") as caught:
        check_text(sql)

    assert (caught.value.line, caught.value.column) == (line, column)
    assert orgs.sql("SELECT chr(0) AS a").to_pylist() == [{"a": "\0"}]


@pytest.mark.parametrize(
    "value",
    [
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["x"])])[0],
        pa.RunEndEncodedArray.from_arrays([1], ["x"])[0],
        "\ud800",
        2**70,
        object(),
        [1, "x"],
    ],
)
def test_a_parameter_of_a_type_that_none_can_have(orgs: Any, value: Any) -> None:
    with pytest.raises(ParameterError, match=r"unsupported type|parameter \$1 of type \w+ has no Arrow type"):
        orgs.sql("SELECT $1 AS x", [value])


def test_a_statement_that_is_nested_too_deeply_is_a_syntax_error(orgs: Any) -> None:
    with pytest.raises(SqlSyntaxError, match="nested more than 50 deep: flatten it"):
        orgs.sql(f"SELECT {'(' * 1000}1{')' * 1000}")


@pytest.mark.parametrize("why", ["No space left on device (os error 28)", "Disk quota exceeded (os error 122)"])
def test_a_full_disk_is_said(why: str) -> None:
    error = diagnose(Exception(f"Arrow error: Io error: IO error: {why}"), [], Stores({}))

    assert isinstance(error, ResourcesError)
    assert "more room for temporary files" in str(error)


WORDS = [
    "Resources exhausted: x",
    "No space left on device",
    "Physical plan does not support logical expression Wildcard",
    "Format not explicitly set",
    "DDL not supported: DropTable",
    "No SQL statements were provided",
    "table 'x' not found",
    "Error parsing timestamp",
]


@pytest.mark.parametrize("words", WORDS)
def test_errors_are_classed_by_what_the_engine_says(orgs: Any, words: str) -> None:
    """Not by what the caller wrote, which errors quote."""
    text = words.replace("'", "''")
    with pytest.raises(PlanError, match="No field named") as unknown:
        orgs.rows(f'SELECT "{words}" FROM {TABLE}')
    with pytest.raises(QueryError, match="Cannot cast string") as cast:
        orgs.rows(f"SELECT CAST('{text}' AS INT)")
    with pytest.raises(QueryError, match="Cannot cast string") as late:
        orgs.rows(f"SELECT CAST(concat('{text}', id) AS INT) FROM {TABLE}")
    assert type(unknown.value) is PlanError
    assert type(cast.value) is PlanError
    assert type(late.value) is ExecutionError
    assert "Write a timestamp" not in str(unknown.value) + str(cast.value)


@pytest.mark.parametrize(
    ("said", "is_no_room"),
    [
        ("DataFusion error: IO error: No space left on device (os error 28)", True),
        ("DataFusion error: a sort\ncaused by\nArrow error: Io error: No space left on device (os error 28)", True),
        ("Execution error: Failed to spill: No space left on device (os error 28)", True),
        ("Execution error: Unsupported granularity: 'No space left on device'", False),
        ("DataFusion error: Arrow error: Cast error: 'x\ncaused by\nIO error: No space left on device'", False),
    ],
)
def test_a_full_disk_is_known_by_the_kind_of_the_error(said: str, is_no_room: bool) -> None:  # noqa: FBT001
    assert isinstance(execution_error(Exception(said)), ResourcesError) == is_no_room
