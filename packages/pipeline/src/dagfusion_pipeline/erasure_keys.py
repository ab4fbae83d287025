"""The keys of the rows that an erasure removes: read from their file, and found in records and tables."""

import codecs
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.arrow_types import parse_type
from dagfusion_contract.naming import find_column
from dagfusion_contract.uri import is_s3
from dagfusion_contract.values import is_partition_type, parse_value
from dagfusion_pipeline.errors import ConfigurationError, MissingObjectError
from dagfusion_pipeline.maintenance import Manager


class Keys:
    """The keys of the rows that are erased, as each type that their column has.

    Args:
        column: Its name; names may differ in case.
        texts: The keys as text, such as `42` or `2024-01-05`.
    """

    def __init__(self, column: str, texts: Sequence[str]) -> None:
        self.column, self._texts = column, [*dict.fromkeys(texts)]
        self._arrays: dict[pa.DataType, pa.Array] = {}
        self._sorted: dict[pa.DataType, list[Any]] = {}
        self._numbers: dict[pa.DataType, list[int]] = {}
        self._fitting: set[int] = set()
        self._matched: set[int] = set()

    def __len__(self) -> int:
        return len(self._texts)

    def may_be_in(self, record: Mapping[str, Any]) -> bool:
        """Return True unless a record proves that its object has none of the keys.

        Raises:
            ConfigurationError: The column is a partition column, or of a type that rows are not erased by.
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
        keys = self._sorted[data_type]
        bounds = record["columns"].get(name, {})
        if bounds.get("nulls") == record["rows"]:
            return False
        if bounds.get("min") is None or bounds.get("max") is None:
            return True
        low, high = (_ordered(parse_value(bounds[end], data_type)) for end in ("min", "max"))
        place = bisect_left(keys, low)
        return place < len(keys) and bool(keys[place] <= high)

    def check(self) -> None:
        """Refuse keys that are of no type that the column has, once all records were looked at.

        Raises:
            ConfigurationError: There is such a key, and the column is in a record.
        """
        unfit = next((number for number in range(len(self)) if number not in self._fitting), None)
        if self._arrays and unfit is not None:
            types = ", ".join(sorted(map(str, self._arrays)))
            raise ConfigurationError(  # without the key, which may be what must not be known
                f"key {unfit + 1} is not a value of column {self.column!r}, whose type is {types}"
            )

    @property
    def unmatched(self) -> int:
        """The number of keys that no row had that was split."""
        return len(self) - len(self._matched)

    def split(self, table: pa.Table) -> tuple[pa.Table, int]:
        """Return the rows of a table that have none of the keys, and the number of the others."""
        name = find_column(self.column, table.column_names)
        if name is None:
            return table, 0
        column = table[name]
        keys = self.array(column.type)
        hit = pc.is_in(column, value_set=keys)
        self._matched |= {self._numbers[column.type][place] for place in _places(column.filter(hit), keys)}
        kept = table.filter(pc.invert(hit))
        return kept, table.num_rows - kept.num_rows

    def array(self, data_type: pa.DataType) -> pa.Array:
        """Return an array of the keys of this type, without keys that are not values of it.

        Raises:
            ConfigurationError: The type is one that rows are not erased by.
        """
        if data_type not in self._arrays:
            if not is_partition_type(data_type):
                raise ConfigurationError(
                    f"rows cannot be erased by column {self.column!r} of type {data_type}: use a column of text,"
                    " integers, booleans, decimals, dates or timestamps"
                )
            scalars = [_scalar(text, data_type) for text in self._texts]
            numbers = [number for number, scalar in enumerate(scalars) if scalar is not None]
            self._numbers[data_type] = numbers
            self._fitting |= {*numbers}
            self._arrays[data_type] = pa.array([scalars[number] for number in numbers], data_type)
            self._sorted[data_type] = sorted(map(_ordered, self._arrays[data_type]))
        return self._arrays[data_type]


def _scalar(text: str, data_type: pa.DataType) -> pa.Scalar | None:
    """Return a key as a value of a type; None if it is none."""
    try:
        return pa.scalar(text if pa.types.is_string(data_type) else text.strip()).cast(data_type)
    except pa.ArrowException:
        return None


def _places(values: pa.ChunkedArray, keys: pa.Array) -> list[int]:
    return [place for place in pc.index_in(values.unique(), value_set=keys).to_pylist() if place is not None]


def _ordered(scalar: pa.Scalar) -> Any:
    """Return what sorts as a value does; Python's own type of some times is less exact."""
    return scalar.value if pa.types.is_temporal(scalar.type) else scalar.as_py()


def read_keys(place: str, manager: Manager) -> list[str]:
    """Read the keys, one on each line, from a file or from an object of the manager's bucket. Spaces are of the key.

    Raises:
        ConfigurationError: There is no such file, it is outside of the bucket, no UTF-8, or it has no keys.
        MissingObjectError: There is no such object.
        StoreError: The object could not be read.
    """
    if is_s3(place):
        root = manager.object_store.uri("")
        if not place.startswith(root):
            raise ConfigurationError(f"keys_file must be a local file or an object below {root}; got {place!r}")
        (found,) = manager.object_store.read_many([place.removeprefix(root)], 1)
        if found is None:
            raise MissingObjectError(f"there is no object {place}: upload the keys first")
        content = bytes(found)
    else:
        try:
            content = Path(place).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the keys cannot be read from {place!r}: {error.strerror}") from error
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    keys = [_text(line.removesuffix(b"\r"), place, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not keys:
        raise ConfigurationError(f"{place!r} has no keys: write one on each line")
    return keys


def _text(line: bytes, place: str, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"line {number} of {place!r} is not UTF-8: save the keys as UTF-8") from None
