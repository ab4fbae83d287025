"""One table to the partitions its rows belong to. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_pipeline.errors import PartitionError, shortened

_ROWS_SHOWN = 3
_KEYS_SHOWN = 5


@dataclass(frozen=True)
class Windows:
    """Spans of time, of which none overlaps another; an end is not part of its span."""

    starts: pa.Array
    ends: pa.Array

    def starts_of(self, times: pa.ChunkedArray) -> pa.Array:
        """Return for each time the start of its span; null for a time outside of all spans."""
        order = pc.sort_indices(self.starts)
        starts, ends = self.starts.take(order), self.ends.take(order)
        counts = _ticks(times.combine_chunks())
        places = np.searchsorted(_ticks(starts), counts, side="right") - 1
        inside = (places >= 0) & (counts < _ticks(ends)[places]) & times.is_valid().to_numpy()
        return starts.take(pa.array(places, mask=~inside))


def _ticks(times: pa.Array) -> Any:
    number = pa.int32() if pa.types.is_date32(times.type) else pa.int64()
    return times.cast(number).fill_null(0).to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class PartitionIndex:
    """Which partition of a run a row belongs to, by the exact values of its partition columns.

    Attributes:
        asset: For messages.
        columns: The partition columns' names.
        keys: The run's partition keys.
        values: For each partition column, the value that stands for each of the keys, typed as the frame's column.
        windows: The windows of the columns that hold times within a partition's window; the values are their starts.
    """

    asset: str
    columns: Sequence[str]
    keys: Sequence[str]
    values: Sequence[pa.Array]
    windows: Mapping[str, Windows] = field(default_factory=dict)

    def split(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Cut a table into the rows of each partition; a partition comes once, its rows in the table's order.

        Yields:
            The position of the partition's key, and its rows with all their columns.

        Raises:
            PartitionError: A row belongs to no partition of the run.
        """
        positions = self._locate(table)
        if positions.null_count:
            raise self._stray(table.filter(pc.is_null(positions)))
        runs = pc.run_end_encode(positions)
        if len(runs.values) != len(runs.values.unique()):
            order = pc.sort_indices(positions)  # stable
            table, runs = table.take(order), pc.run_end_encode(positions.take(order))
        start = 0
        for position, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            yield position, table.slice(start, end - start)
            start = end

    def _locate(self, table: pa.Table) -> pa.Array:
        code = pa.repeat(pa.scalar(0, pa.int64()), table.num_rows)
        for column, distinct in zip(self.columns, self._distinct, strict=True):
            # A value of no key makes the code null, and so does the combination of values of no key below.
            found = table.column(column)
            if column in self.windows:
                found = pa.chunked_array([self.windows[column].starts_of(found)])
            index = pc.index_in(found, value_set=distinct).combine_chunks().cast(pa.int64())
            code = pc.add(pc.multiply(code, len(distinct)), index)
        return self._positions.take(code)

    @cached_property
    def _distinct(self) -> list[pa.Array]:
        return [values.unique() for values in self.values]

    @cached_property
    def _positions(self) -> pa.Array:
        codes = [0] * len(self.keys)
        size = 1
        for values, distinct in zip(self.values, self._distinct, strict=True):
            indices = pc.index_in(values, value_set=distinct).to_pylist()
            codes = [code * len(distinct) + index for code, index in zip(codes, indices, strict=True)]
            size *= len(distinct)
        positions: list[int | None] = [None] * size
        for position, code in enumerate(codes):
            of_partition = positions[code]
            if of_partition is not None:
                raise self._ambiguous(of_partition, position)
            positions[code] = position
        return pa.array(positions, pa.int32())

    def _ambiguous(self, first: int, second: int) -> PartitionError:
        names = ", ".join(map(repr, self.columns))
        types = ", ".join(str(values.type) for values in self.values)
        return PartitionError(
            f"partitions {self.keys[first]!r} and {self.keys[second]!r} of asset {self.asset!r} have the same value in"
            f" column {names} of type {types}: use a type that tells them apart"
        )

    def _stray(self, rows: pa.Table) -> PartitionError:
        examples = rows.select(list(self.columns)).slice(0, _ROWS_SHOWN).to_pylist()
        shown = "; ".join(", ".join(f"{name}={value}" for name, value in row.items()) for row in examples)
        keys = ", ".join(shortened([*map(repr, self.keys)], _KEYS_SHOWN))
        right = (
            "a time of the partition's window" if self.windows else "the partition's value (a time partition's start)"
        )
        return PartitionError(
            f"{rows.num_rows} rows of asset {self.asset!r} belong to no partition of this run, such as {shown};"
            f" the run's partitions are {keys} ({len(self.keys)}), and a partition column holds exactly {right}:"
            " filter the rows, or, if such a column is data, give the partition column another name with the metadata"
            " partition_expr"
        )
