"""Decides by the text of a statement whether it is sent to Spark: all checks of its tokens, in their order. Pure.

SQL is refused that both engines accept, but for which they may return different rows. The checks do not know the types
of expressions. So SQL whose meaning depends on types is refused, too.

`spark_sql.py` calls `check_sendable` for the statement and for each view that it reads. The checks that need more than
the text are there: of the types of columns and parameters, and of what has no form in Spark's SQL.
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import date

from dagfusion_client.errors import EngineChoiceError
from dagfusion_client.sql_text import SqlToken, TokenKind
from dagfusion_interop.spark.refused_keywords import Places, is_all_columns, wrong_keyword
from dagfusion_interop.spark.refused_times import wrong_time
from dagfusion_interop.spark.shared_sql import check_shared
from dagfusion_interop.spark.sql_words import check_nesting, directly_inside, keyword, text

_FIRST = frozenset({"SELECT", "WITH", "VALUES", "("})
_IN_LOCAL = 'use engine="local"'
_DATE = re.compile(r"'\d{4}-\d\d-\d\d'")
_TIMESTAMP = re.compile(r"'\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d{1,6})?)?'")
_NANOSECONDS = re.compile(r":\d\d\.\d{7}")
_TRIMS = frozenset({"trim", "ltrim", "rtrim"})
_OFFSETS = frozenset({"lag", "lead"})
_PARTS = frozenset({"substr", "substring"})
# After another word, a string may be an alias, a part of the string before it, or of a type that only one engine has.
_BEFORE_STRING = frozenset("(,=<>+-*") | frozenset(
    [
        "ALL",
        "AND",
        "BETWEEN",
        "BOTH",
        "CASE",
        "DATE",
        "DISTINCT",
        "ELSE",
        "FROM",
        "HAVING",
        "ILIKE",
        "INTERVAL",
        "LEADING",
        "LIKE",
        "NOT",
        "ON",
        "OR",
        "SELECT",
        "THEN",
        "TIMESTAMP",
        "TRAILING",
        "WHEN",
        "WHERE",
        "X",
    ]
)
_NULL_TYPES = frozenset({"BIGINT", "BOOLEAN", "DATE", "DOUBLE", "INT", "TEXT", "TIMESTAMP", "VARCHAR"})
_NUMBER_TYPES = frozenset({"BIGINT", "DOUBLE"})
_RANKS = frozenset({"dense_rank", "ntile", "rank", "row_number"})
_WORDS = {
    "NATURAL": "NATURAL JOIN returns other columns in Spark: write JOIN ... ON",
    "USING": "JOIN ... USING returns other columns in Spark: write JOIN ... ON",
    "ESCAPE": "DataFusion does not support LIKE ... ESCAPE",
    "TRY_CAST": "TRY_CAST accepts other texts in Spark",
    "QUALIFY": "Spark may read QUALIFY differently: filter a subquery",
    "TABLESAMPLE": "a sample has other rows in Spark",
    "ZONE": "the Spark engine supports only the time zone UTC",
    **dict.fromkeys(
        ["CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"],
        "the current time is that of another machine in Spark: pass the time as a parameter",
    ),
}


def check_sendable(tokens: Sequence[SqlToken], times: AbstractSet[str]) -> None:
    """Check that a statement is a query that both engines read in the same way.

    Args:
        tokens: The statement, without comments.
        times: The columns of its tables and the parameters that are dates or timestamps.

    Raises:
        EngineChoiceError: It is no query, is nested too deep, has what is not known to mean the same in both engines,
            or has what they are known to read otherwise.
    """
    first = tokens[0].text.upper() if tokens else ""
    if first not in _FIRST:
        raise EngineChoiceError(
            f"a statement for the Spark engine must begin with SELECT, WITH, VALUES or FROM, got {first[:100]!r}: "
            'use engine="local"'
        )
    check_nesting(tokens)
    check_shared(tokens)
    _check_not_refused(tokens, times)


def _check_not_refused(tokens: Sequence[SqlToken], times: AbstractSet[str]) -> None:
    """Check that a statement has nothing that the engines may read differently.

    Args:
        tokens: The statement, without comments.
        times: The columns of its tables, and the parameters, that are dates or times.

    Raises:
        EngineChoiceError: The engines may read a part of the statement differently.
    """
    if has_ranks(tokens) and any(_is_arithmetic(tokens, at) for at in range(len(tokens))):
        raise EngineChoiceError(
            f"ranks are signed 32-bit integers in Spark, so a statement with ranks and + - * is not sent: {_IN_LOCAL}"
        )
    places = Places.of(tokens)
    wrongs = (_wrong(tokens, at, token, places) for at, token in enumerate(tokens))
    if (wrong := next(filter(None, wrongs), None) or wrong_time(tokens, times)) is not None:
        raise EngineChoiceError(f"the Spark engine is not sent this statement, because {wrong}, or {_IN_LOCAL}")


def has_ranks(tokens: Sequence[SqlToken]) -> bool:
    """Return True if a statement ranks rows. Ranks are unsigned 64-bit in DataFusion, and signed 32-bit in Spark."""
    return any(token.name in _RANKS for token in tokens)


def check_string(text: str) -> None:
    """Check that both engines read a string, without its quotes, as the same time if it is compared with a time.

    Raises:
        EngineChoiceError: The string may be a time with nanoseconds, which Spark truncates.
    """
    if _NANOSECONDS.search(text) is not None:
        raise EngineChoiceError(
            f"the Spark engine is not sent {text[:100]!r}: Spark has no nanoseconds; write 6 digits, or {_IN_LOCAL}"
        )


def _wrong(tokens: Sequence[SqlToken], at: int, token: SqlToken, places: Places) -> str | None:
    match token.kind:
        case TokenKind.text:
            return _wrong_string(tokens, at)
        case TokenKind.word | TokenKind.quoted if (
            keyword(tokens, at + 1) == "(" and token.name in _TRIMS | _OFFSETS | _PARTS
        ):
            return _wrong_arguments(tokens, at)
        case TokenKind.word:
            return _wrong_word(tokens, at, keyword(tokens, at), places)
        case TokenKind.other:
            return _wrong_sign(tokens, at, token.text)
    return None


def _wrong_string(tokens: Sequence[SqlToken], at: int) -> str | None:
    before = keyword(tokens, at - 1)
    is_apart = at > 0 and tokens[at - 1].start + len(before) < tokens[at].start
    if before not in _BEFORE_STRING or (before == "X" and is_apart):
        return f"Spark may read a string after {text(tokens, at - 1)[:100] or 'nothing'} differently"
    wanted = {"DATE": _DATE, "TIMESTAMP": _TIMESTAMP}.get(before)
    if wanted is not None and wanted.fullmatch(tokens[at].text) is None:
        return f"{before} {tokens[at].text[:100]} is not of the form 2024-12-31 or 2024-12-31 23:59:59.123456"
    return None


def _wrong_arguments(tokens: Sequence[SqlToken], at: int) -> str | None:
    """Return what is wrong with the arguments of a function."""
    commas, name = _commas(tokens, at + 1), tokens[at].name
    if name in _PARTS:
        starts = [place for place in directly_inside(tokens, at + 1) if keyword(tokens, place) in (",", "FROM")]
        start = keyword(tokens, starts[0] + 1) if starts else ""
        if not _is_positive(start) or keyword(tokens, starts[0] + 2) not in (",", ")", "FOR"):
            return f"{name} counts from the end in Spark if its start is below 1: write a constant of at least 1"
    if name in _TRIMS and commas:
        return f"{name} has its two arguments in the opposite order in Spark: write trim(BOTH 'x' FROM s)"
    if name in _OFFSETS and commas > 1:
        return f"the third argument of {name} gets another type in Spark: write coalesce({name}(x, 1), 0)"
    return None


def _wrong_word(tokens: Sequence[SqlToken], at: int, word: str, places: Places) -> str | None:
    before, after = keyword(tokens, at - 1), keyword(tokens, at + 1)
    if word == "CAST":
        return _wrong_cast(tokens, at)
    if word in ("EXCEPT", "INTERSECT") and after == "ALL":
        return f"{word} ALL counts equal rows differently in Spark"
    if word == "ALL" and before == "BY":
        return "Spark may read BY ALL differently: name the columns"
    return _WORDS.get(word) or wrong_keyword(tokens, at, places)


def _wrong_cast(tokens: Sequence[SqlToken], at: int) -> str | None:
    """Return what is wrong with a CAST. The type of its operand is known only for constants."""
    parts = [keyword(tokens, at + ahead) for ahead in range(1, 6)]
    kind = parts[3]
    if parts[0] == "(" and parts[2] == "AS" and parts[4] == ")":
        value = tokens[at + 2].text
        if parts[1] == "NULL" and kind in _NULL_TYPES:
            return None
        if kind in _NUMBER_TYPES and value.isdecimal():
            return None
        if kind == "DATE" and _DATE.fullmatch(value) and _is_day(value[1:-1]):
            return None
        if kind == "TIMESTAMP" and _TIMESTAMP.fullmatch(value):
            return None
    return (
        "CAST of anything but a constant (CAST('2024-12-31' AS DATE), CAST(1 AS BIGINT), CAST(NULL AS VARCHAR)) may "
        "return other values in Spark: write n * 1 for BIGINT and n * 1.0 for DOUBLE"
    )


def _wrong_sign(tokens: Sequence[SqlToken], at: int, sign: str) -> str | None:
    if sign == ":":
        return ":: may return other values in Spark: write CAST of a constant, n * 1 for BIGINT and n * 1.0 for DOUBLE"
    if sign == "|" and keyword(tokens, at + 1) == "|":
        return "|| converts times and numbers to other texts in Spark"
    if sign == "/" and not _is_divisor(tokens, at + 1, has_point=True):
        return "/ by 0 and / of integers differ in Spark: divide by a number with a point that is not 0, such as 7.0"
    if sign == "%" and not _is_divisor(tokens, at + 1, has_point=False):
        return "% by 0 differs in Spark: write a constant that is not 0 after it"
    return None


def _is_positive(word: str) -> bool:
    """Return True for a whole number that is not 0, of any number of digits."""
    return word.isdecimal() and bool(word.strip("0"))


def _is_divisor(tokens: Sequence[SqlToken], at: int, *, has_point: bool) -> bool:
    """Return True if a number that is not 0 begins at an index. The point and the digits are separate tokens."""
    whole, point, fraction = (keyword(tokens, at + ahead) for ahead in range(3))
    if point != ".":
        return not has_point and _is_positive(whole)
    return whole.isdecimal() and fraction.isdecimal() and float(f"{whole}.{fraction}") > 0


def _commas(tokens: Sequence[SqlToken], at: int) -> int:
    """Return the number of commas directly in the parentheses that open at an index."""
    return sum(keyword(tokens, place) == "," for place in directly_inside(tokens, at))


def _is_arithmetic(tokens: Sequence[SqlToken], at: int) -> bool:
    sign = keyword(tokens, at)
    return sign in ("+", "-", "*") and not (sign == "*" and is_all_columns(tokens, at))


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
