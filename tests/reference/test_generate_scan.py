from collections.abc import Sequence

import polars as pl
import pytest

from dagfusion_reference.defs.streaming import scan_partitions


def three_rows_each(partitions: Sequence[int]) -> pl.DataFrame:
    return pl.DataFrame({"p": [p for p in partitions for _ in range(3)], "n": [0, 1, 2] * len(partitions)})


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_scan_gives_every_partition_in_order(size: int) -> None:
    schema = pl.Schema({"p": pl.Int64(), "n": pl.Int64()})
    scan = scan_partitions(range(5), three_rows_each, schema, partitions_a_chunk=size)
    whole = three_rows_each(range(5))
    assert scan.collect().equals(whole)
    assert scan.head(7).collect().equals(whole.head(7))
    assert scan.select("n").collect().equals(whole.select("n"))
    assert scan.filter(pl.col("p") == 3).collect().equals(whole.filter(pl.col("p") == 3))
    assert scan.head(7).filter(pl.col("n") == 2).collect().equals(whole.head(7).filter(pl.col("n") == 2))
    assert scan.filter(pl.col("n") == 2).head(4).collect().equals(whole.filter(pl.col("n") == 2).head(4))
    assert scan.filter(pl.col("p") > 1).select("n").head(0).collect().height == 0


def test_a_scan_makes_only_what_is_asked_for() -> None:
    made: list[int] = []

    def make(partitions: Sequence[int]) -> pl.DataFrame:
        made.extend(partitions)
        return three_rows_each(partitions)

    scan = scan_partitions(range(100), make, pl.Schema({"p": pl.Int64(), "n": pl.Int64()}), partitions_a_chunk=1)
    assert made == []
    assert scan.head(4).collect().height == 4
    assert made == [0, 1]


def test_a_scan_of_no_partitions_is_empty() -> None:
    schema = pl.Schema({"p": pl.Int64(), "n": pl.Int64()})
    assert scan_partitions([], three_rows_each, schema).collect().schema == schema
