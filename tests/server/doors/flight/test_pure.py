"""What needs no server: patterns, parameters, handles, types, SQL info."""

import re
import time
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client import commands_and_tickets
from dagfusion_client.errors import BadRequestError, ParameterError, QueryError, UnknownQueryError, tree
from dagfusion_server.doors.flight import flight_metadata, flight_sessions
from dagfusion_server.doors.flight.flight_calls import failure
from dagfusion_server.doors.flight.flight_metadata import like, metadata_result, metadata_schema
from dagfusion_server.doors.flight.flight_sessions import Handles
from dagfusion_server.doors.flight.flight_statements import parameters
from dagfusion_server.doors.flight.sql_info import sql_type
from tests.query.catalog.following import Clock


@given(st.text("ab%_\\", max_size=8), st.text("ab%_\\", max_size=8))
def test_patterns_mean_what_like_means(pattern: str, text: str) -> None:
    parts = re.findall(r"\\?.", pattern)
    expression = "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)
    assert like(pattern)(text) == bool(re.fullmatch(expression, text))


def test_a_pattern_cannot_take_long() -> None:
    assert not like("%a" * 300 + "b")("a" * 2000)
    with pytest.raises(BadRequestError, match="at most 1024"):
        like("a" * 1025)


@pytest.mark.parametrize(
    ("sql", "planned", "names"),
    [
        ("select 1", "select 1", ()),
        ("?,?", "$1,$2", ("1", "2")),
        ("select '?', \"?\", `?`, '''?' -- ?\n /* ? */ , $$?$$, $a$ ? $a$, ?", None, ("1",)),
        ("select $2", "select $2", ("1", "2")),
        ("select $b, $a, $b, '$c'", "select $b, $a, $b, '$c'", ("b", "a")),
        ("select $1, ?", "select $1, ?", ("1",)),
        ("select ?, 'open ?", "select $1, 'open ?", ("1",)),
        ("select ? /* open ?", "select $1 /* open ?", ("1",)),
    ],
)
def test_parameters_are_found(sql: str, planned: str | None, names: tuple[str, ...]) -> None:
    found = parameters(sql)
    assert found.names == names
    assert found.sql == (planned if planned is not None else sql.removesuffix("?") + "$1")


@pytest.mark.parametrize("piece", ["/*", "$a$ $b$ ", "$", "'", '"', "`", "'a\"b", "?", "$1", "--", "/"])
@pytest.mark.usefixtures("heavy")
def test_the_time_grows_with_the_length_of_a_text_and_not_with_its_square(piece: str) -> None:
    def cpu_s(length: int) -> float:
        sql = piece * (length // len(piece)) + "?"
        started = time.thread_time()
        with suppress(ParameterError):
            parameters(sql)
        return time.thread_time() - started

    short, long = (min(cpu_s(length) for _ in range(3)) for length in (1 << 14, 1 << 18))
    assert long < 64 * short + 0.01, "16 times as long, where the square would be 256 times"


@pytest.mark.parametrize("sql", ["?," * 4097, "$4097", "$" + "9" * 5000, ",".join(f"$n{n}" for n in range(4097))])
def test_too_many_parameters_are_refused(sql: str) -> None:
    with pytest.raises(ParameterError, match="at most 4,096 parameters, got"):
        parameters(sql)


def test_a_row_goes_under_the_parameters_names() -> None:
    row = pa.record_batch({"0": [1], "1": ["x"]})
    bound = parameters("select ?, ?").row(row)
    assert bound is not None
    assert bound.to_pylist() == [{"1": 1, "2": "x"}]
    by_name = parameters("select $b, $a").row(pa.record_batch({"a": [1], "b": [2]}))
    assert by_name is not None
    assert by_name.to_pylist() == [{"a": 1, "b": 2}]
    assert parameters("select 1").row(pa.RecordBatch.from_pylist([], pa.schema([]))) is None
    for values in (row.slice(0, 0), pa.record_batch({"0": [1]}), pa.record_batch({"0": [1, 2], "1": [1, 2]})):
        with pytest.raises(ParameterError):
            parameters("select ?, ?").row(values)


def test_handles_are_their_owners_for_a_while() -> None:
    clock, gone = Clock(), list[str]()
    kept: Handles[str] = Handles("thing", 10.0, gone.append, clock)
    first, second = kept.add("ann", "first", 1), kept.add("ann", "second", 1)
    assert first != second
    assert kept.get("ann", first) == "first"
    for owner, handle in (("bob", first), ("ann", b"guess")):
        with pytest.raises(UnknownQueryError, match="unknown or expired thing"):
            kept.get(owner, handle)
    assert kept.pop("bob", first) is None
    clock.now = 9.0
    kept.get("ann", first)  # used, and so kept
    clock.now = 15.0
    assert kept.get("ann", first) == "first"
    assert gone == ["second"]
    kept.replace("ann", first, "changed", 1)
    assert kept.pop("ann", first) == "changed"
    with pytest.raises(UnknownQueryError):
        kept.replace("ann", first, "again", 1)
    kept.add("ann", "third", 1)
    kept.clear()
    assert gone == ["second", "third"]


@pytest.mark.parametrize(("limit", "size"), [("_OWNER_COUNT", 1), ("_OWNER_BYTES", 10)])
def test_an_owner_has_only_so_many_handles(monkeypatch: pytest.MonkeyPatch, limit: str, size: int) -> None:
    monkeypatch.setattr(flight_sessions, limit, 3 * size)
    gone: list[int] = []
    kept: Handles[int] = Handles("thing", 10.0, gone.append)
    others = kept.add("bob", -1, size)
    made = [kept.add("ann", number, size) for number in range(3)]
    kept.get("ann", made[0])
    kept.add("ann", 3, size)
    assert gone == [1]  # the one not used for longest
    assert kept.get("bob", others) == -1
    kept.add("ann", 4, 100 * size)  # one that is too large by itself stays alone
    assert gone == ([1, 2, 0, 3] if limit == "_OWNER_BYTES" else [1, 2])


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (pa.int64(), "BIGINT", -5),
        (pa.uint8(), "TINYINT UNSIGNED", -6),
        (pa.float32(), "REAL", 7),
        (pa.float16(), "REAL", 7),
        (pa.decimal128(12, 2), "DECIMAL", 3),
        (pa.large_string(), "VARCHAR", 12),
        (pa.string_view(), "VARCHAR", 12),
        (pa.dictionary(pa.int32(), pa.string()), "VARCHAR", 12),
        (pa.binary(16), "VARBINARY", -3),
        (pa.date32(), "DATE", 91),
        (pa.time64("us"), "TIME", 92),
        (pa.timestamp("us"), "TIMESTAMP", 93),
        (pa.timestamp("us", "UTC"), "TIMESTAMP WITH TIME ZONE", 93),
        (pa.duration("s"), "INTERVAL", 10),
        (pa.bool_(), "BOOLEAN", -7),
        (pa.null(), "null", 1111),
        (pa.list_(pa.int64()), "list<item: int64>", 1111),
        (pa.struct({"x": pa.int64()}), "struct<x: int64>", 1111),
    ],
)
def test_types_have_their_names_and_numbers(kind: pa.DataType, name: str, code: int) -> None:
    found = sql_type(kind)
    assert (found.name, found.code) == (name, code)


METADATA = [
    "CommandGetCatalogs",
    "CommandGetDbSchemas",
    "CommandGetTables",
    "CommandGetTableTypes",
    "CommandGetSqlInfo",
    "CommandGetXdbcTypeInfo",
    "CommandGetPrimaryKeys",
    "CommandGetImportedKeys",
    "CommandGetExportedKeys",
    "CommandGetCrossReference",
]


@pytest.mark.parametrize("name", METADATA)
def test_answers_have_the_schema_that_was_announced(name: str) -> None:
    command = commands_and_tickets.make(name)
    found = metadata_result(name, command, (), 1 << 20)
    assert found.schema == metadata_schema(name, command)
    for field in found.schema:
        assert field.nullable or found[field.name].null_count == 0
    found.validate(full=True)


def test_type_info_is_in_order_and_filtered() -> None:
    rows = metadata_result(
        "CommandGetXdbcTypeInfo", commands_and_tickets.make("CommandGetXdbcTypeInfo"), (), 1
    ).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["data_type"], row["type_name"]))
    varchar = commands_and_tickets.make("CommandGetXdbcTypeInfo", data_type=12)
    [row] = metadata_result("CommandGetXdbcTypeInfo", varchar, (), 1).to_pylist()
    assert (row["type_name"], row["literal_prefix"], row["nullable"], row["searchable"]) == ("VARCHAR", "'", 1, 3)


def test_sql_info_has_all_that_jdbc_asks() -> None:
    everything = metadata_result(
        "CommandGetSqlInfo", commands_and_tickets.make("CommandGetSqlInfo"), (), 1000
    ).to_pylist()
    known = {row["info_name"]: row["value"] for row in everything}
    assert set(range(500, 577)) | {*range(6), 8, 9, 100, 101} == set(known)
    assert (known[3], known[4], known[8], known[504], known[557], known[563]) == (True, True, 0, '"', 1000, False)
    some = metadata_result(
        "CommandGetSqlInfo", commands_and_tickets.make("CommandGetSqlInfo", info=[3, 0, 9999]), (), 1000
    )
    assert some["info_name"].to_pylist() == [0, 3]


def test_there_are_only_tables_in_one_catalog() -> None:
    for fields in ({"catalog": "other"}, {"catalog": ""}, {"table_types": ["VIEW"]}):
        command = commands_and_tickets.make("CommandGetTables", **fields)
        assert metadata_result("CommandGetTables", command, (), 1).num_rows == 0
    assert flight_metadata.metadata_schema("CommandStatementQuery", None) is None


@pytest.mark.parametrize("kind", sorted(tree(QueryError), key=str))
def test_each_error_has_a_status_of_flight(kind: type[QueryError]) -> None:
    assert re.search("it is wrong|internal error", str(failure(kind("it is wrong"))))
