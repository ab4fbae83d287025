"""NULL partitions of every type that a partition column can have."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_query.catalog.partitioned_file import encode_scalar
from dagfusion_query.scan.listing_tables import _placeholder

INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
MOMENT = dt.datetime(2024, 3, 10, 1, 2, 3)  # noqa: DTZ001
VALUES: dict[pa.DataType, Any] = {
    **dict.fromkeys(INTEGERS, 7),
    pa.string(): "a",
    pa.bool_(): False,
    pa.float32(): 1.5,
    pa.float64(): -0.5,
    pa.date32(): dt.date(2024, 3, 10),
    **{pa.timestamp(unit): MOMENT for unit in ("s", "ms", "us", "ns")},
    pa.timestamp("us", "UTC"): MOMENT.replace(tzinfo=dt.UTC),
    pa.decimal128(3, 0): Decimal(0),
    pa.decimal128(10, 2): Decimal("1.10"),
    pa.decimal128(38, 38): Decimal("0.1"),
    pa.decimal128(38, 0): Decimal(10) ** 37,
}
decimals = st.integers(1, 38).flatmap(lambda digits: st.builds(pa.decimal128, st.just(digits), st.integers(-9, digits)))


@given(st.sampled_from(sorted([*VALUES, pa.binary(), pa.large_string()], key=str)) | decimals)
def test_a_null_is_scanned_as_a_value_of_its_type(kind: pa.DataType) -> None:
    placeholder = _placeholder(kind)
    assert placeholder.type == kind
    assert placeholder.is_valid
    assert encode_scalar(placeholder.as_py(), kind)


@pytest.mark.usefixtures("heavy")
def test_null_partitions_of_every_type_are_read_and_filtered(lake: Any) -> None:
    for number, (kind, value) in enumerate(VALUES.items()):
        key = ("Silver", f"t{number}")
        for x, of_partition in enumerate((value, None)):
            lake.write(key, pa.table({"x": [x]}), {"p": pa.scalar(of_partition, kind)})
    for number, (kind, value) in enumerate(VALUES.items()):
        table = f"local_silver.t{number}"
        found = lake.sql(f"SELECT x, p FROM {table} ORDER BY x")
        assert (kind, found["p"].type, found["x"].to_pylist()) == (kind, kind, [0, 1])
        assert found["p"].to_pylist() == [value, None]
        for condition, expected in (("p IS NULL", [1]), ("p IS NOT NULL", [0]), ("p = $1", [0]), ("p <> $1", [])):
            params = [pa.scalar(value, kind)] if "$" in condition else None
            rows = lake.sql(f"SELECT x FROM {table} WHERE {condition}", params)
            assert (kind, condition, rows["x"].to_pylist()) == (kind, condition, expected)


@pytest.mark.parametrize("kind", [pa.time64("us"), pa.decimal256(40, 0)])
def test_other_types_are_refused_with_their_event(lake: Any, kind: pa.DataType) -> None:
    lake.write(("Silver", "t"), pa.table({"x": [1]}), {"p": pa.scalar(None, kind)})
    (table,) = lake.snapshot.tables.values()
    assert f"type {kind}; partition columns can be" in str(table.problem)
