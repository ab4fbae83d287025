"""Refuses arithmetic with dates, timestamps and intervals that the engines may calculate differently. Pure.

The difference of two times has another type in DataFusion than in Spark. So a statement may only add a constant
INTERVAL to a time, or subtract one. Only the types of the tables' columns are known, so the check follows names through
aliases.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from dagfusion_client.errors import EngineChoiceError
from dagfusion_client.sql_text import SqlToken, TokenKind
from dagfusion_interop.spark.sql_words import (
    CLAUSES_OF_CALLS,
    NAME,
    call_of,
    closing,
    column_lists,
    directly_inside,
    end_of_operand,
    keyword,
    opening,
    text,
)

_WHOLE_DAYS = re.compile(r"'\d{1,5} (?:day|week|month|year)s?'", re.IGNORECASE)
_NUMBER = re.compile(r"'\d{1,5}'")
_UNITS = frozenset({"DAY", "WEEK", "MONTH", "YEAR"})
_AFTER_INTERVAL = frozenset("),+-<>=!")
_TIMES = frozenset({"DATE", "INTERVAL", "TIMESTAMP"})
_OF_NUMBERS = frozenset({"count", "extract"})
_SETS = frozenset({"EXCEPT", "INTERSECT", "UNION"})
_BEFORE_ITEM = frozenset({",", "DISTINCT", "FROM", "JOIN", "SELECT"})
_MOST_OFTEN = 50  # passes over a statement to follow names through aliases
_IN_LOCAL = 'use engine="local"'
# Tokens after which + and - are the sign of a number, because they do not end an operand.
NO_OPERAND = (
    frozenset("(,+-*/%<>=!|&:")
    | frozenset(
        [
            "",
            "ALL",
            "AND",
            "AS",
            "BETWEEN",
            "BY",
            "CASE",
            "DISTINCT",
            "ELSE",
            "FROM",
            "HAVING",
            "ILIKE",
            "IN",
            "IS",
            "LIKE",
        ]
    )
    | frozenset(["LIMIT", "NOT", "OFFSET", "ON", "OR", "SELECT", "THEN", "VALUES", "WHEN", "WHERE"])
)


def wrong_time(tokens: Sequence[SqlToken], times: AbstractSet[str]) -> str | None:
    """Return what is wrong with the times of a statement.

    Args:
        tokens: The statement, without comments.
        times: The columns of tables and the parameters (`$1`) that are dates or times.
    """
    known = _with_aliases(tokens, {name.casefold() for name in times})
    for at in range(len(tokens)):
        word = keyword(tokens, at)
        if word == "INTERVAL" and not _is_added(tokens, at):
            return "INTERVAL may only be added to a time, or subtracted, in whole days, weeks, months or years"
        if word == "EXTRACT" and text(tokens, at + 1) == "(" and not _is_of_column(tokens, at + 1):
            return "extract from anything but a column may return other values in Spark: name the value in a subquery"
        if word in ("+", "-") and keyword(tokens, at - 1) not in NO_OPERAND and _has_time(tokens, at, known):
            return f"a time {word} anything but a constant INTERVAL has another type in Spark"
    return None


def _has_time(tokens: Sequence[SqlToken], at: int, times: AbstractSet[str]) -> bool:
    """Return True if the + or - at an index has a time, or an interval that is not constant, as an operand."""
    if keyword(tokens, at + 1) == "INTERVAL":
        return False
    if _ends_interval(tokens, at - 1):
        return True
    sides = (range(call_of(tokens, at - 1), at), range(at + 1, end_of_operand(tokens, at + 1)))
    return any(_mentions(tokens, side, times) for side in sides)


def _is_added(tokens: Sequence[SqlToken], at: int) -> bool:
    if keyword(tokens, at - 1) not in ("+", "-") or keyword(tokens, at - 2) in NO_OPERAND:
        return False
    if _WHOLE_DAYS.fullmatch(text(tokens, at + 1)) is not None:
        after = keyword(tokens, at + 2)
    elif _NUMBER.fullmatch(text(tokens, at + 1)) is not None and keyword(tokens, at + 2) in _UNITS:
        after = keyword(tokens, at + 3)
    else:
        return False
    return after in _AFTER_INTERVAL or after == "" or (after.isalpha() and after not in ("TO", *_UNITS))


def _ends_interval(tokens: Sequence[SqlToken], at: int) -> bool:
    return "INTERVAL" in (keyword(tokens, at - 1), keyword(tokens, at - 2))


def _is_of_column(tokens: Sequence[SqlToken], at: int) -> bool:
    """Return True for `(YEAR FROM a.b)`."""
    end = closing(tokens, at)
    inside = [tokens[place] for place in range(at + 3, end)]
    return keyword(tokens, at + 2) == "FROM" and all(
        token.text == "." if number % 2 else token.name is not None for number, token in enumerate(inside)
    )


def _mentions(tokens: Sequence[SqlToken], places: range, times: AbstractSet[str]) -> bool:
    """Return True if an operand may be a time, because it contains or names one."""
    return any(name is None or name in times for name in _mentioned(tokens, places))


def _mentioned(tokens: Sequence[SqlToken], places: range) -> Iterator[str | None]:
    """Yield what decides the type of an operand: the names in it, without conditions, and None for a time."""
    at, is_condition = places.start, False
    while at < places.stop:
        word, name = keyword(tokens, at), tokens[at].name
        is_skipped = name in _OF_NUMBERS or word in CLAUSES_OF_CALLS
        if is_skipped and text(tokens, at + 1) == "(":
            at = closing(tokens, at + 1)
        elif word in ("WHEN", "THEN"):
            is_condition = word == "WHEN"
        elif is_condition or text(tokens, at + 1) == ".":
            pass
        elif word in _TIMES or name == "date_trunc":
            yield None
        elif (found := _own_name(tokens[at])) is not None:
            yield found
        at += 1


def _own_name(token: SqlToken) -> str | None:
    found = token.text[1:] if token.kind is TokenKind.parameter else token.name
    return None if found is None else found.casefold()


def _with_aliases(tokens: Sequence[SqlToken], times: AbstractSet[str]) -> AbstractSet[str]:
    """Return the names of times, with those that a statement gives to them."""
    has_sets = any(keyword(tokens, at) in _SETS for at in range(len(tokens)))
    of_anything, known, uses = set[str](), set(times), defaultdict[str, set[str]](set)
    for name, places in _aliases(tokens):
        if places is None:
            of_anything.add(name)
        elif has_sets and _is_null(tokens, places):
            known.add(name)
        else:
            for used in _mentioned(tokens, places):
                if used is None:
                    known.add(name)
                else:
                    uses[used].add(name)
    if of_anything and _mentions(tokens, range(len(tokens)), _reached(known, uses)):
        known |= of_anything
    return _reached(known, uses)


def _reached(known: AbstractSet[str], uses: Mapping[str, AbstractSet[str]]) -> AbstractSet[str]:
    """Return some names, with their aliases, the aliases of these, and so on."""
    found, waiting = set(known), list(known)
    while waiting:
        new = uses.get(waiting.pop(), frozenset()) - found
        found |= new
        waiting += new
    return found


def _is_null(tokens: Sequence[SqlToken], places: range) -> bool:
    """Return True for `NULL AS a`, whose type is that of the same column in another SELECT of a UNION."""
    is_only = len(places) == 1 and keyword(tokens, places.start) == "NULL"
    return is_only and keyword(tokens, places.stop) not in (",", ")")


def _aliases(tokens: Sequence[SqlToken]) -> Iterator[tuple[str, range | None]]:
    """Yield each alias of a statement, and the token indexes of its value; None if the value can be anything in it."""
    lists, starts, looked_at = column_lists(tokens), _starts_of_items(tokens), 0
    for at, token in enumerate(tokens):
        if token.name is None or keyword(tokens, at) in NO_OPERAND | {"END"}:
            continue
        if at in lists:
            yield from _columns(tokens, at)
        before = keyword(tokens, at - 1)
        end = at - 1 if before == "AS" else at
        is_operand = before not in NO_OPERAND and (before in (")", NAME) or before.isalnum())
        if (before == "AS" and text(tokens, at + 1) != "(") or is_operand:
            places = range(starts[end - 1], end) if end else range(0)
            looked_at += len(places)
            if looked_at > _MOST_OFTEN * len(tokens):
                raise EngineChoiceError(f"the Spark engine is not sent a statement with so many names: {_IN_LOCAL}")
            yield token.name.casefold(), places


def _starts_of_items(tokens: Sequence[SqlToken]) -> list[int]:
    """Return for each token the index at which its item of the SELECT begins."""
    found, levels = [], [0]
    for at in range(len(tokens)):
        word = keyword(tokens, at)
        if word == ")" and len(levels) > 1:
            levels.pop()
        if word in _BEFORE_ITEM:
            levels[-1] = at + 1
        found.append(levels[-1])
        if word == "(":
            levels.append(at + 1)
    return found


def _columns(tokens: Sequence[SqlToken], at: int) -> Iterator[tuple[str, range | None]]:
    """Yield the names in a list of columns, such as `a (x, y)`, and the values in VALUES; None without VALUES."""
    inside = [tokens[place] for place in directly_inside(tokens, at + 1)]
    names = [(token.name or "").casefold() for token in inside if token.text != ","]
    before = at - 2 if keyword(tokens, at - 1) == "AS" else at - 1
    start = opening(tokens, before) if text(tokens, before) == ")" else before
    if keyword(tokens, start + 1) != "VALUES":
        yield from ((name, None) for name in names)
        return
    for row in directly_inside(tokens, start):
        if text(tokens, row) == ")":
            first = opening(tokens, row)
            commas = [place for place in directly_inside(tokens, first) if text(tokens, place) == ","]
            edges = [first, *commas, row]
            yield from zip(names, map(range, edges, edges[1:]), strict=False)
