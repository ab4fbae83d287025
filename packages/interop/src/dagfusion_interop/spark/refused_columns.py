"""The types of columns and parameters that a statement on the Spark engine cannot have. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

import pyarrow as pa
import pyarrow.types as pt

from dagfusion_client.errors import EngineChoiceError
from dagfusion_contract.naming import TableName

UTC_ZONES = frozenset({"UTC", "Etc/UTC", "Z", "+00:00"})
_IN_LOCAL = 'use engine="local"'


def check_columns(tables: Mapping[TableName, pa.Schema], names: AbstractSet[str]) -> None:
    """Check that no column of the tables of a statement can have other values or another name in Spark.

    Args:
        tables: The columns of all tables that the statement reads.
        names: All names in the statement and in the statements of its views, as DataFusion reads them.

    Raises:
        EngineChoiceError: A column has such a type, or its name differs from another name only in case.
    """
    fields = [(table, field) for table, schema in tables.items() for field in schema]
    for table, field in fields:
        if (reason := _refusal(field.type)) is not None:
            raise EngineChoiceError(
                f"the Spark engine is not sent table {table}, because column {field.name[:100]} is {reason}: "
                f"{_IN_LOCAL}"
            )
        if pt.is_nested(field.type) and field.name in names:
            raise EngineChoiceError(
                f"the Spark engine is not sent a statement that names column {field.name[:100]} of {table}, because it "
                f"is {str(field.type)[:100]}, which Spark compares differently: {_IN_LOCAL}"
            )
    by_case: defaultdict[str, set[str]] = defaultdict(set)
    for name in {*names, *(part.name for _, field in fields for part in _parts(field))}:
        by_case[name.casefold()].add(name)
    if wrong := next((sorted(same) for same in by_case.values() if len(same) > 1), None):
        raise EngineChoiceError(
            f"the statement and its tables have names that differ only in case ({', '.join(wrong)[:100]}), which Spark "
            f"reads as one name: {_IN_LOCAL}"
        )


def check_left_out(table: TableName, left_out: Mapping[str, str]) -> None:
    """Check that Iceberg has all columns of a table.

    If Spark lacks a column, `*` returns fewer columns, and the column's name can resolve to a column of an outer query.

    Args:
        table: The table.
        left_out: The columns that Iceberg does not have: their names, and the reasons.

    Raises:
        EngineChoiceError: Iceberg lacks a column.
    """
    if left_out:
        column, reason = next(iter(left_out.items()))
        raise EngineChoiceError(
            f"the Spark engine is not sent table {table}, because Iceberg has no column {column[:100]} "
            f"({reason[:200]}): {_IN_LOCAL}"
        )


def check_parameter(name: str, kind: pa.DataType) -> None:
    """Check that the type of a parameter has the same values in Spark.

    Raises:
        EngineChoiceError: The values may differ.
    """
    if (reason := _refusal(kind)) is not None:
        raise EngineChoiceError(f"the Spark engine is not sent parameter {name}, because it is {reason}: {_IN_LOCAL}")


def times(schema: pa.Schema) -> set[str]:
    """Return the names of all columns and nested fields that are dates or times, or contain some."""
    return {part.name for field in schema for part in _parts(field) if has_time(part.type)}


def has_time(kind: pa.DataType) -> bool:
    """Return True if a type is a date or time, or contains one."""
    return has_type(kind, pt.is_temporal)


def has_type(kind: pa.DataType, is_one: Callable[[pa.DataType], bool]) -> bool:
    """Return True if `is_one` is true for a type, or for a type inside it."""
    return is_one(kind) or any(has_type(child.type, is_one) for child in _children(kind))


def _refusal(kind: pa.DataType) -> str | None:
    """Return why Spark may treat values of a type differently; None if it does not."""
    if has_type(kind, lambda one: pt.is_float32(one) or pt.is_float16(one)):
        return f"{str(kind)[:100]}, and Spark compares 32-bit floats differently"
    if has_type(kind, lambda one: pt.is_timestamp(one) and one.tz is not None and one.tz not in UTC_ZONES):
        return f"{str(kind)[:100]}, and the Spark engine supports only the time zone UTC"
    return None


def _parts(field: pa.Field) -> Iterator[pa.Field]:
    """Yield a column and the named fields inside it."""
    yield field
    yield from _fields_inside(field.type)


def _fields_inside(kind: pa.DataType) -> Iterator[pa.Field]:
    for child in _children(kind):
        if pt.is_struct(kind):  # the elements of lists have no names
            yield child
        yield from _fields_inside(child.type)


def _children(kind: pa.DataType) -> list[pa.Field]:
    if pt.is_dictionary(kind):
        return [pa.field("value", kind.value_type)]
    return [kind.field(number) for number in range(kind.num_fields)]
