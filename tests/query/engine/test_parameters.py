"""A plan is reused for the same parameters only: the same types, and the same values bit for bit."""

import datetime as dt
import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import ParameterError
from dagfusion_client.parameters import scalars
from dagfusion_query.engine.reuse import parameters_key

# Values that compare equal, or not even to themselves, grouped by what tells them apart.
ALIKE = [
    pa.scalar(0.0),
    pa.scalar(-0.0),
    pa.scalar(0.0, pa.float32()),
    pa.scalar(-0.0, pa.float32()),
    pa.scalar(0),
    pa.scalar(0, pa.int32()),
    pa.scalar(0, pa.uint64()),
    pa.scalar(value=False),
    pa.scalar(None),
    pa.scalar(None, pa.float64()),
    pa.scalar(Decimal(0)),
    pa.scalar(Decimal("0.0")),
    pa.scalar(Decimal("0.00")),
    pa.scalar(math.nan),
    pa.scalar(struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000000))[0]),
    pa.scalar(""),
    pa.scalar("", pa.large_string()),
    pa.scalar(b""),
    pa.scalar(0, pa.timestamp("us")),
    pa.scalar(0, pa.timestamp("ms")),
    pa.scalar(0, pa.timestamp("us", "UTC")),
    pa.scalar(0, pa.timestamp("us", "Europe/Berlin")),
    pa.scalar(0, pa.date32()),
    pa.scalar(dt.timedelta(0)),
]
SCALARS = st.sampled_from(range(len(ALIKE)))
# A value inside of lists and structs, written the same way for every value.
NESTINGS = st.lists(st.sampled_from(["list", "struct"]), max_size=3)


def _nested(scalar: pa.Scalar, nesting: list[str]) -> pa.Scalar:
    array = pa.repeat(scalar, 1)
    for kind in nesting:
        array = (
            pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), array)
            if kind == "list"
            else pa.StructArray.from_arrays([array], ["f"])
        )
    return array[0]


@given(SCALARS, SCALARS, NESTINGS)
def test_keys_are_equal_for_equal_bits_only(one: int, other: int, nesting: list[str]) -> None:
    keys = [parameters_key({"1": _nested(ALIKE[number], nesting)}) for number in (one, other)]

    assert (keys[0] == keys[1]) == (one == other)


@given(st.lists(SCALARS, max_size=3), st.lists(SCALARS, max_size=3))
def test_keys_tell_positions_and_counts_apart(one: list[int], other: list[int]) -> None:
    keys = [parameters_key({str(i): ALIKE[n] for i, n in enumerate(numbers, 1)}) for numbers in (one, other)]

    assert (keys[0] == keys[1]) == (one == other)


def test_keys_tell_names_apart_and_take_them_in_any_order() -> None:
    one, two = pa.scalar(1), pa.scalar(2)

    assert parameters_key({"a": one, "b": two}) == parameters_key({"b": two, "a": one})
    assert parameters_key({"a": one, "b": two}) != parameters_key({"a": two, "b": one})


def test_a_negative_zero_is_planned_for_itself(lake: Any) -> None:
    sql = "SELECT CAST(1 AS DOUBLE) / $1 AS q"

    assert [lake.rows(sql, [zero])[0]["q"] for zero in (0.0, -0.0, 0.0)] == [math.inf, -math.inf, math.inf]
    assert lake.engine.cached_plans == 1


def test_the_plan_of_nan_is_found_again(lake: Any) -> None:
    for _ in range(2):
        assert math.isnan(lake.rows("SELECT $1 AS x", [math.nan])[0]["x"])

    assert lake.engine.cached_plans == 1


@pytest.mark.parametrize(
    ("value", "scalar"),
    [
        (2**63 - 1, pa.scalar(2**63 - 1)),
        (2**64 - 1, pa.scalar(2**64 - 1, pa.uint64())),
        (np.uint64(2**64 - 1), pa.scalar(2**64 - 1, pa.uint64())),
        (np.datetime64("2024-01-01"), pa.scalar(dt.date(2024, 1, 1))),
        (np.datetime64("NaT", "us"), pa.scalar(None, pa.timestamp("us"))),
        (np.str_("a"), pa.scalar("a")),
        (pd.NaT, pa.scalar(None, pa.timestamp("us"))),
        (pd.Timestamp("2024-01-01"), pa.scalar(dt.datetime(2024, 1, 1), pa.timestamp("us"))),  # noqa: DTZ001
    ],
)
def test_values(value: Any, scalar: pa.Scalar) -> None:
    found = scalars([value])["1"]

    assert found.as_py() == scalar.as_py()
    assert found.type == scalar.type


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**63) - 1, Decimal("Infinity"), Decimal(10) ** 80, np.timedelta64(1, "D"), 1j, object(), "\ud800"],
)
def test_values_that_arrow_lacks(value: Any) -> None:
    with pytest.raises(ParameterError, match=type(value).__name__):
        scalars([value])


def test_the_greatest_partition(lake: Any) -> None:
    lake.write(("t",), pa.table({"id": [1]}), {"u": pa.scalar(2**64 - 1, pa.uint64())})

    assert lake.rows("SELECT id FROM local_default.t WHERE u = $1", [2**64 - 1]) == [{"id": 1}]
