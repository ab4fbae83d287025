"""Finds the numbers of a statement that must not get the suffix `L` in Spark's SQL. Pure.

A whole number has 64 bits in DataFusion and 32 in Spark, so it is sent as `7L`. Spark accepts no suffix on the lengths
of types, numbers of rows, ordinals of columns and a few arguments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagfusion_query.errors import EngineChoiceError
from dagfusion_query.spark.sql_words import keyword
from dagfusion_query.sql_text import SqlToken, TokenKind

_TYPES = frozenset({"CHAR", "DEC", "DECIMAL", "NUMERIC", "TIMESTAMP", "VARCHAR"})
_BEFORE_ROWS = frozenset({"FETCH", "FIRST", "LIMIT", "NEXT", "OFFSET"})
_AFTER_ROWS = frozenset({"FOLLOWING", "PRECEDING"})
_GROUPINGS = frozenset({"CUBE", "ROLLUP", "SETS"})
_OF_32_BITS = frozenset({"lag", "lead", "nth_value", "ntile", "substr", "substring"})
_ENDS_KEYS = frozenset(
    ["EXCEPT", "FETCH", "FOR", "FROM", "GROUPS", "HAVING", "INTERSECT", "LIMIT", "OFFSET", "ORDER", "QUALIFY", "RANGE"]
) | frozenset(["ROWS", "SELECT", "UNION", "WHERE", "WINDOW"])
_AFTER_ORDINAL = frozenset({"", ",", ")", "ASC", "DESC", "NULLS"}) | _ENDS_KEYS
_MOST = (1 << 63) - 1
_DIGITS = len(str(_MOST))
_IN_LOCAL = 'use engine="local"'


@dataclass
class _Level:
    """The text inside one pair of parentheses that has been read so far.

    Attributes:
        opener: The word before the parentheses, in upper case.
        is_by: True inside an ORDER BY, GROUP BY or PARTITION BY.
        may_be_ordinals: True if a number alone may mean a column.
    """

    opener: str = ""
    is_by: bool = False
    may_be_ordinals: bool = False


def numbers_without_suffix(tokens: Sequence[SqlToken]) -> set[int]:
    """Return the token indexes of the whole numbers that get no suffix.

    Args:
        tokens: The statement, without comments.

    Raises:
        EngineChoiceError: The engines may read a number differently.
    """
    return set(_without_suffix(tokens))


def _without_suffix(tokens: Sequence[SqlToken]) -> Iterator[int]:
    levels = [_Level()]
    for at, token in enumerate(tokens):
        word = keyword(tokens, at)
        if word == "(":
            levels.append(_opened(tokens, at, levels[-1]))
        elif word == ")" and len(levels) > 1:
            levels.pop()
        elif word == "BY":
            levels[-1].is_by = True
        elif word in _ENDS_KEYS:
            levels[-1].is_by = False
        elif word.isdecimal() and token.kind is TokenKind.other and _stays(tokens, at, levels[-1]):
            yield at


def _opened(tokens: Sequence[SqlToken], at: int, around: _Level) -> _Level:
    opener = keyword(tokens, at - 1)
    is_alone = opener in ("BY", ",", "(") and (around.is_by or around.may_be_ordinals)
    return _Level(opener, may_be_ordinals=is_alone or opener in _GROUPINGS)


def _stays(tokens: Sequence[SqlToken], at: int, level: _Level) -> bool:
    before, after = keyword(tokens, at - 1), keyword(tokens, at + 1)
    if before == "." or after == ".":
        return False  # it has a point
    if len(tokens[at].text) > _DIGITS or int(tokens[at].text) > _MOST:
        raise EngineChoiceError(f"{tokens[at].text[:100]} has more than 64 bits for the Spark engine: {_IN_LOCAL}")
    if before == "INTERVAL":
        raise EngineChoiceError(f"write INTERVAL '{tokens[at].text[:100]}' for the Spark engine, or {_IN_LOCAL}")
    if level.may_be_ordinals and before in ("(", ",") and after in _AFTER_ORDINAL:
        raise EngineChoiceError(f"({tokens[at].text[:100]}) may be a column or a number to Spark SQL: {_IN_LOCAL}")
    if level.opener in _TYPES or before in _BEFORE_ROWS or after in _AFTER_ROWS:
        return True
    if level.is_by and before in ("BY", ","):
        return after in _AFTER_ORDINAL
    return level.opener.lower() in _OF_32_BITS and _is_argument(before, after, level.opener)


def _is_argument(before: str, after: str, function: str) -> bool:
    """Return True if a number is a whole argument that a function takes as a 32-bit count or position."""
    starts = ("(",) if function == "NTILE" else (",", "FROM", "FOR")
    return before in starts and after in (",", ")", "FOR")
