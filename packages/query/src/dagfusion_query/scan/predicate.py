"""What a filter says about a whole file: a predicate over a file's partition values and column statistics.

`may_match` is conservative: it keeps every file that could hold a matching row. For a filter that names partition
columns only it is exact, because a partition column has one value in a file.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import cast

from datafusion import Expr, SessionConfig, SessionContext, lit

# Columns of a pruning table, beside the partition columns; \x1f is in no column name that a person writes.
MIN, MAX, NULLS, ROWS = "\x1fmin", "\x1fmax", "\x1fnulls", "\x1frows"
MAX_IN_LIST = 64  # beyond this, the bounds of an IN list decide as fast as its members

# Operators, which give equal results for equal operands. Functions are looked up by name.
_OPERATORS = {
    *("Alias", "Between", "BinaryExpr", "Case", "Cast", "InList", "Like", "Negative", "Not", "RLike", "TryCast"),
    *("IsFalse", "IsNotFalse", "IsNotNull", "IsNotTrue", "IsNotUnknown", "IsNull", "IsTrue", "IsUnknown"),
}
_FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@cache
def scalar_functions() -> Mapping[str, bool]:
    """Return DataFusion's scalar functions, and whether each is immutable: its result depends on its arguments only."""
    context = SessionContext(SessionConfig().with_information_schema(enabled=True))
    routines = context.sql("SELECT * FROM information_schema.routines WHERE function_type = 'SCALAR'").to_arrow_table()
    return dict(zip(routines["routine_name"].to_pylist(), routines["is_deterministic"].to_pylist(), strict=True))


def column_names(expr: Expr) -> Iterator[str]:
    """Yield the names of the columns that an expression reads.

    Raises:
        ValueError: The expression is not a pure function of columns: it holds a function that is not immutable, such as
            `random()`, or a part that does not show its operands, such as a subquery.
    """
    kind = expr.variant_name()
    if kind == "Column":
        yield expr.to_variant().name()
    elif kind != "Literal":
        if not (_is_immutable(expr) if kind == "ScalarFunction" else kind in _OPERATORS):
            raise ValueError(f"{kind} is not a pure function of columns")
        for operand in expr.rex_call_operands():
            yield from column_names(operand)


def is_over(expr: Expr, columns: frozenset[str]) -> bool:
    """Return True if an expression is a pure function of some of `columns`, or a constant."""
    try:
        return columns.issuperset(column_names(expr))
    except ValueError:
        return False


def _is_immutable(call: Expr) -> bool:
    return scalar_functions().get(call.rex_call_operator(), False)


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
