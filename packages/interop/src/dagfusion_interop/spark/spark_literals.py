"""Constants in Spark's SQL: values, the names of their types, and which numbers stay without a suffix. Pure.

A whole number has 64 bits in DataFusion and 32 in Spark, so it is sent as `7L`. The lengths of types, numbers of rows,
ordinals of columns and a few arguments must not have the suffix.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import pyarrow as pa

from dagfusion_client.errors import EngineChoiceError
from dagfusion_client.sql_text import SqlToken, TokenKind
from dagfusion_interop.spark.sql_words import keyword

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.uint8(): "SMALLINT",
    pa.uint16(): "INT",
    pa.uint32(): "BIGINT",
    pa.uint64(): "DECIMAL(20,0)",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "STRING",
    pa.large_string(): "STRING",
    pa.string_view(): "STRING",
    pa.binary(): "BINARY",
    pa.large_binary(): "BINARY",
    pa.date32(): "DATE",
}
_MOST_DIGITS = 38
_WITH_LENGTHS = frozenset({"CHAR", "DEC", "DECIMAL", "NUMERIC", "TIMESTAMP", "VARCHAR"})
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


def string(text: str) -> str:
    r"""Return a string constant. Spark replaces `${name}` in a statement, so `$` is escaped.

    >>> print(string("it's ${env:HOME} \\"))
    'it\'s \u0024{env:HOME} \\'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\u0024")
    return f"'{escaped}'"


def name(text: str) -> str:
    """Return a quoted name.

    Raises:
        EngineChoiceError: The name has a `$`, which Spark may read as the start of a variable.

    >>> name("a`b")
    '`a``b`'
    """
    if "$" in text:
        raise EngineChoiceError(f'the name "{text}" has a $, which the Spark engine cannot be sent: use engine="local"')
    escaped = text.replace("`", "``")
    return f"`{escaped}`"


def literal(value: pa.Scalar) -> str:
    """Return the value of a parameter as a constant.

    Raises:
        EngineChoiceError: Spark has no constant of this type.

    >>> literal(pa.scalar(7)), literal(pa.scalar(None, pa.string()))
    ("CAST('7' AS BIGINT)", 'CAST(NULL AS STRING)')
    """
    if pa.types.is_null(value.type):
        return "NULL"
    kind = _type(value.type)
    if not value.is_valid:
        return f"CAST(NULL AS {kind})"
    if kind == "BINARY":
        return f"X'{value.as_py().hex()}'"
    if kind == "STRING":
        return string(value.as_py())
    return f"CAST('{_text(value)}' AS {kind})"


def _type(kind: pa.DataType) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    if pa.types.is_decimal128(kind) and kind.scale >= 0:
        return f"DECIMAL({min(kind.precision, _MOST_DIGITS)},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP_NTZ" if kind.tz is None else "TIMESTAMP"
    raise EngineChoiceError(f'a parameter of type {kind} cannot be sent to the Spark engine: use engine="local"')


def _text(value: pa.Scalar) -> str:
    if pa.types.is_timestamp(value.type):
        try:
            at: Any = value.cast(pa.timestamp("us", value.type.tz)).as_py()
        except pa.ArrowInvalid:
            raise EngineChoiceError(
                'a parameter with nanoseconds cannot be sent to the Spark engine: use engine="local"'
            ) from None
        return str(at.isoformat(" ") if at.tzinfo is None else at.astimezone(UTC).isoformat(" "))
    plain = value.as_py()
    if isinstance(plain, float) and not math.isfinite(plain):
        return "NaN" if math.isnan(plain) else f"{'-' if plain < 0 else ''}Infinity"
    return str(plain)


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
    if level.opener in _WITH_LENGTHS or before in _BEFORE_ROWS or after in _AFTER_ROWS:
        return True
    if level.is_by and before in ("BY", ","):
        return after in _AFTER_ORDINAL
    return level.opener.lower() in _OF_32_BITS and _is_argument(before, after, level.opener)


def _is_argument(before: str, after: str, function: str) -> bool:
    """Return True if a number is a whole argument that a function takes as a 32-bit count or position."""
    starts = ("(",) if function == "NTILE" else (",", "FROM", "FOR")
    return before in starts and after in (",", ")", "FOR")
