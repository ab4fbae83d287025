"""SQL as text: checks its characters, tokenizes DataFusion's dialect, quotes and finds names, adds a SELECT. Pure.

`FROM t WHERE x > 1` is `SELECT * FROM t WHERE x > 1`, as in DuckDB. DataFusion parses `FROM t`, and gives it no
columns.

The functions whose names begin with `may_` search the text with one regular expression instead of reading its tokens.
They are cheap checks before the plan is taken apart: they may be True for what stands in a string or a comment.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from dagfusion_client.errors import SqlSyntaxError
from dagfusion_contract.naming import TableName

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# What does not end goes on to the last character, so that nothing is looked at twice.
_TOKEN = re.compile(
    r"""
    (?P<text>[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z)
      | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<comment>--[^\n]*|/\*)
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z))
    | (?P<parameter>\$\w+)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<other>\d\w*|\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
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
_NAME_PART = re.compile(r'"((?:[^"]|"")*)"|([^."]+)')
_PLAIN_COLUMN = re.compile(r"([a-z_][a-z_0-9]*\.)+[A-Za-z_]\w*", re.ASCII)
MINUTE = r"\d{4}-\d\d-\d\d[ Tt-]\d\d:\d\d"  # a date, and a time without seconds
_POINT_OR_MINUTE = re.compile(rf"(?<![\w.])(?:\d+\.|\.\d|\d+[eE])|{MINUTE}")
# The end of a constant, or of what may be one: a string, a call or cast, a parameter, a type, a number, a truth value.
_CONSTANT_FIRST = re.compile(
    r"""(?:['")?]|[$:]\w+|(?<![\w.])[\d.]+(?:[eE][+-]?\d+)?|\b(?:TRUE|FALSE|CURRENT_\w+))"""
    r"""\s*(?:[=<>]|!=|\b(?:NOT\s+)?(?:IN|BETWEEN)\b)""",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"\bNOT\b(?!\s+(?:NULL|I?LIKE|BETWEEN|EXISTS|DISTINCT|TRUE|FALSE|UNKNOWN)\b)", re.IGNORECASE)
_PART_OF_LISTS = re.compile(r"\b(?:IN|OR)\b", re.IGNORECASE)


_CASTS = frozenset({"CAST", "TRY_CAST"})
_EXACT_TYPES = frozenset(
    {"DECIMAL", "NUMERIC", "INT", "INTEGER", "INT2", "INT4", "INT8", "TINYINT", "SMALLINT", "MEDIUMINT", "BIGINT"}
)


class Position(NamedTuple):
    """A place in a statement, both 1-based."""

    line: int
    column: int


class _Name(NamedTuple):
    """A name of one or more parts, as the engine reads it, and where it begins."""

    parts: Sequence[str]
    start: int


class TokenKind(Enum):
    """The kind of a token."""

    text = "text"  # a string, quoted or in dollars
    comment = "comment"
    quoted = "quoted"  # a name in quotes
    parameter = "parameter"  # `$1`, `$name`
    word = "word"
    other = "other"  # a number, or one character, such as `?` and `(`


class SqlToken(NamedTuple):
    """A token, and where it begins."""

    kind: TokenKind
    text: str
    start: int

    @property
    def name(self) -> str | None:
        """The name that it is, as the engine reads it; None if it is none."""
        if self.kind is TokenKind.word:
            return self.text.lower()
        return unquoted(self.text) if self.kind is TokenKind.quoted else None


def tokens(sql: str) -> Iterator[SqlToken]:
    """Yield the tokens of a statement; what is between them is space.

    >>> [token.text for token in tokens("SELECT 'a''b' /* c /* d */ */ + $1")]
    ['SELECT', "'a''b'", '/* c /* d */ */', '+', '$1']
    """
    position = 0
    while (found := _TOKEN.search(sql, position)) is not None:
        kind, position = TokenKind(found.lastgroup if found.lastgroup != "tag" else "text"), found.end()
        if found[0] == "/*":
            position = _end_of_comment(sql, position)
        yield SqlToken(kind, sql[found.start() : position], found.start())


def check_text(sql: str) -> None:
    """Check that a statement is text that can be sent, planned, and shown in a column's name.

    Raises:
        SqlSyntaxError: There is a NUL in it, or half of a surrogate pair.
    """
    if (found := _NO_TEXT.search(sql)) is None:
        return
    before = sql[: found.start()]
    line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
    what = "a NUL, which chr(0) gives" if found[0] == "\0" else "half of a surrogate pair"
    wrong = f"a statement must be Unicode text without NUL, got {what}"
    raise SqlSyntaxError(f"syntax error at line {line}, column {column}: {wrong}", line, column)


def quoted(name: str) -> str:
    """Return a name as SQL that no character of it can break.

    >>> quoted('a"b')
    '"a""b"'
    """
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def qualified(parts: Iterable[str]) -> str:
    """Return a name of several parts as SQL: `"schema"."table"`."""
    return ".".join(map(quoted, parts))


def unquoted(text: str) -> str:
    """Return the name that stands in quotes; the last quote may be missing."""
    quote = text[0]
    inner = text[1:-1] if len(text) > 1 and text.endswith(quote) else text[1:]
    return inner.replace(quote * 2, quote)


def parts_of(name: str) -> list[str]:
    """Return the parts of a name that may be qualified and quoted, such as one in an error of DataFusion's.

    >>> parts_of('local_silver."a.b".C')
    ['local_silver', 'a.b', 'C']
    """
    return [(quoted or bare).replace('""', '"') for quoted, bare in _NAME_PART.findall(name)]


def is_plain_column(name: str) -> bool:
    """Return True if a qualified column is the one of that name without quotes."""
    return _PLAIN_COLUMN.fullmatch(name) is not None


def parse_table(name: str) -> TableName:
    """Return the name of a table as a user writes it.

    >>> str(parse_table('"local_silver".Orders'))
    'local_silver.orders'
    """
    schema, _, table = name.replace('"', "").lower().rpartition(".")
    return TableName(schema, table)


def names(sql: str) -> set[str]:
    """Return all names that a statement mentions, as the engine reads them; keywords and functions are among them.

    >>> sorted(names("SELECT `A`.b, 'c' FROM D -- e"))
    ['A', 'b', 'd', 'from', 'select']
    """
    return {token.name for token in tokens(sql) if token.name is not None}


def position_of(sql: str, name: str) -> Position | None:
    """Return where a statement mentions a name first, an alias after AS aside.

    Args:
        sql: The statement.
        name: Parts with dots between, quoted where they have to be.
    """
    parts = parts_of(name)
    found = next((mention for mention in _qualified_names(sql) if list(mention.parts) == parts), None)
    if found is None:
        return None
    line_start = sql.rfind("\n", 0, found.start) + 1
    return Position(sql.count("\n", 0, found.start) + 1, found.start - line_start + 1)


def _qualified_names(sql: str) -> Iterator[_Name]:
    parts: list[str] = []
    start, goes_on, is_alias = 0, False, False
    for token in tokens(sql):
        part = token.name
        if part is not None and goes_on:
            parts.append(part)
        elif token.text != "." or not parts:
            if parts and not is_alias:
                yield _Name(parts, start)
            is_alias = parts == ["as"]
            parts, start = ([] if part is None else [part]), token.start
        goes_on = token.text == "." and bool(parts)
    if parts and not is_alias:
        yield _Name(parts, start)


def may_mention(sql: str, words: frozenset[str]) -> bool:
    """Return True if a statement may mention one of these words."""
    return _any_word(words).search(sql) is not None


@lru_cache(maxsize=8)
def _any_word(words: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"\b({'|'.join(map(re.escape, sorted(words)))})\b", re.IGNORECASE)


def may_have_point_or_minute(sql: str) -> bool:
    """Return True if a statement may have a number with a point or an exponent, or a timestamp to the minute."""
    return _POINT_OR_MINUTE.search(sql) is not None


def may_begin_with_constant(sql: str) -> bool:
    """Return True if a comparison of a statement may begin with a constant: `3 < x`."""
    return _CONSTANT_FIRST.search(sql) is not None


def may_lose_digits(sql: str) -> bool:
    """Return True if a statement may cast a number to an integer or a decimal."""
    return ("::" in sql or may_mention(sql, _CASTS)) and may_mention(sql, _EXACT_TYPES)


def may_negate_lists(sql: str) -> bool:
    """Return True if a statement may have two lists of values, `x IN (...)` or `x = 1 OR x = 2`, and a NOT."""
    return _NEGATED.search(sql) is not None and len(_PART_OF_LISTS.findall(sql)) > 1


def _end_of_comment(sql: str, start: int) -> int:
    """Return where a comment ends that begins before `start`; comments may hold others."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return len(sql)


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


def mentioned_tables(sql: str) -> Collection[TableName] | None:
    """Return all pairs of names that a statement has, some of which are tables; None if it may be about all tables.

    >>> sorted(map(str, mentioned_tables('select a.b from "S"."t" a -- x.y')))
    ['S.t', 'a.b']
    """
    read = [token for token in tokens(sql) if token.kind is not TokenKind.comment]
    parts = [token.name for token in read]
    dots = [number for number, token in enumerate(read) if token.text == "."]
    pairs = [(parts[dot - 1], parts[dot + 1]) for dot in dots if 0 < dot < len(parts) - 1]
    if parts[:1] == ["show"] or any(schema == "information_schema" for schema, _ in pairs):
        return None
    return {TableName(schema, table) for schema, table in pairs if schema is not None and table is not None}
