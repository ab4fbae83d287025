"""The rules of checks over the records of partitions. Pure.

A rule says of one partition that it holds, that it is broken, or that the record does not tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

import pyarrow as pa

from dagfusion_contract.arrow_types import parse_flat_type
from dagfusion_contract.errors import RecordError
from dagfusion_contract.naming import find_column
from dagfusion_contract.record import DataFile, Layout, RecordReader

Bound = int | float | Decimal | str | date | datetime | time
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - Arrow counts from the epoch; bounds with a zone are shifted to UTC
_DATE_WITH_TIME = "T"


class Verdict(NamedTuple):
    """The result of a rule for one partition.

    Attributes:
        found: What breaks the rule, or why the record does not tell.
        lowest: The least value that the rule checked, as it compares and as the record has it; None for no value.
        highest: The greatest one.
    """

    state: Literal["holds", "broken", "unknown"]
    found: str = ""
    lowest: tuple[Any, Any] | None = None
    highest: tuple[Any, Any] | None = None


HOLDS = Verdict("holds")


class Partition(NamedTuple):
    """The record of one partition: its file, and the statistics of its columns."""

    file: DataFile
    columns: Mapping[str, Mapping[str, Any]]


class Rule(Protocol):
    """A rule that every partition must satisfy."""

    def evaluate(self, partition: Partition) -> Verdict:
        """Return the verdict of the rule on a partition."""


class PartitionReader:
    """Reads the records of partitions; the columns of the files are parsed once for files of the same columns."""

    def __init__(self) -> None:
        self._reader = RecordReader(encode=lambda _: b"")  # the statistics are taken from the record itself

    def read(self, record: Mapping[str, Any]) -> Partition | Verdict:
        """Read a record. Return the verdict `unknown`, with the reason, if the record cannot be read."""
        try:
            return Partition(self._reader.read(record), record["columns"])
        except RecordError as error:
            return Verdict("unknown", str(error))


@dataclass(frozen=True)
class RowCount:
    """The number of rows is within bounds, both included; None is no bound."""

    least: int | None
    most: int | None

    def evaluate(self, partition: Partition) -> Verdict:
        """Compare the rows of a partition."""
        rows = partition.file.rows
        holds = (self.least is None or rows >= self.least) and (self.most is None or rows <= self.most)
        return Verdict("holds" if holds else "broken", "" if holds else f"{rows} rows", (rows, rows), (rows, rows))


@dataclass(frozen=True)
class NotNull:
    """A column has no nulls; one that a file lacks is null in all of its rows, as the table shows it."""

    column: str

    def evaluate(self, partition: Partition) -> Verdict:
        """Count the nulls of a partition."""
        name, rows = _column(partition.file.layout, self.column), partition.file.rows
        nulls: object
        if name is None:
            nulls, found = rows, f"no column {self.column!r}: it is null in all {rows} rows"
        elif (place := _place(partition.file.layout, name)) is not None:
            nulls = rows if partition.file.partition[place] is None else 0
            found = f"the partition's {name} is null"
        else:
            nulls = partition.columns.get(name, {}).get("nulls")
            found = f"{nulls} nulls in {rows} rows"
        if not isinstance(nulls, int):
            return Verdict("unknown", f"the record does not count the nulls of {name!r}")
        return Verdict("broken" if nulls else "holds", found if nulls else "", (nulls, nulls), (nulls, nulls))


@dataclass(frozen=True, eq=False)  # a rule is a key of `_comparison`
class InBounds:
    """All values of a column are within bounds, both included; None is no bound. Nulls are not looked at."""

    column: str
    least: Bound | None
    most: Bound | None

    def evaluate(self, partition: Partition) -> Verdict:
        """Compare the least and the greatest value of a partition."""
        layout = partition.file.layout
        name = _column(layout, self.column)
        if name is None:
            return Verdict("unknown", f"no column {self.column!r}")
        data_type, place = _type(layout, name), _place(layout, name)
        if place is not None:
            least = most = partition.file.partition[place]
            empty = least is None
        else:
            statistics = partition.columns.get(name, {})
            least, most = statistics.get("min"), statistics.get("max")
            empty = statistics.get("nulls") == partition.file.rows
        if empty or partition.file.rows == 0:
            return HOLDS
        if least is None or most is None:
            return Verdict("unknown", f"the record has no least and greatest value of {name!r} ({data_type})")
        return self._compare(layout, name, least, most)

    def check(self, data_type: pa.DataType) -> None:
        """Refuse bounds that values of a type do not compare with.

        Raises:
            ValueError: They do not; the message says what bounds of this type are.
        """
        for bound in (self.least, self.most):
            if bound is not None:
                comparable_bound(bound, data_type)

    def _compare(self, layout: Layout, name: str, least: Any, most: Any) -> Verdict:
        try:
            convert, floor, ceiling = _comparison(self, layout, name)
            low, high = convert(least), convert(most)
            holds = (floor is None or low >= floor) and (ceiling is None or high <= ceiling)
        except ValueError as error:
            return Verdict("unknown", f"{name!r}: {error}")
        found = "" if holds else f"{name} from {least} to {most}"
        return Verdict("holds" if holds else "broken", found, (low, least), (high, most))


@dataclass(frozen=True, eq=False)  # a rule is a key of `_compared`
class SameColumns:
    """A partition has the columns that are expected, in any order. Partition columns need not be expected.

    Attributes:
        expected: The type of each column as Arrow prints it, or None for any type.
    """

    expected: Mapping[str, str | None]

    def evaluate(self, partition: Partition) -> Verdict:
        """Compare the columns of a partition, once for all files of the same columns."""
        return _compared(self, partition.file.layout)


@lru_cache
def _compared(rule: SameColumns, layout: Layout) -> Verdict:
    columns, partition_columns = column_types(layout), _partition_columns(layout)
    missing = [name for name in rule.expected if name not in columns]
    extra = [n for n in columns if n not in rule.expected and n not in partition_columns]
    other = [
        f"{name} is {columns[name]}, not {kind}"
        for name, kind in rule.expected.items()
        if kind is not None and name in columns and columns[name] != kind
    ]
    differences = [
        f"{word}: {', '.join(names)}" for word, names in (("missing", missing), ("unexpected", extra)) if names
    ]
    found = "; ".join([*differences, *other])
    return Verdict("broken", found) if found else HOLDS


@lru_cache
def column_types(layout: Layout) -> Mapping[str, str]:
    """Return the types of all columns of files, partition columns included, as Arrow prints them."""
    unreadable = dict(layout.unreadable)
    return {field.name: str(field.type) for field in (*layout.file, *layout.partition)} | unreadable


def type_name(declared: str) -> str | None:
    """Return a declared type as Arrow prints it; None if it is no type of Arrow."""
    kind = parse_flat_type(declared)
    if kind is not None:
        return str(kind)
    return declared.replace(" not null", "") if declared.startswith(("list<", "struct<", "map<")) else None


def comparable(data_type: pa.DataType) -> Callable[[Any], Any]:
    """Return a function that converts recorded values to ones that compare exactly with those of `comparable_bound`.

    Raises:
        ValueError: Values of the type have no order here.
    """
    types = pa.types
    if types.is_decimal(data_type):
        return Decimal
    if types.is_date(data_type):
        return lambda value: date.fromisoformat(value.partition(_DATE_WITH_TIME)[0])
    if types.is_timestamp(data_type):
        return lambda value: _nanoseconds(value.removesuffix("Z"))
    if types.is_time(data_type):
        return lambda value: _nanoseconds(f"1970-01-01T{value}")
    if types.is_string(data_type) or types.is_boolean(data_type):
        return _same
    if types.is_integer(data_type) or types.is_floating(data_type):
        return _same
    raise ValueError(f"values of type {data_type} have no bounds")


def _same(value: Any) -> Any:
    return value


def comparable_bound(bound: Bound, data_type: pa.DataType) -> Any:
    """Return a bound as a value that compares exactly with those of a type; dates and times may be text in ISO 8601.

    Raises:
        ValueError: It is of another kind than the values.
    """
    types = pa.types
    if isinstance(bound, str) and types.is_temporal(data_type):
        bound = _of_text(bound, data_type)
    kind = type(bound)
    if types.is_integer(data_type) or types.is_floating(data_type) or types.is_decimal(data_type):
        return _of_kind(bound, kind in (int, float, Decimal), "numbers", data_type)
    if types.is_boolean(data_type):
        return _of_kind(bound, kind is bool, "booleans", data_type)
    if types.is_string(data_type):
        return _of_kind(bound, kind is str, "text", data_type)
    if types.is_date(data_type):
        return _of_kind(bound, kind is date, "dates", data_type)
    if types.is_time(data_type):
        fits = isinstance(bound, time) and bound.tzinfo is None
        return _nanoseconds(f"1970-01-01T{_of_kind(bound, fits, 'times without a zone', data_type).isoformat()}")
    if types.is_timestamp(data_type):
        fits = isinstance(bound, datetime) and (bound.tzinfo is not None) == (data_type.tz is not None)
        word = "datetimes with a zone" if data_type.tz else "datetimes without a zone"
        return _moment(_of_kind(bound, fits, word, data_type))
    raise ValueError(f"values of type {data_type} have no bounds")


def _of_text(text: str, data_type: pa.DataType) -> Bound:
    kind = date if pa.types.is_date(data_type) else time if pa.types.is_time(data_type) else datetime
    try:
        return kind.fromisoformat(text)
    except ValueError:
        raise ValueError(f"bounds of type {data_type} must be in ISO 8601, got {text!r}") from None


def _of_kind(bound: Any, fits: bool, word: str, data_type: pa.DataType) -> Any:  # noqa: FBT001
    if not fits:
        raise ValueError(f"bounds of type {data_type} must be {word}, got {bound!r}")
    return bound


def _moment(bound: datetime) -> int:
    utc = bound.astimezone(UTC).replace(tzinfo=None) if bound.tzinfo else bound
    return (utc - _EPOCH) // timedelta(microseconds=1) * 1_000


def _nanoseconds(text: str) -> int:
    head, _, fraction = text.partition(".")
    return (datetime.fromisoformat(head) - _EPOCH) // timedelta(seconds=1) * 10**9 + int(f"{fraction:0<9}")


# Partitions share their layout, and Arrow's schemas are slow to ask.
@lru_cache
def _comparison(rule: InBounds, layout: Layout, name: str) -> tuple[Callable[[Any], Any], Any, Any]:
    """Return the function that converts the values of a column, and the bounds that they are compared with."""
    data_type = _type(layout, name)
    least, most = (None if one is None else comparable_bound(one, data_type) for one in (rule.least, rule.most))
    return comparable(data_type), least, most


@lru_cache
def _column(layout: Layout, name: str) -> str | None:
    return find_column(name, [*layout.file.names, *layout.partition.names])


@lru_cache
def _type(layout: Layout, name: str) -> pa.DataType:
    return (layout.file if _place(layout, name) is None else layout.partition).field(name).type


@lru_cache
def _partition_columns(layout: Layout) -> frozenset[str]:
    return frozenset(layout.partition.names)


@lru_cache
def _place(layout: Layout, name: str) -> int | None:
    """Return the place of a column among the partition columns; None for a column of the file."""
    names = layout.partition.names
    return names.index(name) if name in names else None
