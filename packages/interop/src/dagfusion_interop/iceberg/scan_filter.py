"""Filters of the Iceberg REST protocol, evaluated over the catalog's partition values and statistics. Pure.

An unsupported filter keeps every file, so a plan never misses a row. The client applies the filter to the rows of each
file, unless the plan says that all rows of the file pass.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.errors import BadRequestError
from dagfusion_contract.values import parse_value
from dagfusion_interop.iceberg.iceberg_schema import IcebergSchema

_MAX_DEPTH = 200  # of a filter as JSON: what writes JSON goes 254 deep
_MAX_PREDICATES = 1_000  # of a filter: each takes about a tenth of a millisecond, and more for many files
_FINER = re.compile(r"\.\d{6}\d*[1-9]")  # than microseconds
Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
_NEGATED = {
    "eq": "not-eq",
    "lt": "gt-eq",
    "lt-eq": "gt",
    "in": "not-in",
    "is-null": "not-null",
    "is-nan": "not-nan",
    "starts-with": "not-starts-with",
}
_NEGATED |= {negated: operator for operator, negated in _NEGATED.items()}
_JOINED = frozenset({"and", "not", "or"})
_OPERANDS = frozenset({"child", "left", "right"})  # of these
_UNARY = frozenset({"is-null", "not-null", "is-nan", "not-nan"})
_ORDERED: Mapping[str, Callable[[pa.Array, pa.Scalar], pa.Array]] = {
    "lt": pc.less,
    "lt-eq": pc.less_equal,
    "gt": pc.greater,
    "gt-eq": pc.greater_equal,
}


@dataclass(frozen=True)
class Matches:
    """The result of a filter for each file.

    Attributes:
        may: False if no row of the file passes.
        all: True if every row of the file passes.
    """

    may: Flags
    all: Flags


def check_filter(filter_: Any) -> None:
    """Check that a filter does not have too many predicates, and is not nested too deep for recursive functions.

    Args:
        filter_: The JSON of an expression; None is no filter.

    Raises:
        BadRequestError: The filter has too many predicates, or is nested too deep.
    """
    count, waiting = 0, [(filter_, 0, True)]
    while waiting:
        one, depth, is_expression = waiting.pop()
        is_joined = is_expression and _kind(one) in _JOINED
        count += is_expression and not is_joined
        if depth > _MAX_DEPTH:
            raise BadRequestError(f"a filter may be nested {_MAX_DEPTH} deep")
        if count > _MAX_PREDICATES:
            raise BadRequestError(f"a filter may have at most {_MAX_PREDICATES} predicates")
        inner = one.items() if isinstance(one, Mapping) else enumerate(one) if isinstance(one, list) else ()
        waiting += [(value, depth + 1, is_joined and key in _OPERANDS) for key, value in inner]


def _kind(one: Any) -> str | None:
    """Return the type of an expression; None for what is none."""
    return _text(one.get("type")) if isinstance(one, Mapping) else None


class ScanFilter:
    """Evaluates filters over the files of one table.

    Args:
        files: `Table.files`, one row for each file; see `files_schema`.
        schema: The table's columns.
    """

    def __init__(self, files: pa.Table, schema: IcebergSchema) -> None:
        self._count = len(files)
        self._rows = np.asarray(files["rows"], np.int64)
        self._partition_values, self._all_statistics = files["partition"], files["stats"]
        self._partition = {column.name for column in schema.partition}
        self._statistics = {column.name for column in schema.columns} & {field.name for field in files["stats"].type}
        self._names = frozenset({*self._partition, *(column.name for column in schema.columns)})
        self._columns: dict[str, pa.Array] = {}  # those that filters have named, contiguous

    def matches(self, filter_: Any, *, is_case_sensitive: bool = True, others: Collection[str] = ()) -> Matches:
        """Evaluate a filter.

        Args:
            filter_: The JSON of an expression; None is no filter.
            is_case_sensitive: Whether names of columns must have the table's letter case.
            others: Other columns that a filter may name. If the files lack such a column, it keeps all files.

        Raises:
            BadRequestError: The filter does not follow the protocol, or names a column that the table does not have.
        """
        check_filter(filter_)
        if filter_ is None:
            return self._constant(is_true=True)
        names = _Names(self._names.union(others), is_case_sensitive)
        return self._expression(filter_, names, negated=False)

    def _constant(self, *, is_true: bool) -> Matches:
        return Matches(np.full(self._count, is_true), np.full(self._count, is_true))

    def _unknown(self) -> Matches:
        return Matches(np.full(self._count, True), np.full(self._count, False))  # noqa: FBT003

    def _expression(self, one: Any, names: "_Names", *, negated: bool) -> Matches:
        if isinstance(one, bool):
            return self._constant(is_true=one is not negated)
        kind = _kind(one)
        if kind in ("true", "false"):
            return self._constant(is_true=(kind == "true") is not negated)

        def inner(key: str, *, is_negated: bool) -> Matches:
            return self._expression(one.get(key), names, negated=is_negated)

        if kind == "not":
            return inner("child", is_negated=not negated)
        if kind in ("and", "or"):
            left, right = inner("left", is_negated=negated), inner("right", is_negated=negated)
            joined = np.logical_and if (kind == "and") is not negated else np.logical_or
            return Matches(joined(left.may, right.may), joined(left.all, right.all))
        if kind not in _NEGATED:
            raise BadRequestError(f"a filter has the unknown type {kind!r:.100}")
        return self._predicate(_NEGATED[kind] if negated else kind, one, names)

    def _predicate(self, operator: str, one: Mapping[str, Any], names: "_Names") -> Matches:
        term = _term(one)
        if term is None:
            return self._unknown()
        name = names.column(term)
        if name not in self._partition and name not in self._statistics:
            return self._unknown()
        column = self._values(name)
        kind = column.type if name in self._partition else column.type.field("min").type
        literals = _literals(operator, one, kind)
        if literals is None:
            return self._unknown()
        if name in self._partition:
            return _of_values(operator, column, literals)
        return Matches(_of_bounds(operator, column, self._rows, literals), self._unknown().all)

    def _values(self, name: str) -> pa.Array:
        """Return the values of a partition column, or the statistics of another one."""
        if name not in self._columns:
            struct = self._partition_values if name in self._partition else self._all_statistics
            found = _child(struct, name).combine_chunks()
            self._columns[name] = _widened(found) if name in self._partition else _widened_bounds(found)
        return self._columns[name]


@dataclass(frozen=True)
class _Names:
    """The columns that a filter may name."""

    names: frozenset[str]
    is_case_sensitive: bool

    def column(self, term: str) -> str:
        """Return the column of a name; of a field inside of a column the name, about which nothing is known."""
        same = [name for name in self.names if name == term or (not self.is_case_sensitive and _folded(name, term))]
        if not same and "." not in term:
            raise BadRequestError(f"a filter names the column {term!r:.100}, which the table does not have")
        return term if term in same or len(same) != 1 else same[0]


def _folded(name: str, term: str) -> bool:
    return name.lower() == term.lower()


def _child(struct: pa.StructArray | pa.ChunkedArray, name: str) -> pa.Array | pa.ChunkedArray:
    return pc.struct_field(struct, [struct.type.get_field_index(name)])


def _term(one: Mapping[str, Any]) -> str | None:
    """Return the name of the column of a predicate; None for a transform, or a value of another kind.

    A column is `term`, or else `left` or `child`: there a text without a type is a literal.
    """
    term = one.get("term")
    if term is None:
        term = one.get("left", one.get("child"))
        return _text(term.get("name")) if isinstance(term, Mapping) and term.get("type") == "reference" else None
    if isinstance(term, Mapping) and term.get("type") == "reference":
        term = term.get("term", term.get("name"))
    return _text(term)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _plain_values(operator: str, one: Mapping[str, Any]) -> Any:
    """Return the literals of a predicate without the types that they may have."""
    if operator not in ("in", "not-in"):
        return [_plain(one.get("value", one.get("right")))]
    values = one.get("values")
    if isinstance(values, Mapping) and values.get("type") == "literals":
        values = values.get("values")
    return [_plain(value) for value in values] if isinstance(values, list) else values


def _plain(value: Any) -> Any:
    is_literal = isinstance(value, Mapping) and value.get("type") == "literal"
    return value.get("value") if is_literal else value


def _widened_bounds(statistics: pa.StructArray) -> pa.StructArray:
    low, high, nulls = (_child(statistics, name) for name in ("min", "max", "nulls"))
    return pa.StructArray.from_arrays([_widened(low), _widened(high), nulls], names=["min", "max", "nulls"])


def _widened(values: pa.Array) -> pa.Array:
    """Return integers with 64 bits: a literal may be of a newer type of the column than that of older files."""
    is_narrow = pa.types.is_integer(values.type) and values.type != pa.uint64()
    return values.cast(pa.int64()) if is_narrow else values


def _literals(operator: str, one: Mapping[str, Any], kind: pa.DataType) -> pa.Array | None:
    """Return the literals of a predicate as values of the column's type; None if one has no exact counterpart."""
    if operator in _UNARY:
        return pa.array([], kind)
    if operator.endswith("starts-with") and not pa.types.is_string(kind):
        return None
    values = _plain_values(operator, one)
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise BadRequestError(f"a filter of type {operator!r} needs a list `values`")
    try:
        return pa.array([_literal(value, kind) for value in values], kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError, OverflowError, TypeError):
        return None


def _literal(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return a value of a column's type. Clients write times as text, or as the numbers of Iceberg's binary form.

    Raises:
        ValueError: The type cannot represent this value exactly. Arrow would round it.
    """
    is_float = pa.types.is_floating(kind)
    is_other = isinstance(value, bool) is not pa.types.is_boolean(kind)
    if value is None or is_other or isinstance(value, (str if is_float else float, Mapping, list)):
        raise ValueError(f"{value!r} is not a value of type {kind}")
    if is_float:
        scalar = pa.scalar(float(value), kind)
        if not math.isfinite(value) or scalar.as_py() != value:
            raise ValueError(f"{value!r} is not a value of type {kind}")
        return scalar
    if pa.types.is_timestamp(kind):
        at = pa.scalar(value, pa.timestamp("us")) if isinstance(value, int) else _moment(value, has_zone=bool(kind.tz))
        zoned = pa.scalar(at.value, pa.timestamp("us", kind.tz))
        return zoned.cast(kind)
    if pa.types.is_time(kind) and isinstance(value, int):
        return pa.scalar(value, pa.time64("us")).cast(kind)
    return parse_value(value, kind)


def _moment(value: str, *, has_zone: bool) -> pa.Scalar:
    at = dt.datetime.fromisoformat(value)
    if (at.tzinfo is None and has_zone) or _FINER.search(value):
        raise ValueError(f"{value!r} has no time zone, or is finer than microseconds")
    return pa.scalar(at.astimezone(dt.UTC).replace(tzinfo=None) if at.tzinfo else at, pa.timestamp("us"))


def _of_values(operator: str, values: pa.Array, literals: pa.Array) -> Matches:
    """Evaluate a predicate over a partition column: all rows of a file have its value."""
    is_null = _flags(pc.is_null(values))
    if operator in _UNARY:
        passes = {"is-null": is_null, "not-null": ~is_null}.get(operator)
        if passes is None:  # partition columns have no floats
            passes = np.full(len(values), operator == "not-nan")
        return Matches(passes, passes)
    is_not = operator.startswith("not-")
    found = _equal_or_prefixed(operator.removeprefix("not-"), values, literals) & ~is_null
    # NULL is not equal to anything, and engines disagree on whether it is unequal.
    return Matches(~found, ~found & ~is_null) if is_not else Matches(found, found)


def _equal_or_prefixed(operator: str, values: pa.Array, literals: pa.Array) -> Flags:
    if operator in ("eq", "in"):
        return _flags(pc.is_in(values, value_set=literals))
    if operator == "starts-with":
        return _flags(pc.starts_with(values, literals[0].as_py()))
    return _flags(_ORDERED[operator](values, literals[0]))


def _of_bounds(operator: str, statistics: pa.StructArray, rows: Counts, literals: pa.Array) -> Flags:
    """Return for each file if a row may pass, by the minimum, maximum and null count of a column."""
    low, high, nulls = (_child(statistics, name) for name in ("min", "max", "nulls"))
    counts = np.asarray(nulls.fill_null(-1), np.int64)
    has_values, has_nulls = np.not_equal(counts, rows), np.not_equal(counts, 0)
    is_float = pa.types.is_floating(low.type)
    if operator == "is-null":
        return has_nulls
    # Bounds do not include NaN, and for some engines NaN is greater than every number.
    if operator in ("not-null", "is-nan") or (operator in ("gt", "gt-eq") and is_float):
        return has_values
    if operator.startswith("not-"):
        if is_float or operator not in ("not-eq", "not-in"):
            return np.full(len(rows), True)  # noqa: FBT003
        only = _equal_or_prefixed("in", low, literals) & _flags(pc.equal(low, high))
        return np.logical_or(~only, has_nulls)
    return np.logical_and(_overlaps(operator, low, high, literals), has_values)


def _overlaps(operator: str, low: pa.Array, high: pa.Array, literals: pa.Array) -> Flags:
    """Return for each file if a value within its bounds may pass; True if a bound is unknown."""
    if operator == "starts-with":
        return _may_start(low, high, literals[0].as_py())
    if not len(literals):  # of an empty list
        return np.full(len(low), False)  # noqa: FBT003
    if operator in ("eq", "in"):
        ends = pc.min_max(literals)
        return _not_false(pc.and_kleene(pc.less_equal(low, ends["max"]), pc.greater_equal(high, ends["min"])))
    return _not_false(_ORDERED[operator](low if operator in ("lt", "lt-eq") else high, literals[0]))


def _may_start(low: pa.Array, high: pa.Array, prefix: str) -> Flags:
    after = pc.or_kleene(pc.less_equal(low, prefix), pc.starts_with(low, prefix))
    return _not_false(pc.and_kleene(pc.greater_equal(high, prefix), after))


def _flags(array: pa.Array) -> Flags:
    return np.asarray(array.fill_null(False), np.bool_)  # noqa: FBT003


def _not_false(array: pa.Array) -> Flags:
    return np.asarray(array.fill_null(True), np.bool_)  # noqa: FBT003
