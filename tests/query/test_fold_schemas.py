"""The schema of a table whose partitions were written with different ones; and two assets of one name."""

import itertools
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Table
from dagfusion_query.catalog.naming import TableName
from dagfusion_query.errors import NameCollisionError, SchemaConflictError
from dagfusion_query.event_log.protocol import Materialization, Wipe
from tests.query.folding import EMPTY, NAME, ORGS, Record, column, schema, table, written


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
    assert isinstance(found.problem, SchemaConflictError)
    text = str(found.problem)
    assert "column 'x' is" in text
    assert f"{found.name} " in text
    assert "in partition 'S1|2024-01-15'" in text
    assert "partition 'S2|2024-01-15', partition 'S3|2024-01-15', partition 'S4|2024-01-15' and 1 more" in text
    assert "materialize the partitions of one side again" in text
    assert len(found.files) == 0


def test_a_conflict_goes_when_its_partition_is_written_again(file_record: Record) -> None:
    def of(state: str, kind: str, event_id: int) -> Materialization:
        return written(file_record(state, schema=schema(column("x", kind)), columns={}), event_id)

    other = ("Silver", "other")
    conflict = fold(EMPTY, [of("CA", "int64", 1), of("NY", "string", 2), written(file_record(), 3, other)])
    assert conflict.tables[NAME].problem is not None
    assert conflict.tables[TableName("uat_silver", "other")].problem is None, "a conflict hides nothing else"
    cured = fold(conflict, [of("CA", "string", 4)])
    assert cured.tables[NAME].problem is None
    assert cured.tables[NAME].file_schema == pa.schema({"x": pa.string()})
    assert sorted(cured.tables[NAME].files["event_id"].to_pylist()) == [2, 4]


def test_partition_columns_that_disagree_name_both_sides(file_record: Record) -> None:
    by_date = [{"name": "date", "type": "date32[day]", "value": "2024-01-16"}]
    found = table(fold(EMPTY, [written(file_record(), 1), written(file_record(partition=by_date), 2)]))
    text = str(found.problem)
    assert "(state string, date date32[day]) in partition 'CA|2024-01-15'" in text
    assert "(date date32[day]) in partition '2024-01-16'" in text
    assert "wipe the asset" in text


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
