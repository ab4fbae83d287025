"""Arrow values in the JSON of event metadata v1."""

import datetime as dt
import decimal
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.values import is_partition_type, parse_partition_entry, partition_entry, value_entry

moment = dt.datetime.fromisoformat


@pytest.mark.parametrize(
    ("scalar", "entry"),
    [
        (pa.scalar(value=True), True),
        (pa.scalar(2**64 - 1, pa.uint64()), 2**64 - 1),
        (pa.scalar(1.5), 1.5),
        (pa.scalar("a\0ü"), "a\0ü"),
        (pa.scalar(None, pa.date32()), None),
        (pa.scalar(dt.date(2024, 1, 15)), "2024-01-15"),
        (pa.scalar(moment("2024-01-15T01:02:03"), pa.timestamp("ms")), "2024-01-15T01:02:03.000"),
        (pa.scalar(moment("1960-01-01T00:00:00.000001"), pa.timestamp("us")), "1960-01-01T00:00:00.000001"),
        (pa.scalar(1, pa.timestamp("ns", "UTC")), "1970-01-01T00:00:00.000000001Z"),
        (pa.scalar(0, pa.timestamp("us", "Asia/Tokyo")), "1970-01-01T00:00:00.000000Z"),
        (pa.scalar(dt.time(1, 2, 3), pa.time64("us")), "01:02:03.000000"),
        (pa.scalar(decimal.Decimal("12.30"), pa.decimal128(12, 2)), "12.30"),
        (pa.scalar(decimal.Decimal("1E+3"), pa.decimal128(5, -3)), "1000"),
    ],
)
def test_values(scalar: pa.Scalar, entry: object) -> None:
    assert value_entry(scalar) == entry
    assert json.loads(json.dumps(value_entry(scalar))) == entry


@pytest.mark.parametrize(
    "scalar",
    [
        pa.scalar(float("nan")),
        pa.scalar(float("inf")),
        pa.scalar(b"x"),
        pa.scalar([1]),
        pa.scalar(2**40, pa.timestamp("s")),
        pa.scalar(-(10**7), pa.int32()).cast(pa.date32()),
    ],
)
def test_values_without_a_json_form(scalar: pa.Scalar) -> None:
    with pytest.raises(ValueError, match=r"JSON|outside the years"):
        value_entry(scalar)


def scalars_of(data_type: pa.DataType, values: st.SearchStrategy[Any]) -> st.SearchStrategy[pa.Scalar]:
    return st.one_of(st.none(), values).map(lambda value: pa.scalar(value, data_type))


partition_values = st.one_of(
    scalars_of(pa.string(), st.text(st.characters(exclude_categories=["Cs"]))),
    scalars_of(pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    scalars_of(pa.bool_(), st.booleans()),
    scalars_of(pa.date32(), st.dates()),
    scalars_of(pa.timestamp("us"), st.datetimes()),
    scalars_of(pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(dt.UTC))),
    scalars_of(pa.timestamp("ns"), st.datetimes(moment("1700-01-01"), moment("2200-01-01"))),
    scalars_of(pa.decimal128(12, 2), st.decimals(-(10**9), 10**9, places=2)),
)


@given(partition_values)
def test_partition_values_come_back(value: pa.Scalar) -> None:
    assert is_partition_type(value.type)
    name, back = parse_partition_entry(json.loads(json.dumps(partition_entry("k", value))))
    assert name == "k"
    assert back.type == value.type
    assert back.equals(value)


@pytest.mark.parametrize("data_type", [pa.float64(), pa.binary(), pa.list_(pa.int8()), pa.time64("us"), pa.null()])
def test_types_that_are_no_partition_columns(data_type: pa.DataType) -> None:
    assert not is_partition_type(data_type)
