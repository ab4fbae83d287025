"""Columns as Iceberg has them: types, ids that stay, and what is left out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagfusion_client.errors import UnsupportedTypeError
from dagfusion_contract.field_ids import field_id
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_query.settings import Settings
from tests.interop.iceberg.reading import Part, arrow_types, folded, opened, publish

ITEM = {"name": "item", "type": "int32", "nullable": True}
TYPES: dict[str, tuple[Any, str]] = {
    "bool": ("bool", "boolean"),
    "int8": ("int8", "int"),
    "uint16": ("uint16", "int"),
    "uint32": ("uint32", "long"),
    "int64": ("int64", "long"),
    "float": ("float", "float"),
    "double": ("double", "double"),
    "decimal": ("decimal128(12, 2)", "decimal(12, 2)"),
    "date": ("date32[day]", "date"),
    "time": ("time64[us]", "time"),
    "seconds": ("timestamp[s]", "timestamp"),
    "local": ("timestamp[us]", "timestamp"),
    "instant": ("timestamp[ms, tz=Europe/Berlin]", "timestamptz"),
    "text": ("string", "string"),
    "bytes": ("binary", "binary"),
    "fixed": ("fixed_size_binary[3]", "fixed[3]"),
    "list": ({"list": ITEM}, "list<int>"),
    "map": ({"map": [{**ITEM, "name": "key"}, {**ITEM, "name": "value"}]}, "map<int, int>"),
}
LEFT_OUT = {
    "uint64": "uint64",
    "half": "halffloat",
    "date64": "date64[ms]",
    "time32": "time32[s]",
    "nanotime": "time64[ns]",
    "nanoseconds": "timestamp[ns]",
    "duration": "duration[us]",
    "wide": "decimal256(50, 2)",
    "nothing": "null",
    "nested": {"struct": [{"name": "a", "type": "duration[us]", "nullable": True}]},
}


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    made = Publisher(f"file://{tmp_path}/_iceberg", Settings())
    yield made
    made.close()


def test_types(publisher: Publisher) -> None:
    columns = {name: kind for name, (kind, _) in TYPES.items()}
    published = publish(publisher, folded([Part((), columns, {})], {}))
    assert arrow_types(published) == {name: expected for name, (_, expected) in TYPES.items()}


def test_types_that_version_2_lacks_are_left_out_and_named(publisher: Publisher) -> None:
    published = publish(publisher, folded([Part((), {"id": "int64", **LEFT_OUT}, {})], {}))
    table = opened(published)
    assert arrow_types(published) == {"id": "long"}
    for name, kind in LEFT_OUT.items():
        reason = table.properties[f"dagfusion.left-out.{name}"]
        assert (kind if isinstance(kind, str) else "duration[us]") in reason
    assert "version 3" in table.properties["dagfusion.left-out.nanoseconds"]
    mapped = {entry["names"][0]: entry["field-id"] for entry in mapping(table.properties)}
    assert set(mapped) == {"id", *LEFT_OUT}
    assert set(mapped.values()) & {field.field_id for field in table.schema().fields} == {mapped["id"]}


def test_a_table_without_any_column_of_iceberg_is_refused(publisher: Publisher) -> None:
    with pytest.raises(UnsupportedTypeError, match=r"no column .* half: its type is halffloat"):
        publish(publisher, folded([Part((), {"half": "halffloat"}, {})], {}))


def test_partition_columns_may_be_wider_because_no_file_has_them(publisher: Publisher) -> None:
    kinds = {"a": "uint64", "b": "uint32", "c": "timestamp[s]", "d": "timestamp[ns]"}
    published = publish(publisher, folded([Part((2**64 - 1, 1, None, None), {"id": "int64"}, {})], kinds))
    assert arrow_types(published) == {"id": "long", "a": "decimal(20, 0)", "b": "long", "c": "timestamp"}
    assert [field.name for field in opened(published).spec().fields] == ["a", "b", "c"]


def test_a_name_in_a_file_is_not_the_partition_column(publisher: Publisher) -> None:
    """The value of the partition counts, also for files that have a column of its name."""
    table = opened(
        publish(publisher, folded([Part(("CA",), {"state": "int64", "id": "int64"}, {})], {"state": "string"}))
    )
    state = table.schema().find_field("state")
    assert str(state.field_type) == "string"
    assert state.field_id not in {entry["field-id"] for entry in mapping(table.properties)}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("int32", "int64", "long"),
        ("int8", "int16", "int"),
        ("uint16", "int32", "int"),
        ("float", "double", "double"),
        ("decimal128(10, 2)", "decimal128(12, 2)", "decimal(12, 2)"),
        ("timestamp[s]", "timestamp[us]", "timestamp"),
        ("int64", "double", None),
        ("decimal128(10, 2)", "decimal128(10, 3)", None),
        ("int64", "null", None),
        ("timestamp[us]", "timestamp[ns]", None),
    ],
)
def test_a_widened_column(publisher: Publisher, before: str, after: str, expected: str | None) -> None:
    parts = [Part(("a",), {"id": "int64", "v": before}, {}), Part(("b",), {"id": "int64", "v": after}, {})]
    published = publish(publisher, folded(parts, {"p": "string"}))
    assert arrow_types(published) == {"id": "long", **({"v": expected} if expected else {}), "p": "string"}
    assert ("dagfusion.left-out.v" in opened(published).properties) == (expected is None)


def test_ids_stay_whatever_becomes_of_the_table(publisher: Publisher, tmp_path: Path) -> None:
    inner = {"struct": [{"name": "x", "type": "int32", "nullable": True}]}
    first = ids(publish(publisher, folded([Part((), {"a": "int32", "b": inner, "c": "string"}, {})], {})))
    other = Publisher(f"file://{tmp_path}/elsewhere", Settings())
    later = ids(publish(other, folded([Part((), {"new": "string", "b": inner, "a": "int64"}, {})], {})))
    other.close()
    assert {name: id_ for name, id_ in first.items() if name in later} == {
        name: id_ for name, id_ in later.items() if name in first
    }
    assert set(first) & set(later) == {"a", "b", "b.x"}


def test_columns_of_the_same_id_are_left_out(publisher: Publisher) -> None:
    """A file may have either of them under the id."""
    columns = {"id": "int64", "c27325": "int64", "c62330": "string"}
    assert field_id(("c27325",)) == field_id(("c62330",))
    published = publish(publisher, folded([Part((), columns, {})], {}))
    assert arrow_types(published) == {"id": "long"}
    assert "rename it" in opened(published).properties["dagfusion.left-out.c27325"]
    alone = publish(publisher, folded([Part((), {"id": "int64", "c27325": "int64"}, {})], {}))
    assert arrow_types(alone) == {"id": "long", "c27325": "long"}


def ids(published: Any) -> dict[str, int]:
    columns = opened(published).schema()
    return {name: columns.find_field(name).field_id for name in columns.column_names}


def mapping(properties: Any) -> Any:
    return json.loads(properties["schema.name-mapping.default"])
