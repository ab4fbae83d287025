"""Frames too large to hold: a lazy frame whose chunks are made as they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import polars as pl
from polars.io.plugins import register_io_source

Partition = TypeVar("Partition")

_PARTITIONS_A_CHUNK = 250


def scan_partitions(
    partitions: Sequence[Partition],
    make: Callable[[Sequence[Partition]], pl.DataFrame],
    schema: pl.Schema,
    *,
    partitions_a_chunk: int = _PARTITIONS_A_CHUNK,
) -> pl.LazyFrame:
    """Yield a lazy frame of the partitions in their order, made chunk by chunk; a chunk holds whole partitions.

    Args:
        partitions: What to make, in the order of the rows.
        make: Partitions to rows, each partition's rows together and in the same order.
        schema: What `make` returns.
        partitions_a_chunk: How many partitions are in memory at once.
    """

    def chunks(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for start in range(0, len(partitions), partitions_a_chunk):
            rows = make(partitions[start : start + partitions_a_chunk])
            if left is not None:
                rows = rows.head(left)
                left -= rows.height
            if predicate is not None:
                rows = rows.filter(predicate)
            yield rows if columns is None else rows.select(columns)
            if left == 0:
                return

    return register_io_source(chunks, schema=schema, is_pure=True)
