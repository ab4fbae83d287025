"""The schema of a table whose partitions were written with different ones; and two assets of one name."""

import itertools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_client.errors import NameCollisionError, SchemaConflictError
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Table
from dagfusion_query.event_log.event_log_interface import Materialization, Wipe
from tests.query.catalog.folding import EMPTY, NAME, ORGS, Record, column, schema, table, written


def evolved(file_record: Record, *kinds: Any) -> Table:
    events = [
        written(file_record(f"S{i}", schema=schema(column("x", kind)), columns={"x": {"nulls": i}}), i)
        for i, kind in enumerate(kinds, 1)
    ]
    return table(fold(EMPTY, events))


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        (["int8", "int64"], "int64"),
        (["int32", "uint32"], "int64"),
        (["uint8", "int8"], "int16"),
        (["int64", "uint64"], "decimal128(20, 0)"),
        (["int64", "double"], "double"),
        (["int16", "float"], "float"),
        (["int32", "float"], "double"),
        (["float", "double"], "double"),
        (["int64", "uint64", "double"], "double"),
        (["decimal128(12, 2)", "decimal128(10, 4)"], "decimal128(14, 4)"),
        (["decimal128(38, 0)", "decimal128(38, 38)"], "decimal256(76, 38)"),
        (["int32", "decimal128(5, 2)"], "decimal128(12, 2)"),
        (["decimal128(5, 2)", "double"], "double"),
        (["timestamp[s]", "timestamp[us]", "timestamp[ms]"], "timestamp[us]"),
        (["timestamp[ms, tz=UTC]", "timestamp[ns, tz=UTC]"], "timestamp[ns, tz=UTC]"),
        (["timestamp[us, tz=UTC]", "timestamp[us, tz=Europe/Berlin]"], "timestamp[us, tz=UTC]"),
        (["date32[day]", "date64[ms]"], "date64[ms]"),
        (["time32[s]", "time64[us]"], "time64[us]"),
        (["duration[s]", "duration[ms]"], "duration[ms]"),
        (["null", "string"], "string"),
        (["null", "null"], "null"),
        (["string", "large_string", "string_view"], "string"),
        (["binary", "large_binary"], "binary"),
    ],
)
def test_types_widen_to_the_narrowest_that_holds_them(file_record: Record, kinds: list[str], common: str) -> None:
    for order in itertools.permutations(kinds):
        found = evolved(file_record, *order)
        assert found.problem is None
        assert str(found.file_schema.field("x").type) == common
        assert len(found.files) == len(kinds)


def test_nested_types_unify_inside(file_record: Record) -> None:
    narrow = {"struct": [column("a", "int32"), column("b", {"list": column("item", "null")})]}
    wide = {"struct": [column("a", "int64"), column("b", {"list": column("item", "string")}), column("c", "bool")]}
    inside = evolved(file_record, narrow, wide).file_schema.field("x").type
    assert inside == pa.struct({"a": pa.int64(), "b": pa.list_(pa.field("item", pa.string())), "c": pa.bool_()})
    maps = [{"map": [column("key", "string"), column("value", kind)]} for kind in ("int32", "double")]
    assert evolved(file_record, *maps).file_schema.field("x").type == pa.map_(pa.string(), pa.float64())


@pytest.mark.parametrize(
    "kinds",
    [
        ["int64", "string"],
        ["bool", "int64"],
        ["date32[day]", "timestamp[us]"],
        ["timestamp[us]", "timestamp[us, tz=UTC]"],
        ["string", "binary"],
        ["decimal256(76, 0)", "decimal256(76, 76)"],
        ["time32[s]", "duration[s]"],
        ["int64", {"list": {"name": "item", "type": "int64", "nullable": True}}],
    ],
)
def test_a_true_conflict_names_columns_and_partitions_of_both_sides(file_record: Record, kinds: list[Any]) -> None:
    found = evolved(file_record, kinds[0], kinds[1], kinds[1], kinds[1], kinds[1])
    assert isinstance(found.left_out["x"], SchemaConflictError)
    assert found.warnings == (found.left_out["x"],)
    text = str(found.left_out["x"])
    assert "leaves out column 'x', because no type fits all of its partitions: it is " in text
    assert f"{found.name} " in text
    assert "in partition 'S1|2024-01-15'" in text
    assert "partition 'S2|2024-01-15', partition 'S3|2024-01-15', partition 'S4|2024-01-15' and 1 more" in text
    assert "materialize the partitions of one side again" in text
    assert (found.problem, len(found.files), found.file_schema.names) == (None, 5, [])


def test_a_conflict_goes_when_its_partition_is_written_again(file_record: Record) -> None:
    def of(state: str, kind: str, event_id: int) -> Materialization:
        return written(file_record(state, schema=schema(column("x", kind)), columns={}), event_id)

    other = ("Silver", "other")
    conflict = fold(EMPTY, [of("CA", "int64", 1), of("NY", "string", 2), written(file_record(), 3, other)])
    assert [*conflict.tables[NAME].left_out] == ["x"]
    assert conflict.tables[TableName("uat_silver", "other")].left_out == {}, "a conflict hides nothing else"
    cured = fold(conflict, [of("CA", "string", 4)])
    assert cured.tables[NAME].left_out == {}
    assert cured.tables[NAME].file_schema == pa.schema({"x": pa.string()})
    assert sorted(cured.tables[NAME].files["event_id"].to_pylist()) == [2, 4]


def test_a_conflict_leaves_the_other_columns(file_record: Record) -> None:
    bounds = {"a": {"min": 1, "max": 2, "nulls": 0}, "x": {"nulls": 0}}
    events = [
        written(file_record(state, schema=schema(column("x", kind), column("a", "int64")), columns=bounds), number)
        for number, (state, kind) in enumerate((("CA", "int64"), ("NY", "string")), 1)
    ]
    found = table(fold(EMPTY, events))
    assert found.file_schema == pa.schema({"a": pa.int64()})
    assert [row["stats"] for row in found.files.to_pylist()] == [{"a": bounds["a"]}] * 2


@pytest.mark.parametrize(
    "kinds", [("string", "date32[day]"), ("date32[day]", "string"), ("timestamp[us]", "date32[day]")]
)
def test_a_partition_column_of_another_type_is_another_definition(file_record: Record, kinds: tuple[str, str]) -> None:
    def of(kind: str, number: int) -> Materialization:
        value = f"2024-01-{number:02}" + ("T00:00:00" if kind.startswith("timestamp") else "")
        return written(file_record(partition=[{"name": "date", "type": kind, "value": value}]), number)

    before, after = kinds
    found = table(fold(EMPTY, [of(before, 1), of(after, 2), of(before, 3), of(after, 4)]))
    assert found.problem is None
    assert str(found.partition_schema.field("date").type) == after
    assert sorted(found.files["event_id"].to_pylist()) == [2, 4]
    (warning,) = found.warnings
    assert f"partitioned by (date {before})" in str(warning)


def test_partition_columns_in_another_order_are_the_same_definition(file_record: Record) -> None:
    def of(state: str, day: int, number: int, *, is_turned: bool = False) -> Materialization:
        columns = [
            {"name": "state", "type": "string", "value": state},
            {"name": "day", "type": "int32", "value": day},
        ]
        return written(file_record(partition=columns[::-1] if is_turned else columns, etag=None), number)

    turned = of("NY", 7, 3, is_turned=True)
    found = table(fold(EMPTY, [of("CA", 5, 1), of("TX", 6, 2), turned]))
    assert found.problem is None
    assert found.warnings == ()
    assert found.partition_schema.names == ["day", "state"], "the latest order"
    rows = {row["event_id"]: row for row in found.files.to_pylist()}
    assert {number: row["partition"] for number, row in rows.items()} == {
        1: {"day": 5, "state": "CA"},
        2: {"day": 6, "state": "TX"},
        3: {"day": 7, "state": "NY"},
    }
    for number, (state, day) in {1: ("CA", 5), 2: ("TX", 6)}.items():
        alone = table(fold(EMPTY, [of(state, day, number, is_turned=True)])).files.to_pylist()[0]
        assert rows[number]["entry"] == alone["entry"], "the values are in the scan's order"


@pytest.mark.parametrize("kinds", [["", "date"], ["date", ""], ["date", "state"], ["date", "state date"]])
def test_the_newest_definition_is_the_table(file_record: Record, kinds: Sequence[str]) -> None:
    """Unpartitioned to partitioned, the other way, and other dimensions."""

    def of(names: str, number: int) -> Materialization:
        partition = [{"name": name, "type": "string", "value": f"{name}{number}"} for name in names.split()]
        return written(file_record(partition=partition), number)

    before, after = kinds
    snapshot = fold(EMPTY, [of(before, 1), of(after, 2), of(after, 3)])
    found = table(snapshot)
    assert found.problem is None
    assert found.partition_schema.names == after.split()
    assert max(found.files["event_id"].to_pylist()) == 3
    (warning,) = found.warnings
    assert f"It leaves out {'partition' if before else 'the unpartitioned materialization'}" in str(warning)
    assert table(fold(snapshot, [of(before, 4)])).partition_schema.names == before.split(), "the latest event decides"
    wiped = fold(snapshot, [Wipe(ORGS, 1_000)])
    assert table(wiped).warnings == (), "what was left out is wiped"


@pytest.mark.parametrize("namings", [*itertools.product(["stable", "per_run"], repeat=3)])
def test_the_latest_event_decides_whichever_way_its_file_is_named(file_record: Record, namings: Sequence[str]) -> None:
    uris = [
        f"s3://bucket/orgs/state=CA/data{'' if naming == 'stable' else f'-{number}'}.parquet"
        for number, naming in enumerate(namings, 1)
    ]
    events = [written(file_record(uri=uri, rows=number), number) for number, uri in enumerate(uris, 1)]
    for order in itertools.permutations(events):
        (row,) = table(fold(EMPTY, order)).files.to_pylist()
        assert (row["uri"], row["rows"]) == (uris[-1], 3)
        assert uris[-1].removeprefix("s3://bucket/").encode() in row["entry"]


def test_added_and_dropped_columns_are_null_where_they_are_missing(file_record: Record) -> None:
    a, b, c = column("a", "int64"), column("b", "string"), column("c", "int32")
    old = file_record("CA", schema=schema(a, b), columns={"a": {"min": 1, "max": 2, "nulls": 0}, "b": {"nulls": 0}})
    new = file_record(
        "NY",
        schema=schema(a, c),
        columns={"a": {"min": 5, "max": 6, "nulls": 0}, "c": {"min": 1, "max": 1, "nulls": 0}},
    )
    for events in itertools.permutations([written(old, 1), written(new, 2)]):
        found = table(fold(EMPTY, events))
        assert found.file_schema == pa.schema({"a": pa.int64(), "b": pa.string(), "c": pa.int32()})
        rows = {row["event_id"]: row["stats"] for row in found.files.to_pylist()}
        assert rows[1]["c"] == {"min": None, "max": None, "nulls": 321}, "a missing column is NULL in every row"
        assert rows[2]["b"] == {"min": None, "max": None, "nulls": 321}
        assert rows[2]["a"] == {"min": 5, "max": 6, "nulls": 0}


def test_bounds_that_a_wider_type_cannot_hold_become_unknown(file_record: Record) -> None:
    far = {"x": {"min": "2024-01-01T00:00:00", "max": "9999-12-31T00:00:00", "nulls": 0}}
    near = {"x": {"min": "2024-01-01T00:00:00", "max": "2024-01-02T00:00:00", "nulls": 0}}
    events = [
        written(file_record("CA", schema=schema(column("x", "timestamp[us]")), columns=far), 1),
        written(file_record("NY", schema=schema(column("x", "timestamp[ns]")), columns=near), 2),
    ]
    found = table(fold(EMPTY, events))
    highest = found.files["stats"].combine_chunks().field("x").field("max")
    assert found.file_schema.field("x").type == pa.timestamp("ns")
    assert highest.null_count == 1


def test_two_keys_on_one_name_are_an_error_that_names_both(file_record: Record) -> None:
    twin, other = ("Silver", "tax_id", "orgs"), ("Silver", "other")
    events = [written(file_record(), 1), written(file_record(), 2, twin), written(file_record(), 3, other)]
    snapshot = fold(EMPTY, events)
    assert list(snapshot.tables) == [TableName("uat_silver", "other")]
    problem = snapshot.problems[NAME]
    assert isinstance(problem, NameCollisionError)
    assert "['Silver', 'TaxID', 'orgs'] and ['Silver', 'tax_id', 'orgs']" in str(problem)
    apart = fold(snapshot, [Wipe(twin, 2000)])
    assert apart.problems == {}
    assert apart.tables[NAME].asset_key == ORGS
