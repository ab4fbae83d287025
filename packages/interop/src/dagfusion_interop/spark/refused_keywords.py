"""Checks that words that look like keywords are keywords, and refuses clauses that the engines read differently. Pure.

DataFusion accepts most keywords as names: `SELECT range FROM a`. Such a name must be quoted or qualified, because the
checks would read it as a keyword.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from dagfusion_client.sql_text import SqlToken
from dagfusion_interop.spark.shared_sql import table_places
from dagfusion_interop.spark.sql_words import closing, directly_inside, enclosing, keyword, opening, text

_BOUND = r"(?:UNBOUNDED (?:PRECEDING|FOLLOWING)|CURRENT ROW)"
_ROWS = rf"(?:{_BOUND}|\d+ (?:PRECEDING|FOLLOWING))"
_FRAME = re.compile(
    rf"(?:RANGE (?:{_BOUND}|BETWEEN {_BOUND} AND {_BOUND})|ROWS (?:{_ROWS}|BETWEEN {_ROWS} AND {_ROWS})) \)"
)
_FRAME_WORDS = 8
_UNITS = frozenset({"GROUPS", "RANGE", "ROWS"})
_OFFSETS = frozenset({"FOLLOWING", "PRECEDING"})
_KEYS = frozenset({"GROUP", "ORDER", "PARTITION"})
# Words that begin a clause or join two operands. No operator can be before them.
_CLAUSES = frozenset(
    ["AND", "EXCEPT", "FETCH", "FOR", "FROM", "GROUP", "HAVING", "INTERSECT", "JOIN", "LIMIT", "OFFSET", "OR", "ORDER"]
) | frozenset(["QUALIFY", "UNION", "WHERE", "WINDOW"])
_BEFORE_NAME = (
    frozenset("(,.+-*/%<>=|&:")
    | frozenset(
        [
            "",
            "AND",
            "AS",
            "BETWEEN",
            "BY",
            "CASE",
            "DISTINCT",
            "ELSE",
            "HAVING",
            "ILIKE",
            "IN",
            "LIKE",
            "NOT",
            "ON",
            "OR",
        ]
    )
    | frozenset(["SELECT", "THEN", "WHEN", "WHERE"])
)
_BEFORE_SELECT = frozenset({"", "(", ")", ";", "ALL", "DISTINCT", "EXCEPT", "INTERSECT", "UNION"})
_SIDES = ("FIRST", "LAST")
_IGNORING = frozenset({"first_value", "last_value"})
_COMPARED = frozenset("<>=!") | frozenset({"BETWEEN", "CASE", "ILIKE", "IN", "IS", "LIKE", "NOT"})
_ENDS_BOUND = _CLAUSES | frozenset({",", ")", "ASC", "DESC", "ELSE", "END", "ON", "THEN", "WHEN"})
_WRONG_END = "one of the engines may read what follows {} as a part of it: put the comparison in parentheses"
_OF_TABLES = frozenset({"ALL", "AS", "EXCEPT", "IN", "INTERSECT", "MATERIALIZED", "UNION"})


class Places(NamedTuple):
    """The structure of a statement, as indexes of tokens.

    Attributes:
        tables: The indexes at which a table's name may begin.
        around: For each token, the index of the innermost open parenthesis around it, or -1.
    """

    tables: AbstractSet[int]
    around: Sequence[int]

    @classmethod
    def of(cls, tokens: Sequence[SqlToken]) -> "Places":
        """Return the structure of a statement without comments."""
        return cls(table_places(tokens), enclosing(tokens))


class _Word(NamedTuple):
    """A word that may be a keyword, with its neighbours."""

    tokens: Sequence[SqlToken]
    at: int
    text: str
    before: str
    after: str
    places: Places


def wrong_keyword(tokens: Sequence[SqlToken], at: int, places: Places) -> str | None:
    """Return what is wrong with a word that may be a keyword.

    Args:
        tokens: The statement, without comments.
        at: The index of the word.
        places: The structure of the statement.
    """
    text_of = keyword(tokens, at)
    word = _Word(tokens, at, text_of, keyword(tokens, at - 1), keyword(tokens, at + 1), places)
    is_name = _IS_NAME.get(text_of, _is_clause_as_name)
    if is_name(word):
        return f"{text_of} as a name may be read as a keyword: quote it"
    return _WRONG[text_of](word) if text_of in _WRONG else None


def _is_clause_as_name(word: _Word) -> bool:
    return word.text in _CLAUSES and word.before in _BEFORE_NAME


def _is_nulls_as_name(word: _Word) -> bool:
    return word.before in _BEFORE_NAME or not (word.after in _SIDES or word.before in ("IGNORE", "RESPECT"))


def _is_from_as_name(word: _Word) -> bool:
    if word.before == "*":
        return not is_all_columns(word.tokens, word.at - 1)
    if word.before == "DISTINCT":
        return keyword(word.tokens, word.at - 2) not in ("IS", "NOT")
    return word.before in _BEFORE_NAME


def _is_where_as_name(word: _Word) -> bool:
    is_in_filter = word.before == "(" and keyword(word.tokens, word.at - 2) == "FILTER"
    return word.before in _BEFORE_NAME and not is_in_filter


_IS_NAME: Mapping[str, Callable[[_Word], bool]] = {
    **dict.fromkeys(("ASC", "DESC"), lambda word: word.before in _BEFORE_NAME),
    "NULLS": _is_nulls_as_name,
    "BY": lambda word: word.before not in _KEYS,
    "GROUP": lambda word: word.after != "BY" or word.before in _BEFORE_NAME,
    "ORDER": lambda word: word.after != "BY" or word.before in _BEFORE_NAME - {"("},
    "FROM": _is_from_as_name,
    "WHERE": _is_where_as_name,
    **dict.fromkeys(_UNITS, lambda word: word.before in _BEFORE_NAME - {"("}),
    "SELECT": lambda word: word.before not in _BEFORE_SELECT,
    "WITH": lambda word: word.before not in ("", "("),
    **dict.fromkeys(_OFFSETS, lambda word: not _is_in_frame(word.tokens, word.at)),
}


def is_all_columns(tokens: Sequence[SqlToken], at: int) -> bool:
    """Return True if a `*` stands for all columns or rows, and is no product."""
    return keyword(tokens, at - 1) in ("(", ",", ".", "ALL", "DISTINCT", "SELECT")


def _frame(tokens: Sequence[SqlToken], at: int) -> re.Match[str] | None:
    return _FRAME.match(" ".join(keyword(tokens, place) for place in range(at, at + _FRAME_WORDS)))


def _wrong_frame(word: _Word) -> str | None:
    if _frame(word.tokens, word.at) is None:
        return "only window frames with ROWS, and with RANGE without numbers and intervals, are the same in Spark"
    return None


def _is_in_frame(tokens: Sequence[SqlToken], at: int) -> bool:
    places = range(max(at - _FRAME_WORDS, 0), at)
    units = [place for place in places if keyword(tokens, place) in _UNITS]
    found = _frame(tokens, units[-1]) if units else None
    return found is not None and at - units[-1] < len(found[0].split())


def _is_ignoring(tokens: Sequence[SqlToken], at: int) -> bool:
    start = opening(tokens, at) - 1
    return text(tokens, at) == ")" and start >= 0 and tokens[start].name in _IGNORING


def _wrong_nulls(word: _Word) -> str | None:
    if word.before in ("IGNORE", "RESPECT") and not _is_ignoring(word.tokens, word.at - 2):
        return f"Spark ignores {word.before} NULLS: write it only after first_value(x) and last_value(x)"
    return None


def _wrong_between(word: _Word) -> str | None:
    """Return what is wrong with a BETWEEN. Spark reads a comparison beside a bound as a part of the bound."""
    if word.before in _UNITS:
        return None
    middle = _end_of_bound(word.tokens, word.at + 1, _COMPARED)
    if middle is not None and keyword(word.tokens, middle) != "AND":
        return "Spark may read the bounds of a BETWEEN differently: put them in parentheses"
    if middle is None or _end_of_bound(word.tokens, middle + 1, _COMPARED) is None:
        return _WRONG_END.format("BETWEEN")
    return None


def _wrong_from(word: _Word) -> str | None:
    """Return what is wrong with `a IS DISTINCT FROM b`. DataFusion reads all that follows as the second operand."""
    if word.before != "DISTINCT":
        return None
    end = _end_of_bound(word.tokens, word.at + 1, _COMPARED | {"AND", "OR"})
    return _WRONG_END.format("IS DISTINCT FROM") if end is None else None


def _wrong_case(word: _Word) -> str | None:
    if word.after == "WHEN":
        return None
    return "CASE x WHEN compares 0.0 and NaN differently in Spark: write CASE WHEN x = ..."


def _wrong_sets(word: _Word) -> str | None:
    if word.text != "SETS" or _has_empty_set(word.tokens, word.at + 1):
        return f"{word.text} with () has no grand total over an empty input in Spark: write GROUPING SETS without ()"
    return None


def _wrong_having(word: _Word) -> str | None:
    if _is_of_table(word.tokens, word.at, word.places):
        return None
    return "HAVING in a scalar subquery may return other values in Spark: filter a subquery in FROM"


_WRONG: Mapping[str, Callable[[_Word], str | None]] = {
    **dict.fromkeys(_UNITS, _wrong_frame),
    "NULLS": _wrong_nulls,
    "BETWEEN": _wrong_between,
    "FROM": _wrong_from,
    "CASE": _wrong_case,
    **dict.fromkeys(("CUBE", "ROLLUP", "SETS"), _wrong_sets),
    "HAVING": _wrong_having,
}


def _end_of_bound(tokens: Sequence[SqlToken], at: int, wrong: AbstractSet[str]) -> int | None:
    """Return the index after an operand; None if one of the wrong words is in the operand or ends it.

    The search ends with the operand, so the time for all operands is linear in the length of the statement.
    """
    for place in _same_level(tokens, at):
        if (word := keyword(tokens, place)) in wrong:
            return None
        if word in _ENDS_BOUND:
            return place
    return len(tokens)


def _same_level(tokens: Sequence[SqlToken], at: int) -> Iterator[int]:
    """Yield the indexes from `at` to the closing parenthesis, without those in nested parentheses."""
    while at < len(tokens):
        yield at
        if text(tokens, at) == ")":
            return
        at = (closing(tokens, at) if text(tokens, at) == "(" else at) + 1


def _has_empty_set(tokens: Sequence[SqlToken], at: int) -> bool:
    return any(text(tokens, place) == ")" and text(tokens, place - 1) == "(" for place in directly_inside(tokens, at))


def _is_of_table(tokens: Sequence[SqlToken], at: int, places: Places) -> bool:
    """Return True if a HAVING belongs to the statement, to a subquery that is a table, or to a subquery of IN."""
    around = places.around[at]
    return around < 0 or around in places.tables or keyword(tokens, around - 1) in _OF_TABLES
