"""The SQL that has the same meaning in DataFusion and in Spark, and the NULL order that ORDER BY needs in Spark. Pure.

A statement with other SQL could run on Spark and return different rows without an error, so it is not sent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagfusion_client.errors import EngineChoiceError
from dagfusion_client.sql_text import SqlToken, TokenKind
from dagfusion_interop.spark.sql_words import column_lists, keyword, text

SHARED_FUNCTIONS = frozenset(
    [
        "abs",
        "atan",
        "atan2",
        "avg",
        "char_length",
        "character_length",
        "coalesce",
        "cos",
        "count",
        "cume_dist",
        "date_trunc",
        "dense_rank",
        "exp",
        "extract",
        "first_value",
        "greatest",
        "grouping",
        "lag",
        "last_value",
        "lead",
        "least",
        "length",
        "lower",
        "ltrim",
        "max",
        "min",
        "nth_value",
        "ntile",
        "octet_length",
        "percent_rank",
        "rank",
        "replace",
        "reverse",
        "row_number",
        "rtrim",
        "sin",
        "stddev",
        "stddev_pop",
        "stddev_samp",
        "substr",
        "substring",
        "sum",
        "tan",
        "trim",
        "upper",
        "var_pop",
        "var_samp",
    ]
)
_PARTS_OF_TIME = frozenset({"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOY", "HOUR", "MINUTE"})
_BEFORE_PARENTHESIS = frozenset(
    [
        "ALL",
        "AND",
        "ANY",
        "AS",
        "BETWEEN",
        "BY",
        "CASE",
        "CAST",
        "CUBE",
        "DISTINCT",
        "ELSE",
        "END",
        "EXCEPT",
        "EXISTS",
        "FILTER",
        "FROM",
        "GROUP",
        "HAVING",
        "ILIKE",
        "IN",
        "INTERSECT",
        "IS",
        "JOIN",
        "LATERAL",
        "LIKE",
        "LIMIT",
        "MATERIALIZED",
        "NOT",
        "OFFSET",
        "ON",
        "OR",
        "OVER",
        "QUALIFY",
        "ROLLUP",
        "SELECT",
        "SETS",
        "SOME",
        "THEN",
        "TRY_CAST",
        "UNION",
        "USING",
        "VALUES",
        "WHEN",
        "WHERE",
        "WITH",
    ]
) | frozenset(["CHAR", "DEC", "DECIMAL", "NUMERIC", "TIMESTAMP", "VARCHAR"])
_FILE_FORMATS = frozenset(
    ["avro", "binaryfile", "csv", "delta", "iceberg", "json", "orc", "parquet", "text", "vortex", "xml"]
)
_AFTER_KEYS = frozenset({"EXCEPT", "FETCH", "FOR", "GROUPS", "INTERSECT", "LIMIT", "OFFSET", "RANGE", "ROWS", "UNION"})
_AFTER_TABLES = frozenset(
    ["EXCEPT", "GROUP", "HAVING", "INTERSECT", "LIMIT", "OFFSET", "ORDER", "QUALIFY", "UNION", "WHERE", "WINDOW"]
)
_IN_LOCAL = 'use engine="local"'


def check_shared(tokens: Sequence[SqlToken]) -> None:
    """Check that a statement calls only functions that have the same meaning in both engines.

    Args:
        tokens: The statement, without comments.

    Raises:
        EngineChoiceError: A function may differ, or Spark would read a file that is not a table of the catalog.
    """
    lists = column_lists(tokens)
    for at, token in enumerate(tokens):
        following = text(tokens, at + 1)
        is_first = token.name is not None and text(tokens, at - 1) != "."
        if following == "(" and token.name is not None and at not in lists:
            _check_call(tokens, at)
        elif is_first and following == "." and token.name in _FILE_FORMATS and _is_quoted(tokens, at + 2):
            raise EngineChoiceError(
                f"Spark would read {token.text}.{text(tokens, at + 2)[:100]} as a file, so it is not sent: {_IN_LOCAL}"
            )


def table_places(tokens: Sequence[SqlToken]) -> set[int]:
    """Return the token indexes at which a table's name may begin: after FROM, JOIN, and the commas between tables."""
    found: set[int] = set()
    levels = [_Clause()]
    for at in range(len(tokens)):
        level, word = levels[-1], keyword(tokens, at)
        if word == "(":
            # Joined tables may be in parentheses.
            levels.append(_Clause(has_select=at in found, is_from=at in found))
            level = levels[-1]
        elif word == ")" and len(levels) > 1:
            levels.pop()
        elif word == "SELECT":
            level.has_select, level.is_from = True, False
        elif word == "FROM" and keyword(tokens, at - 1) == "DISTINCT":
            continue  # a IS DISTINCT FROM b
        elif word in ("FROM", "JOIN"):
            level.is_from = level.has_select  # the FROM of EXTRACT(YEAR FROM a) has no SELECT before it
        elif word in _AFTER_TABLES:
            level.is_from = False
        if level.is_from and word in ("FROM", "JOIN", ",", "("):
            found.add(at + 1)
    return found


def null_orders(tokens: Sequence[SqlToken]) -> dict[int, str]:
    """Return the NULL order to add to each key of an ORDER BY, by the index of the token before which it belongs.

    DataFusion sorts NULL last in ascending order and first in descending order. Spark does the opposite.
    """
    return dict(_orders(tokens))


@dataclass
class _Clause:
    """The clauses inside one pair of parentheses that have been read so far.

    Attributes:
        has_select: True if they include a SELECT, or the parentheses contain tables.
        is_from: True if the last clause is FROM.
    """

    has_select: bool = False
    is_from: bool = False


@dataclass
class _Level:
    """The text inside one pair of parentheses that has been read so far.

    Attributes:
        is_order: True inside an ORDER BY.
        is_descending: True if the current key is descending.
        has_nulls: True if the current key has a NULL order.
    """

    is_order: bool = False
    is_descending: bool = False
    has_nulls: bool = False

    def ended(self) -> str:
        """End the current key. Return the NULL order to add, or an empty string."""
        lacks = "" if self.has_nulls else "NULLS FIRST" if self.is_descending else "NULLS LAST"
        self.is_descending = self.has_nulls = False
        return lacks if self.is_order else ""


def _orders(tokens: Sequence[SqlToken]) -> Iterator[tuple[int, str]]:
    levels = [_Level()]
    for at in range(len(tokens)):
        level, word = levels[-1], keyword(tokens, at)
        if word == "(":
            levels.append(_Level())
        elif word in (",", ")") or word in _AFTER_KEYS:
            if lacks := level.ended():
                yield at, lacks
            level.is_order = level.is_order and word == ","
            if word == ")" and len(levels) > 1:
                levels.pop()
        elif word == "BY":
            level.is_order = keyword(tokens, at - 1) == "ORDER"
        elif word == "DESC":
            level.is_descending = True
        elif word == "NULLS" and keyword(tokens, at + 1) in ("FIRST", "LAST"):
            level.has_nulls = True
    if lacks := levels[-1].ended():
        yield len(tokens), lacks


def _check_call(tokens: Sequence[SqlToken], at: int) -> None:
    word, name = keyword(tokens, at), tokens[at].name or ""
    if word in _BEFORE_PARENTHESIS:
        return
    if name not in SHARED_FUNCTIONS or text(tokens, at - 1) == ".":
        raise EngineChoiceError(
            f"the function {name[:100]} may return other values in Spark, so it is not sent: {_IN_LOCAL}"
        )
    if name == "extract" and (part := text(tokens, at + 2).upper()) not in _PARTS_OF_TIME:
        raise EngineChoiceError(f"extract may return another {part[:100]} in Spark, so it is not sent: {_IN_LOCAL}")


def _is_quoted(tokens: Sequence[SqlToken], at: int) -> bool:
    return at < len(tokens) and tokens[at].kind is TokenKind.quoted
