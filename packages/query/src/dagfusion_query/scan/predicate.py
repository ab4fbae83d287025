"""What a filter says about a whole file: a predicate over a file's partition values and column statistics.

`may_match` is conservative: it keeps every file that could hold a matching row. For a filter that names partition
columns only it is exact, because a partition column has one value in a file.
"""

from collections.abc import Iterator, Mapping
from typing import cast

from datafusion import Expr, lit

# Columns of a pruning table, beside the partition columns; \x1f is in no column name that a person writes.
MIN, MAX, NULLS, ROWS = "\x1fmin", "\x1fmax", "\x1fnulls", "\x1frows"
MAX_IN_LIST = 64  # beyond this, the bounds of an IN list decide as fast as its members

_FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def column_names(expr: Expr) -> Iterator[str]:
    """Yield the names of the columns that an expression reads.

    Raises:
        ValueError: The expression holds a part that cannot be looked into, such as a subquery.
    """
    kind = expr.variant_name()
    if kind == "Column":
        yield expr.to_variant().name()
    elif kind != "Literal":
        if "Subquery" in kind or kind == "Exists":
            raise ValueError(f"{kind} is not a predicate over columns")
        try:
            operands = expr.rex_call_operands()
        except Exception as error:
            raise ValueError(f"{kind} does not show its operands") from error
        for operand in operands:
            yield from column_names(operand)


def is_over(expr: Expr, columns: frozenset[str]) -> bool:
    """Tell whether an expression reads only some of `columns` (and so at least whether it can be looked into)."""
    try:
        return columns.issuperset(column_names(expr))
    except ValueError:
        return False


def may_match(expr: Expr, partition: frozenset[str], statistics: Mapping[str, int]) -> Expr | None:
    """Return the predicate that a file must pass to hold a row for which `expr` is true; None keeps every file.

    Args:
        expr: A filter of a scan.
        partition: The partition columns; they stand in the result as they are.
        statistics: The columns with statistics and their numbers; column 3 stands in the result as `MIN3`, `MAX3`,
            `NULLS3`.
    """
    if is_over(expr, partition):
        return expr
    kind = expr.variant_name()
    if kind == "BinaryExpr":
        return _binary(expr, partition, statistics)
    number = _number(expr.rex_call_operands()[0], statistics) if kind in _ONE_COLUMN else None
    return None if number is None else _ONE_COLUMN[kind](number, expr)


def _binary(expr: Expr, partition: frozenset[str], statistics: Mapping[str, int]) -> Expr | None:
    op = cast("str", expr.to_variant().op())
    left, right = expr.rex_call_operands()
    if op in ("AND", "OR"):
        a, b = may_match(left, partition, statistics), may_match(right, partition, statistics)
        if op == "AND":
            return b if a is None else a if b is None else a & b
        return None if a is None or b is None else a | b
    number = _number(left, statistics)
    if number is None:
        left, right, op = right, left, _FLIPPED.get(op, "")
        number = _number(left, statistics)
    if number is None or op not in _FLIPPED or right.variant_name() != "Literal":
        return None
    return _compare(number, op, right)


def _compare(number: int, op: str, value: Expr) -> Expr:
    low, high = Expr.column(f"{MIN}{number}"), Expr.column(f"{MAX}{number}")
    if op == "=":
        keep = (low <= value) & (high >= value)
    elif op == "!=":
        keep = ~((low == value) & (high == value))
    elif op in ("<", "<="):
        keep = low < value if op == "<" else low <= value
    else:
        keep = high > value if op == ">" else high >= value
    return _unknown_or(low, keep) & _has_values(number)


def _in_list(number: int, expr: Expr) -> Expr | None:
    values = expr.rex_call_operands()[1:]
    if expr.to_variant().negated() or not values or any(value.variant_name() != "Literal" for value in values):
        return None
    if len(values) > MAX_IN_LIST:
        return _has_values(number)
    return _any([_compare(number, "=", value) for value in values])


def _is_null(number: int, _: Expr) -> Expr:
    nulls = Expr.column(f"{NULLS}{number}")
    return _unknown_or(nulls, nulls > lit(0))


def _is_not_null(number: int, _: Expr) -> Expr:
    return _has_values(number)


def _between(number: int, expr: Expr) -> Expr | None:
    _, low, high = expr.rex_call_operands()
    if expr.to_variant().negated() or {low.variant_name(), high.variant_name()} != {"Literal"}:
        return None
    return _compare(number, ">=", low) & _compare(number, "<=", high)


_ONE_COLUMN = {"InList": _in_list, "IsNull": _is_null, "IsNotNull": _is_not_null, "Between": _between}


def _number(expr: Expr, statistics: Mapping[str, int]) -> int | None:
    if expr.variant_name() != "Column":
        return None
    return statistics.get(expr.to_variant().name())


def _has_values(number: int) -> Expr:
    nulls = Expr.column(f"{NULLS}{number}")
    return _unknown_or(nulls, nulls < Expr.column(ROWS))


def _unknown_or(known: Expr, keep: Expr) -> Expr:
    return known.is_null() | keep


def _any(options: list[Expr]) -> Expr:
    """Join by OR as a balanced tree: a chain as long as an IN list would nest as deep."""
    if len(options) == 1:
        return options[0]
    half = len(options) // 2
    return _any(options[:half]) | _any(options[half:])
