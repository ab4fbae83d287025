"""Queries without SELECT: `FROM t WHERE x > 1` is `SELECT * FROM t WHERE x > 1`, as in DuckDB. Pure.

DataFusion parses `FROM t`, and gives it no columns.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from dagfusion_query.sql_text import SqlToken, TokenKind, tokens

_SELECT = "SELECT * "
_BEFORE_QUERY = {"WITH", "EXPLAIN"}  # what follows them, up to the query's first word, is theirs
_BODY = {"SELECT", "VALUES"}
_SET_OPERATORS = {"UNION", "EXCEPT", "INTERSECT"}
_SET_QUANTIFIERS = {"ALL", "DISTINCT", "BY", "NAME"}
# What can stand before such a FROM: it is cheap to see that a long statement has none.
_BARE_FROM = re.compile(
    r"(?:^|[()/;\n]|\b(?:UNION|EXCEPT|INTERSECT|ALL|DISTINCT|NAME|EXPLAIN|ANALYZE|VERBOSE|TREE|INDENT))[ \t\r]*FROM\b",
    re.IGNORECASE,
)


@dataclass
class _Query:
    """A query as far as it has been read: a statement, or what a parenthesis holds.

    Attributes:
        begins: No word of its body has been read.
        has_prefix: It has begun with WITH or EXPLAIN.
        is_operand: A set operator stands before it.
        bare_from: Where its FROM is, if that is its first word and no SELECT has followed.
    """

    begins: bool = True
    has_prefix: bool = False
    is_operand: bool = False
    bare_from: int | None = None

    def read(self, word: str, start: int) -> "_Query":
        """Read a word in upper case, or a token that is none; return the query that goes on after it."""
        if word in _SET_OPERATORS:
            return _Query(is_operand=True)
        if not self.begins:
            self.bare_from = None if word == "SELECT" else self.bare_from
        elif word == "FROM":
            self.begins, self.bare_from = False, start
        elif word in _BEFORE_QUERY:
            self.has_prefix = True
        elif word in _BODY or not (self.has_prefix or (self.is_operand and word in _SET_QUANTIFIERS)):
            self.begins = False
        return self


def with_select(sql: str) -> str:
    """Return a statement with `SELECT *` before each FROM that begins a query without SELECT.

    >>> with_select("WITH a AS (FROM t) FROM a LIMIT 3")
    'WITH a AS (SELECT * FROM t) SELECT * FROM a LIMIT 3'
    """
    if not _BARE_FROM.search(sql):
        return sql
    ended: list[_Query] = []
    levels = [_Query()]
    before = ""
    for token in tokens(sql):
        if token.kind is TokenKind.comment:
            continue
        if token.text == "(":
            levels[-1].read(token.text, token.start)
            levels.append(_Query())
        elif token.text == ")" and len(levels) > 1:
            ended.append(levels.pop())
        elif (query := levels[-1].read(_keyword(token, before), token.start)) is not levels[-1]:
            ended.append(levels[-1])
            levels[-1] = query
        before = token.text
    starts = sorted(query.bare_from for query in (*ended, *levels) if query.bare_from is not None)
    edges = [0, *starts, len(sql)]
    return _SELECT.join(sql[start:end] for start, end in pairwise(edges))


def _keyword(token: SqlToken, before: str) -> str:
    return token.text.upper() if token.kind is TokenKind.word and before != "." else token.text
