"""Rows to partitions, by the exact values of their partition columns."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_pipeline.errors import PartitionError
from dagfusion_pipeline.split import PartitionIndex

A = ["x", "y", None, ""]
B = [1, 2, 3]
KEYS = [(a, b) for a in A for b in B]


def index_of(keys: list[tuple[str | None, int]]) -> PartitionIndex:
    values = [pa.array([a for a, _ in keys], pa.string()), pa.array([b for _, b in keys], pa.int32())]
    return PartitionIndex("Silver/orgs", ["a", "b"], [f"{a}|{b}" for a, b in keys], values)


def rows_of(pairs: Sequence[tuple[str | None, int]]) -> pa.Table:
    columns = {"n": pa.array(range(len(pairs))), "a": pa.array([a for a, _ in pairs], pa.string())}
    return pa.table({**columns, "b": pa.array([b for _, b in pairs], pa.int32())})


@given(st.lists(st.sampled_from(KEYS), unique=True, min_size=1), st.data())
def test_every_row_comes_once_and_in_order(keys: list[tuple[str | None, int]], data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.sampled_from(keys)))
    pieces = list(index_of(keys).split(rows_of(pairs)))
    assert len({position for position, _ in pieces}) == len(pieces)
    for position, piece in pieces:
        expected = [n for n, pair in enumerate(pairs) if pair == keys[position]]
        assert piece["n"].to_pylist() == expected
        assert expected
    assert sum(piece.num_rows for _, piece in pieces) == len(pairs)


@given(st.lists(st.sampled_from(KEYS), unique=True, min_size=1, max_size=len(KEYS) - 1), st.data())
def test_a_stray_row_is_found(keys: list[tuple[str | None, int]], data: st.DataObject) -> None:
    stray = data.draw(st.sampled_from([key for key in KEYS if key not in keys]))
    pairs = data.draw(st.permutations([*data.draw(st.lists(st.sampled_from(keys))), stray]))
    with pytest.raises(
        PartitionError,
        match=re.escape(
            f"1 rows of asset 'Silver/orgs' belong to no partition of this run, such as a={stray[0]}, b={stray[1]};"
        ),
    ):
        list(index_of(keys).split(rows_of(pairs)))


def test_sorted_rows_are_not_copied() -> None:
    table = rows_of([("x", 1)] * 3 + [("y", 2)] * 2)
    (_, first), (_, second) = index_of([("x", 1), ("y", 2)]).split(table)
    assert (
        first["n"].chunk(0).buffers()[1].address
        == second["n"].chunk(0).buffers()[1].address
        == table["n"].chunk(0).buffers()[1].address
    )


def test_chunked_columns_are_one_table() -> None:
    table = pa.concat_tables([rows_of([("y", 2)]), rows_of([("x", 1), ("y", 2)])])
    assert {position: piece.num_rows for position, piece in index_of([("x", 1), ("y", 2)]).split(table)} == {0: 1, 1: 2}


def test_keys_of_one_value_are_refused() -> None:
    index = PartitionIndex("a", ["n"], ["5", "05"], [pa.array([5, 5])])
    with pytest.raises(
        PartitionError, match=r"partitions '5' and '05' of asset 'a' have the same value in column 'n' of type int64"
    ):
        list(index.split(pa.table({"n": [5]})))


def test_one_partition_without_columns_takes_all() -> None:
    table = pa.table({"n": [1, 2]})
    assert list(PartitionIndex("a", [], ["k"], []).split(table)) == [(0, table)]


def test_no_rows_no_pieces() -> None:
    assert list(index_of([("x", 1)]).split(rows_of([]))) == []


def test_long_lists_of_keys_are_cut_in_the_message() -> None:
    keys: list[tuple[str | None, int]] = [("x", n) for n in range(9)]
    with pytest.raises(PartitionError) as refused:
        list(index_of(keys).split(rows_of([("z", 1)] * 7)))
    assert str(refused.value) == (
        "7 rows of asset 'Silver/orgs' belong to no partition of this run, such as a=z, b=1; a=z, b=1; a=z, b=1;"
        " the run's partitions are 'x|0', 'x|1', 'x|2', 'x|3', 'x|4', ... (9), and a partition column holds exactly the"
        " partition's value (a time partition's start): filter the rows, or, if such a column is data, give the"
        " partition column another name with the metadata partition_expr"
    )
