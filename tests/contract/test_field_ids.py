"""Ids of fields: stable, of each field at any depth, and gone again without a trace."""

import pyarrow as pa
import pytest

from dagfusion_contract.field_ids import (
    FIRST_RESERVED_ID,
    KEY,
    field_id,
    has_all_field_ids,
    has_field_ids,
    unread_id,
    with_field_ids,
    without_field_ids,
)

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("tags", pa.list_(pa.struct([("x", pa.int8()), ("y", pa.string())]))),
        ("map", pa.map_(pa.string(), pa.list_(pa.int32()))),
    ]
)


def test_each_field_has_the_id_of_its_path() -> None:
    schema = with_field_ids(SCHEMA)
    assert schema.equals(SCHEMA)
    tags, entries = schema.field("tags"), schema.field("map").type
    element = tags.type.value_field
    found = {
        ("id",): schema.field("id"),
        ("tags",): tags,
        ("tags", "element"): element,
        ("tags", "element", "x"): element.type.field("x"),
        ("map",): schema.field("map"),
        ("map", "key"): entries.key_field,
        ("map", "value"): entries.item_field,
        ("map", "value", "element"): entries.item_field.type.value_field,
    }
    assert {path: int(field.metadata[KEY]) for path, field in found.items()} == {path: field_id(path) for path in found}
    assert all(0 < field_id(path) < FIRST_RESERVED_ID for path in found)


@pytest.mark.parametrize(
    ("kind", "has_all"),
    [
        (pa.large_list(pa.struct([("x", pa.int64())])), True),
        (pa.list_(pa.int64(), 2), True),
        (pa.struct([("x", pa.list_view(pa.int64()))]), False),
        (pa.map_(pa.string(), pa.list_view(pa.int64())), False),
    ],
)
def test_a_kind_of_list_without_ids_is_seen(kind: pa.DataType, has_all: bool) -> None:  # noqa: FBT001
    schema = with_field_ids(pa.schema([("x", kind)]))
    assert schema.field("x").type.equals(kind)
    assert has_all_field_ids(schema) is has_all


def test_a_partition_column_that_iceberg_reads_as_another_type_is_not_read_from_files() -> None:
    schema = pa.schema([("big", pa.uint64()), ("other", pa.uint64()), ("small", pa.uint8())])
    ids = {field.name: int(field.metadata[KEY]) for field in with_field_ids(schema, ["big", "small"])}
    assert ids == {"big": unread_id("big"), "other": field_id(("other",)), "small": field_id(("small",))}


def test_ids_are_removed() -> None:
    table = with_field_ids(SCHEMA).empty_table()
    assert has_field_ids(table.schema)
    assert without_field_ids(table).schema.equals(SCHEMA, check_metadata=True)
    plain = SCHEMA.empty_table()
    assert without_field_ids(plain) is plain
