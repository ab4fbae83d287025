"""An entry holds values as DataFusion itself writes them."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pytest
from datafusion import Expr
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import UnsupportedTypeError
from dagfusion_contract.uri import object_path, store_url
from dagfusion_query.catalog.partitioned_file import encode_entries, encode_scalar
from dagfusion_query.plan_messages import FileGroup, PartitionedFile
from dagfusion_query.wire import children, message, uint, uints

LITERAL = 3  # LogicalExprNode.literal

TYPES = {
    pa.string(): st.text(),
    pa.large_string(): st.text(),
    pa.binary(): st.binary(),
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-(2**7), 2**7 - 1),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 2**8 - 1),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.date32(): st.dates(),
    pa.timestamp("s"): st.datetimes().map(lambda t: t.replace(microsecond=0)),
    pa.timestamp("ms"): st.datetimes().map(lambda t: t.replace(microsecond=0)),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("ns"): st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),  # noqa: DTZ001
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(dt.UTC)),
    pa.decimal128(38, 10): st.decimals(-(10**20), 10**20, places=10),
    pa.decimal128(10, 0): st.integers(-(10**9), 10**9).map(Decimal),
}
SCALARS = st.sampled_from(list(TYPES)).flatmap(
    lambda kind: (st.none() | TYPES[kind]).map(lambda value: pa.scalar(value, kind))
)


def one_file(uri: str, size_bytes: int, modified_ns: int, values: Sequence[pa.Scalar]) -> bytes:
    """A file group's entry, put together field by field."""
    fields = [
        message(PartitionedFile.PATH, object_path(uri).encode()),
        uint(PartitionedFile.SIZE, size_bytes),
        uint(PartitionedFile.LAST_MODIFIED_NS, modified_ns),
        *(message(PartitionedFile.PARTITION_VALUES, encode_scalar(v.as_py(), v.type, v)) for v in values),
    ]
    return message(FileGroup.FILES, b"".join(fields))


@given(SCALARS)
def test_scalars_are_encoded_as_datafusion_encodes_literals(value: pa.Scalar) -> None:
    (expected,) = children(Expr.literal(value).to_bytes(), LITERAL)

    assert encode_scalar(value.as_py(), value.type, value) == expected


@given(st.lists(st.tuples(st.text(max_size=5), st.none() | st.integers(0, 9)), min_size=1))
def test_many_files_are_encoded_as_one_by_one(rows: list[tuple[str, int | None]]) -> None:
    states, numbers = pa.array([s for s, _ in rows]), pa.array([n for _, n in rows], pa.int32())
    partition = pa.StructArray.from_arrays([states, numbers], ["state", "number"])
    uris = [f"s3://bucket/{i}" for i in range(len(rows))]
    counts = list(range(len(rows)))

    together = encode_entries(uris, counts, counts, partition).to_pylist()

    assert together == [one_file(u, i, i, [states[i], numbers[i]]) for u, i in zip(uris, counts, strict=True)]


def test_types_that_no_partition_has_are_refused() -> None:
    with pytest.raises(UnsupportedTypeError, match="list<item: int64>"):
        encode_scalar([1], pa.list_(pa.int64()))


def test_a_uri_is_a_store_and_a_path() -> None:
    assert (store_url("s3://b/k/a%2Fb.parquet"), object_path("s3://b/k/a%2Fb.parquet")) == (
        "s3://b/",
        "k/a%2Fb.parquet",
    )
    assert (store_url("file:///a/b"), object_path("file:///a/b")) == ("file:///", "a/b")


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_many_integers_are_encoded_as_each_is(values: list[int]) -> None:
    assert uints(3, values) == [uint(3, value) for value in values]
