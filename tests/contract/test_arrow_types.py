"""Arrow types in the JSON of event metadata v1."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.arrow_types import field_entry, parse_field, parse_flat_type, parse_type, type_entry
from dagfusion_contract.errors import MalformedRecordError

FLAT = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.null(), pa.binary(16)),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.duration("us")),
    *(
        pa.timestamp("us"),
        pa.timestamp("ns", "UTC"),
        pa.timestamp("ms", "America/New_York"),
        pa.timestamp("s", "+02:00"),
    ),
    *(pa.decimal128(12, 2), pa.decimal128(38, 0), pa.decimal256(60, 20), pa.decimal128(5, -2)),
]


@pytest.mark.parametrize("kind", FLAT, ids=str)
def test_a_flat_type_reads_as_arrow_prints_it(kind: pa.DataType) -> None:
    assert type_entry(kind) == str(kind)
    assert parse_type(str(kind), "type") == kind


NAMES = [
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "halffloat", "float", "double", "bool",
    "string", "binary", "date32[day]", "timestamp[us]", "timestamp[ns, tz=UTC]", "timestamp[ms, tz=America/New_York]",
    "time64[us]", "time32[ms]", "duration[us]", "decimal128(12, 2)", "decimal256(50, 0)", "null",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_flat_types_have_arrows_name(name: str) -> None:
    assert type_entry(parse_type(name, "type")) == name


@pytest.mark.parametrize(("name", "kind"), [("large_string", pa.string()), ("binary_view", pa.binary())])
def test_other_forms_of_a_type_read_as_the_normal_one(name: str, kind: pa.DataType) -> None:
    assert parse_flat_type(name) == kind


def test_nested_types_say_how_they_nest() -> None:
    data_type = pa.list_(pa.field("item", pa.struct([pa.field("a", pa.int8(), nullable=False)])))
    assert field_entry(pa.field("x", data_type)) == {
        "name": "x",
        "type": {
            "list": {
                "name": "item",
                "type": {"struct": [{"name": "a", "type": "int8", "nullable": False}]},
                "nullable": True,
            }
        },
        "nullable": True,
    }
    assert type_entry(pa.map_(pa.string(), pa.int8())) == {
        "map": [
            {"name": "key", "type": "string", "nullable": False},
            {"name": "value", "type": "int8", "nullable": True},
        ]
    }


def test_nested_types_read_as_json() -> None:
    item = {"name": "item", "type": "int32", "nullable": True}
    key = {"name": "key", "type": "string", "nullable": False}
    assert parse_type({"list": item}, "type") == pa.list_(pa.field("item", pa.int32()))
    assert parse_type({"struct": [item, key]}, "type") == pa.struct({"item": pa.int32(), "key": pa.string()})
    assert parse_type({"map": [key, item]}, "type") == pa.map_(pa.string(), pa.int32())
    nested = {"list": {"name": "item", "type": {"struct": [item]}, "nullable": True}}
    assert parse_type(nested, "type") == pa.list_(pa.struct({"item": pa.int32()}))


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "int128",
        "timestamp[us, tz=]",
        "decimal128(0, 0)",
        "decimal128(39, 2)",
        {},
        {"list": []},
        {"map": []},
        1,
        None,
    ],
)
def test_what_is_no_type_is_refused(spec: object) -> None:
    with pytest.raises(MalformedRecordError, match=r"^type"):
        parse_type(spec, "type")


types = st.recursive(
    st.sampled_from(FLAT),
    lambda inside: st.one_of(
        inside.map(pa.list_),
        st.lists(inside, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(str(n), k) for n, k in enumerate(kinds)])
        ),
        st.tuples(inside.filter(lambda kind: kind != pa.null()), inside).map(lambda pair: pa.map_(*pair)),
    ),
    max_leaves=5,
)


@given(types)
def test_every_type_comes_back(kind: pa.DataType) -> None:
    field = pa.field("x", kind)
    assert parse_field(field_entry(field), "field") == field
