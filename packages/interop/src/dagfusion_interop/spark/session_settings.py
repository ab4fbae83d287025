"""Refuses views whose rows depend on the settings of the reader's Spark session. Pure.

The service sets what its statements rely on in its own sessions. The sessions of other clients can have another time
zone, casts and overflows with or without ANSI errors, and decimals with other digits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import pyarrow as pa
import pyarrow.types as pt

from dagfusion_client.errors import EngineChoiceError
from dagfusion_client.sql_text import SqlToken, TokenKind
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_interop.spark.refused_columns import has_type
from dagfusion_interop.spark.refused_keywords import is_all_columns
from dagfusion_interop.spark.refused_times import NO_OPERAND
from dagfusion_interop.spark.sql_words import column_lists, enclosing, keyword, text

_ARITHMETIC = frozenset("+-*/%")
_ESCAPED = frozenset("\\'$")
_OF_DECIMALS = frozenset({"avg", "sum"})
_OF_TIMES = frozenset({"count", "max", "min"})
_FUNCTIONS = {
    "abs": "abs of the least integer is an error with ANSI only",
    "date_trunc": "date_trunc is in the time zone of the session",
    "extract": "extract may be in the time zone of the session",
}
_BEFORE_ITEM = frozenset({",", "BY", "DISTINCT", "SELECT"})
_AFTER_ITEM = frozenset({"", ",", "AS", "ASC", "DESC", "FROM", "HAVING", "LIMIT", "NULLS", "OFFSET", "ORDER"})
_ENDS_KEYS = frozenset({"FROM", "HAVING", "LIMIT", "OFFSET", "ROWS", "SELECT", "UNION", "WHERE"})
_SETS = frozenset({"EXCEPT", "INTERSECT", "UNION"})
_INTEGER_DIGITS, _DIGITS = 20, 38  # of a 64-bit integer as a decimal, and of all decimals


def check_independent(view: View, tokens: Sequence[SqlToken], columns: Mapping[TableName, pa.Schema]) -> None:
    """Check that a view has the same rows in every Spark session.

    One difference is accepted: a sum of integers that overflows is an error in an ANSI session. In other sessions it
    wraps, as in DataFusion.

    Args:
        view: The view.
        tokens: Its statement, without comments. It must be one that the service could send to its own sessions.
        columns: The columns of all tables and views that it reads.

    Raises:
        EngineChoiceError: The rows may depend on the settings.
    """
    if not {*view.tables} <= columns.keys():
        raise EngineChoiceError("the columns of a table that the view reads are not known")
    fields = [field for schema in columns.values() for field in schema]
    decimals = [field.type for field in fields if has_type(field.type, pt.is_decimal)]
    wrong = (
        _wrong_decimals(decimals)
        or next(filter(None, (_wrong(tokens, at, has_decimals=bool(decimals)) for at in range(len(tokens)))), None)
        or next(_ordinals(tokens), None)
        or _wrong_zones(view, tokens, fields)
    )
    if wrong is not None:
        raise EngineChoiceError(f"the view may have other rows with other settings of a Spark session: {wrong}")


def _wrong_decimals(decimals: Sequence[pa.DataType]) -> str | None:
    """Return what is wrong with decimals, because they may be compared with each other or with integers."""
    flat = [kind for kind in decimals if pt.is_decimal(kind)]
    if len(flat) < len(decimals):
        return "decimals inside of other values may be compared"
    whole = max([_INTEGER_DIGITS, *(kind.precision - kind.scale for kind in flat)])
    if whole + max([0, *(kind.scale for kind in flat)]) > _DIGITS:
        return f"decimals of more than {_DIGITS} digits together overflow where they are compared"
    return None


def _wrong(tokens: Sequence[SqlToken], at: int, *, has_decimals: bool) -> str | None:
    token, word, before = tokens[at], keyword(tokens, at), keyword(tokens, at - 1)
    if token.kind is TokenKind.text:
        return "a string is escaped" if _ESCAPED & {*token.text[1:-1]} else None
    if word == "TIMESTAMP":
        return "a timestamp may be one in the time zone of the session"
    if word in _ARITHMETIC and not _is_sign(tokens, at) and not (word == "*" and is_all_columns(tokens, at)):
        return f"{word} overflows with ANSI or without, and has other digits of decimals"
    if text(tokens, at + 1) != "(" or token.name is None:
        return None
    if has_decimals and token.name in _OF_DECIMALS:
        return f"{token.name} of decimals overflows with ANSI or without"
    return _FUNCTIONS.get(token.name) if before != "." else None


def _is_sign(tokens: Sequence[SqlToken], at: int) -> bool:
    """Return True if a + or - is the sign of a number."""
    is_number = keyword(tokens, at + 1)[:1].isdecimal() or keyword(tokens, at + 1) == "."
    return keyword(tokens, at) in ("+", "-") and keyword(tokens, at - 1) in NO_OPERAND and is_number


def _ordinals(tokens: Sequence[SqlToken]) -> Iterator[str]:
    """Yield what is wrong with numbers in GROUP BY and ORDER BY. Settings decide whether they mean columns."""
    levels = [False]
    for at in range(len(tokens)):
        word = keyword(tokens, at)
        if word == "(":
            levels.append(levels[-1] and keyword(tokens, at - 1) in ("BY", ",", "("))
        elif word == ")" and len(levels) > 1:
            levels.pop()
        elif word == "BY" or word in _ENDS_KEYS:
            levels[-1] = word == "BY"
        elif word[:1].isdecimal() and levels[-1] and keyword(tokens, at - 1) in ("BY", ",", "("):
            yield "a number may be a column or itself: name the column"


def _wrong_zones(view: View, tokens: Sequence[SqlToken], fields: Sequence[pa.Field]) -> str | None:
    """Return what is wrong with the columns that have a time zone.

    Comparisons with other types, and conversions to text, depend on the time zone of the session. So such a column is
    allowed only as a whole item of the only SELECT: the column itself, or its count, least or greatest value.
    """
    zoned, others = _by_zone(fields)
    known = zoned | _given(tokens, zoned)
    wanted, plain = _by_zone(view.columns)
    # Spark casts the columns of a view to the types that it was published with.
    if zoned & others or not wanted <= known or plain & known:
        return "a column has a time zone in one place, and none in another"
    if zoned and column_lists(tokens):
        return "a column with a time zone may have another name"
    named = [at for at in range(len(tokens)) if _is_named(tokens, at, known)]
    has_all = any(text(tokens, at) == "*" and _is_of_select(tokens, at) for at in range(len(tokens)))
    if not named and not (zoned and has_all):
        return None
    words = [keyword(tokens, at) for at in range(len(tokens))]
    around = enclosing(tokens)
    is_alone = words.count("SELECT") == 1 and not _SETS & {*words}
    if not is_alone or not all(_item(tokens, at, around) or _is_alias(tokens, at, zoned, around) for at in named):
        return "a column with a time zone is in a subquery or an expression"
    return None


def _by_zone(fields: Iterable[pa.Field]) -> tuple[set[str], set[str]]:
    """Return the names of the columns that have a time zone, and the names of the others."""
    found: tuple[set[str], set[str]] = set(), set()
    for field in fields:
        found[not has_type(field.type, _has_zone)].add(field.name.casefold())
    return found


def _has_zone(kind: pa.DataType) -> bool:
    return pt.is_timestamp(kind) and kind.tz is not None


def _is_of_select(tokens: Sequence[SqlToken], at: int) -> bool:
    """Return True if a `*` means all columns, and is not that of `count(*)`."""
    return is_all_columns(tokens, at) and keyword(tokens, at - 1) != "("


def _is_named(tokens: Sequence[SqlToken], at: int, names: AbstractSet[str]) -> bool:
    name = tokens[at].name
    return name is not None and name.casefold() in names


def _item(tokens: Sequence[SqlToken], at: int, around: Sequence[int]) -> range | None:
    """Return the token indexes of the item of a list that the column at an index makes up; None if there is none.

    The list is that of the SELECT, or of keys. The item is the column itself, or its count, least or greatest value.
    """
    start, end = at, at + 1
    while text(tokens, start - 1) == ".":
        start -= 2
    if text(tokens, start - 1) == "(" and text(tokens, end) == ")" and tokens[max(start - 2, 0)].name in _OF_TIMES:
        start, end = start - 2, end + 1
    before, after = keyword(tokens, start - 1), keyword(tokens, end)
    is_ended = after in _AFTER_ITEM or (end < len(tokens) and tokens[end].name is not None and _ends(tokens, end + 1))
    is_whole = around[max(start, 0)] < 0 and before in _BEFORE_ITEM and is_ended
    return range(start, end) if is_whole else None


def _ends(tokens: Sequence[SqlToken], at: int) -> bool:
    return keyword(tokens, at) in ("", ",", "FROM")


def _given(tokens: Sequence[SqlToken], zoned: AbstractSet[str]) -> set[str]:
    """Return the aliases of columns with a time zone, and of their least or greatest value, in the only SELECT."""
    around, found = enclosing(tokens), set[str]()
    for at in range(len(tokens)):
        item = _item(tokens, at, around) if _is_named(tokens, at, zoned) else None
        if item is None or tokens[item.start].name == "count":
            continue
        place = item.stop + 1 if keyword(tokens, item.stop) == "AS" else item.stop
        if place < len(tokens) and (name := tokens[place].name) is not None and _ends(tokens, place + 1):
            found.add(name.casefold())
    return found


def _is_alias(tokens: Sequence[SqlToken], at: int, zoned: AbstractSet[str], around: Sequence[int]) -> bool:
    """Return True if the name at an index is the alias of a column with a time zone."""
    last = at - 2 if keyword(tokens, at - 1) == "AS" else at - 1
    place = last - 1 if text(tokens, last) == ")" else last
    item = _item(tokens, place, around) if place > 0 and _is_named(tokens, place, zoned) else None
    return item is not None and item.stop == last + 1 and _ends(tokens, at + 1)
