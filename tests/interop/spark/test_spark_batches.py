"""The batches of a Spark server's results, with the columns that a worker's have."""

import pyarrow as pa
import pytest

from dagfusion_client.errors import RemoteEngineError
from dagfusion_interop.spark.spark_batches import conformed


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (pa.array([1, None], pa.int32()), pa.int64()),
        (pa.array([1, 2], pa.int64()), pa.uint8()),
        (pa.array([1], pa.int64()), pa.float64()),
        (pa.array([1], pa.int64()), pa.decimal128(10, 2)),
        (pa.array(["1.50"]).cast(pa.decimal128(25, 4)), pa.decimal128(10, 2)),
        (pa.array([1.5]), pa.float32()),
        (pa.array(["a"]), pa.string_view()),
        (pa.array([b"a"]), pa.large_binary()),
        (pa.array([0], pa.timestamp("us", "Etc/UTC")), pa.timestamp("ns")),
        (pa.array([0], pa.timestamp("us")), pa.timestamp("ms", "UTC")),
        (pa.nulls(2), pa.string()),
        (pa.array([[1]]), pa.list_(pa.int64())),
    ],
)
def test_columns_are_those_here(there: pa.Array, here: pa.DataType) -> None:
    schema = pa.schema([pa.field("x", here)])
    column = conformed(pa.record_batch({"x": there}), schema, "Spark")["x"]
    assert (column.type, column.null_count, len(column)) == (here, there.null_count, len(there))


@pytest.mark.parametrize(
    ("there", "field", "text"),
    [
        (pa.array([2**40]), pa.field("x", pa.decimal128(10, 2)), "cannot have"),
        (pa.array([0.5]), pa.field("x", pa.int64()), "returned double in column x, which is integer in DataFusion"),
        (pa.array([1.0]), pa.field("x", pa.int64()), "returned double"),
        (pa.array(["1"]), pa.field("x", pa.int64()), "returned text"),
        (pa.array([300]), pa.field("x", pa.uint8()), "that uint8 cannot have"),
        (pa.array([2**60 + 1]), pa.field("x", pa.float64()), "that double cannot have"),
        (pa.array(["1.555"]).cast(pa.decimal128(10, 3)), pa.field("x", pa.decimal128(10, 2)), "cannot have"),
        (pa.array([1, None]), pa.field("x", pa.int64(), nullable=False), "NULL in column x"),
        (
            pa.array([0], pa.timestamp("us", "Europe/Berlin")),
            pa.field("x", pa.timestamp("us")),
            "which is timestamp in DataFusion",
        ),
        (pa.array([[1]]), pa.field("x", pa.list_(pa.float64())), "returned list"),
    ],
)
def test_other_columns_are_refused(there: pa.Array, field: pa.Field, text: str) -> None:
    with pytest.raises(RemoteEngineError, match=text):
        conformed(pa.record_batch({"x": there}), pa.schema([field]), "Spark")


def test_a_column_that_is_missing() -> None:
    with pytest.raises(RemoteEngineError, match="returned 1 columns, but the statement has 2:"):
        conformed(pa.record_batch({"x": [1]}), pa.schema({"x": pa.int64(), "y": pa.int64()}), "Spark")


def test_columns_in_another_order() -> None:
    schema = pa.schema({"x": pa.int64(), "y": pa.int64(), "sum(x)": pa.int64()})
    assert conformed(pa.record_batch({"X": [1], "y": [2], "sum(t.x)": [3]}), schema, "Spark").schema == schema
    with pytest.raises(RemoteEngineError, match="returned column y in place of x"):
        conformed(pa.record_batch({"y": [1], "x": [2], "z": [3]}), schema, "Spark")
