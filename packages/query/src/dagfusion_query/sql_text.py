"""SQL as text: checks a statement's characters, quotes names, and tokenizes DataFusion's dialect. Pure."""

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from dagfusion_query.errors import SqlSyntaxError

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


class TokenKind(Enum):
    """What a token is."""

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
    """Look whether a statement is text that can be sent, planned, and shown in a column's name.

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


def _end_of_comment(sql: str, start: int) -> int:
    """Return where a comment ends that begins before `start`; comments may hold others."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return len(sql)
