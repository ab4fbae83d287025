"""Finds which objects may hold rows with given keys, by the statistics of their records. Pure."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.arrow_types import parse_type
from dagfusion_contract.naming import find_column
from dagfusion_contract.values import is_partition_type, parse_value
from dagfusion_pipeline.errors import ConfigurationError


class Keys:
    """The keys of the rows that are erased, as each type that their column has.

    Args:
        column: its name; names may differ in case.
        texts: the keys as text, such as `42` or `2024-01-05`.
    """

    def __init__(self, column: str, texts: Sequence[str]) -> None:
        self.column, self._texts = column, [*dict.fromkeys(texts)]
        self._arrays: dict[pa.DataType, pa.Array] = {}
        self._sorted: dict[pa.DataType, list[Any]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def may_be_in(self, record: Mapping[str, Any]) -> bool:
        """Return True unless a record proves that its object has none of the keys.

        Raises:
            ConfigurationError: the column is a partition column, or cannot hold these keys.
        """
        if find_column(self.column, [one["name"] for one in record["partition"]]) is not None:
            raise ConfigurationError(
                f"{self.column!r} is a partition column: wipe the partitions (`dagfusion wipe`) instead of erasing rows"
            )
        fields = {field["name"]: field["type"] for field in record["schema"]["fields"]}
        name = find_column(self.column, list(fields))
        if name is None:
            return False
        data_type = parse_type(fields[name], f"the type of column {name!r}")
        self.array(data_type)
        bounds = record["columns"].get(name, {})
        if bounds.get("nulls") == record["rows"]:
            return False
        if bounds.get("min") is None or bounds.get("max") is None:
            return True
        low, high = (parse_value(bounds[end], data_type).as_py() for end in ("min", "max"))
        keys = self._sorted[data_type]
        place = bisect_left(keys, low)
        return place < len(keys) and bool(keys[place] <= high)

    def split(self, table: pa.Table) -> tuple[pa.Table, int]:
        """Return the rows of a table that have none of the keys, and the number of the others."""
        name = find_column(self.column, table.column_names)
        if name is None:
            return table, 0
        hit = pc.is_in(table[name], value_set=self.array(table.schema.field(name).type))
        kept = table.filter(pc.invert(hit))
        return kept, table.num_rows - kept.num_rows

    def array(self, data_type: pa.DataType) -> pa.Array:
        """Return the keys as values of a type.

        Raises:
            ConfigurationError: the type is one that rows are not erased by, or a key is not of the type.
        """
        if data_type not in self._arrays:
            if not is_partition_type(data_type):
                raise ConfigurationError(
                    f"rows cannot be erased by column {self.column!r} of type {data_type}: use a column of text,"
                    " integers, booleans, decimals, dates or timestamps"
                )
            self._arrays[data_type] = pa.array([self._value(n, data_type) for n in range(len(self))], data_type)
            self._sorted[data_type] = sorted(self._arrays[data_type].to_pylist())
        return self._arrays[data_type]

    def _value(self, number: int, data_type: pa.DataType) -> Any:
        try:
            return pa.scalar(self._texts[number]).cast(data_type).as_py()
        except pa.ArrowException:
            raise ConfigurationError(  # without the key, which may be what must not be known
                f"key {number + 1} is not a value of column {self.column!r}, whose type is {data_type}"
            ) from None
