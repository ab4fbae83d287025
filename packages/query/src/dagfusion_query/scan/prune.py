"""Prunes the files of a table: evaluates the filters of a query over the catalog, with DataFusion itself.

So pruning means exactly what the filter means: casts, functions, NULLs and time zones included. A filter becomes a
predicate over a file's partition values and column statistics. `may_match` is conservative: it keeps every file that
could hold a matching row. For a filter that names partition columns only it is exact, because a partition column has
one value in a file.

DataFusion skips row groups and pages of the files that are kept; see `parquet_scan`. Three more steps decide which
objects a query reads: `archived_files` leaves files out before the pruning. After it, `large_objects` chooses row
groups of large objects in place of files, and `copied_objects` which objects are read from local copies. `splice` joins
these steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import cast

import pyarrow as pa
from datafusion import DataFrame, Expr, SessionConfig, SessionContext, lit

from dagfusion_query.scan.listing_tables import ScanLayout
from dagfusion_query.scan.pruning_tables import (
    BLOCK_FILES,
    LEAST_BLOCKS,
    MAX,
    MIN,
    NULLS,
    ROWS,
    FileBlocks,
    collected,
    context_over,
    files_table,
)

MOST_PARTS = 256  # of a filter that is compared with the bounds of blocks
MAX_IN_LIST = 64  # beyond this, the bounds of an IN list decide as fast as its members
# Operators, which give equal results for equal operands. Functions are looked up by name.
# DataFusion computes them once, when it plans a statement.
_FIXED_IN_STATEMENT = frozenset({"now", "current_date", "current_time"})
_OPERATORS = {
    *("Alias", "Between", "BinaryExpr", "Case", "Cast", "InList", "Like", "Negative", "Not", "RLike", "TryCast"),
    *("IsFalse", "IsNotFalse", "IsNotNull", "IsNotTrue", "IsNotUnknown", "IsNull", "IsTrue", "IsUnknown"),
}
_FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Pruned:
    """The outcome for one scan.

    Attributes:
        files: int64 without nulls, ascending: the files that are kept, as rows of the catalog. None keeps them all.
        decided: For each filter, whether the catalog decided it, so that no row of a kept file can fail it.
    """

    files: pa.Array | None
    decided: Sequence[bool]


class Pruner:
    """The catalog of one table as something that filters can run over.

    Args:
        layout: The scan's name and partition columns.
        files: The catalog of one generation in that layout; see `scan_files`.

    Attributes:
        partition: The partition columns.
        statistics: The columns with statistics and their numbers, as `predicate` wants them.
    """

    def __init__(self, layout: ScanLayout, files: pa.Table) -> None:
        self._name, self._files = layout.name, files
        self.partition = frozenset(layout.partition_schema.names)
        stats = files.schema.field("stats").type
        self.statistics = {stats.field(i).name: i for i in range(stats.num_fields)}
        self._frames: dict[str, DataFrame] = {}

    def prune(self, filters: Sequence[Expr], relation: str) -> Pruned:
        """Find the files that can hold rows for which all `filters` are true.

        Args:
            filters: The filters of one scan.
            relation: The table as the query spells it, quoted where needed; the filters' columns carry it.
        """
        decided = [is_over(expr, self.partition) for expr in filters]
        predicates = _predicates(filters, self.partition, self.statistics)
        if not predicates:
            return Pruned(None, decided)
        return Pruned(collected(self._filtered(predicates, filters, relation)), decided)

    def filtered(self, filters: Sequence[Expr], relation: str) -> DataFrame:
        """Return the files that can hold rows for which all `filters` are true, as a table; see `files_table`."""
        return self._filtered(_predicates(filters, self.partition, self.statistics), filters, relation)

    def _filtered(self, predicates: Sequence[Expr], filters: Sequence[Expr], relation: str) -> DataFrame:
        frame = self._near(filters, relation)
        for predicate in predicates:
            frame = frame.filter(predicate)
        return frame

    def _near(self, filters: Sequence[Expr], relation: str) -> DataFrame:
        """Return all files as a table, or those of the blocks that the filters do not rule out."""
        runs = None
        if len(self._files) >= LEAST_BLOCKS * BLOCK_FILES:
            few = [expr for expr in filters if _has_few_parts(expr)]
            runs = self._blocks.chosen(_predicates(few, frozenset(), self._blocks.columns), relation)
        if runs is not None:
            return context_over(self._name, files_table(self._files, runs)).table(relation)
        if relation not in self._frames:
            self._frames[relation] = self._context.table(relation)
        return self._frames[relation]

    @cached_property
    def _blocks(self) -> FileBlocks:
        return FileBlocks(self._name, self._files)

    @cached_property
    def _context(self) -> SessionContext:
        return context_over(self._name, files_table(self._files, [(0, len(self._files))]))


@cache
def scalar_functions() -> Mapping[str, bool]:
    """Return DataFusion's scalar functions, and whether each is immutable: its result depends on its arguments only."""
    context = SessionContext(SessionConfig().with_information_schema(enabled=True))
    routines = context.sql("SELECT * FROM information_schema.routines WHERE function_type = 'SCALAR'").to_arrow_table()
    return dict(zip(routines["routine_name"].to_pylist(), routines["is_deterministic"].to_pylist(), strict=True))


def column_names(expr: Expr, also_pure: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names of the columns that an expression reads.

    Args:
        expr: The expression.
        also_pure: Functions that are allowed although they are not immutable.

    Raises:
        ValueError: The expression is not a pure function of columns: it holds a function that is not immutable, such as
            `random()`, or a part that does not show its operands, such as a subquery.
    """
    kind = expr.variant_name()
    if kind == "Column":
        yield expr.to_variant().name()
    elif kind != "Literal":
        if not (_is_pure(expr, also_pure) if kind == "ScalarFunction" else kind in _OPERATORS):
            raise ValueError(f"{kind} is not a pure function of columns")
        for operand in expr.rex_call_operands():
            yield from column_names(operand, also_pure)


def is_constant(expr: Expr) -> bool:
    """Return True if an expression has one value for a whole statement."""
    try:
        return not list(column_names(expr, _FIXED_IN_STATEMENT))
    except ValueError:
        return False


def is_over(expr: Expr, columns: frozenset[str]) -> bool:
    """Return True if an expression is a pure function of some of `columns`, or a constant."""
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


def _predicates(filters: Sequence[Expr], partition: frozenset[str], statistics: Mapping[str, int]) -> Sequence[Expr]:
    """Return the predicates that a file, or a block of files, must pass; see `may_match`."""
    predicates = (may_match(expr, partition, statistics) for expr in filters)
    return [predicate for predicate in predicates if predicate is not None]


def _has_few_parts(expr: Expr) -> bool:
    """Return True if a filter is small: to look for bounds in a deep one would take longer than it saves."""
    parts = [expr]
    for count, part in enumerate(parts):
        if count == MOST_PARTS:
            return False
        parts += () if part.variant_name() in ("Column", "Literal") else part.rex_call_operands()
    return True


def _is_pure(call: Expr, also_pure: frozenset[str]) -> bool:
    name = call.rex_call_operator()
    return name in also_pure or scalar_functions().get(name, False)


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


def _number(expr: Expr, statistics: Mapping[str, int]) -> int | None:
    if expr.variant_name() != "Column":
        return None
    return statistics.get(expr.to_variant().name())


def _has_values(number: int) -> Expr:
    nulls = Expr.column(f"{NULLS}{number}")
    return _unknown_or(nulls, nulls < Expr.column(ROWS))


def _unknown_or(is_known: Expr, keep: Expr) -> Expr:
    return is_known.is_null() | keep


def _any(options: list[Expr]) -> Expr:
    """Join by OR as a balanced tree: a chain as long as an IN list would nest as deep."""
    if len(options) == 1:
        return options[0]
    half = len(options) // 2
    return _any(options[:half]) | _any(options[half:])


_ONE_COLUMN = {"InList": _in_list, "IsNull": _is_null, "IsNotNull": _is_not_null, "Between": _between}
