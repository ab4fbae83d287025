"""Parameters in JSON: each type there and back, and everything else refused by its name."""

import base64
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import ParameterError
from dagfusion_client.parameters import read_params, write_params

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.times(),
    st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**20), max_value=10**20),
)


def there_and_back(params: Any) -> pa.RecordBatch | None:
    return read_params(json.loads(json.dumps(write_params(params))))


@pytest.mark.usefixtures("heavy")
@given(st.lists(PLAIN, min_size=1, max_size=5))
def test_a_list_is_the_same_after_the_wire(values: list[Any]) -> None:
    batch = there_and_back(values)

    assert batch is not None
    assert batch.column_names == [str(number) for number in range(1, len(values) + 1)]
    assert [column[0].as_py() for column in batch.columns] == values
    assert batch.schema.types == [pa.scalar(value).type for value in values]


@given(st.dictionaries(st.text(min_size=1), PLAIN, min_size=1, max_size=5))
def test_an_object_is_the_same_after_the_wire(values: dict[str, Any]) -> None:
    batch = there_and_back(values)

    assert batch is not None
    assert dict(zip(batch.column_names, [column[0].as_py() for column in batch.columns], strict=True)) == values


@pytest.mark.parametrize(
    "scalar",
    [
        pa.scalar(5, pa.int8()),
        pa.scalar(2**64 - 1, pa.uint64()),
        pa.scalar(1.5, pa.float32()),
        pa.scalar(1.5, pa.float16()),
        pa.scalar(math.inf),
        pa.scalar(-math.inf, pa.float32()),
        pa.scalar(None, pa.date32()),
        pa.scalar(date(2024, 1, 15), pa.date64()),
        pa.scalar(time(1, 2, 3), pa.time32("s")),
        pa.scalar(1, pa.time64("ns")),
        pa.scalar(1, pa.timestamp("ns")),
        pa.scalar(datetime(2024, 1, 15, 1, 2, 3, tzinfo=UTC), pa.timestamp("ms", "UTC")),
        pa.scalar(7, pa.duration("ns")),
        pa.scalar(Decimal("-1.50"), pa.decimal128(10, 2)),
        pa.scalar(Decimal(12345678901234567890123456789012345678901234567890), pa.decimal256(60, 0)),
        pa.scalar(b"abc", pa.binary(3)),
        pa.scalar(b"\x00\xff"),
    ],
    ids=lambda scalar: str(scalar.type),
)
def test_each_type_of_arrow_keeps_its_value(scalar: pa.Scalar) -> None:
    batch = there_and_back([scalar])

    assert batch is not None
    assert batch.column(0)[0] == scalar
    assert batch.column(0).type == scalar.type


def test_nan_is_a_value() -> None:
    batch = there_and_back([math.nan])

    assert batch is not None
    assert math.isnan(batch.column(0)[0].as_py())


@pytest.mark.parametrize(
    ("scalar", "kind"),
    [
        (pa.scalar("a", pa.large_string()), pa.string()),
        (pa.scalar(b"a", pa.large_binary()), pa.binary()),
        (pa.scalar("a", pa.string_view()), pa.string()),
        (pa.array(["a"]).dictionary_encode()[0], pa.string()),
    ],
)
def test_types_that_mean_the_same_become_one(scalar: pa.Scalar, kind: pa.DataType) -> None:
    batch = there_and_back([scalar])

    assert batch is not None
    assert batch.column(0).type == kind


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_no_parameters(nothing: Any) -> None:
    assert read_params(nothing) is None


def typed(kind: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "value": value}


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ("CA", "params must be a list or an object, got a text"),
        (1, "params must be a list or an object, got a number"),
        ([1, [2]], "parameter $2 must be a JSON scalar or"),
        ([2**64], "parameter $1 has more than 64 bits"),
        ({"a": {"type": "int64"}}, "parameter $a must be {"),
        ({"a": {"type": 1, "value": 1}}, "parameter $a must be {"),
        ({"a": {"value": 1, "type": "int64", "x": 1}}, "got the fields type, value, x"),
        ([typed("integer", 1)], "parameter $1 has an unsupported type: 'integer'"),
        ([typed("x" * 1000, 1)], "parameter $1 has an unsupported type"),
        ([typed("int8", 128)], "parameter $1 must be int8, got '128'"),
        ([typed("int8", "1")], "must be int8"),
        ([typed("int64", 1.0)], "must be int64"),
        ([typed("int64", value=True)], "must be int64"),
        ([typed("uint8", -1)], "must be uint8"),
        ([typed("bool", 1)], "must be bool"),
        ([typed("bool", "true")], "must be bool"),
        ([typed("double", "1.5")], "must be double"),
        ([typed("double", value=True)], "must be double"),
        ([typed("string", 1)], "must be string"),
        ([typed("binary", "a")], "must be binary"),
        ([typed("binary", "ä")], "must be binary"),
        ([typed("fixed_size_binary[3]", base64.b64encode(b"ab").decode())], "must be fixed_size_binary[3]"),
        ([typed("decimal128(4, 2)", "123.45")], "must be decimal128(4, 2)"),
        ([typed("decimal128(4, 2)", "1.234")], "must be decimal128(4, 2)"),
        ([typed("decimal128(4, 2)", 1.5)], "must be decimal128(4, 2)"),
        ([typed("decimal128(4, 2)", "NaN")], "must be decimal128(4, 2)"),
        ([typed("date32[day]", "2024-02-30")], "must be date32[day]"),
        ([typed("date32[day]", "yesterday")], "must be date32[day]"),
        ([typed("date32[day]", 1)], "must be date32[day]"),
        ([typed("timestamp[us]", "2024-01-01T00:00:00Z")], "must be timestamp[us]"),
        ([typed("timestamp[us, tz=UTC]", "2024-01-01T00:00:00")], "must be timestamp[us, tz=UTC]"),
        ([typed("time64[us]", "noon")], "must be time64[us]"),
        ([typed("time64[us]", " 1:00:00")], "must be time64[us]"),
        ([typed("time64[us]", "25:00:00")], "must be time64[us]"),
        ([typed("duration[us]", "P1D")], "must be duration[us]"),
        ([{"a": "\ud800"}], "must be {"),
        (["\ud800"], "is no Unicode text"),
        ({"\ud800": 1}, "is no Unicode text"),
        ([typed("string", "\ud800")], "must be string"),
    ],
)
def test_what_cannot_be_read_is_named(given_: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        read_params(given_)

    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, 2**70, pa.scalar([1])])
def test_what_cannot_be_written_is_named(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"parameter \$1"):
        write_params([value])


@given(
    st.recursive(
        PLAIN.filter(lambda v: v is None or isinstance(v, bool | int | float | str)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_document_raises_anything_else(value: Any) -> None:
    try:
        batch = read_params(value)
    except ParameterError:
        return
    assert batch is None or batch.num_rows == 1
