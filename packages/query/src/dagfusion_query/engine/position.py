"""Where a statement names what an error is about: DataFusion says so of syntax errors only. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dagfusion_query.sql_text import tokens

_NAMED = re.compile(
    r"""^(?:No\ field\ named\ |Invalid\ function\ '|Ambiguous\ reference\ to\ unqualified\ field\ )
    (?P<name>(?:"(?:[^"]|"")*"|[^\s."']+)(?:\.(?:"(?:[^"]|"")*"|[^\s."']+))*)""",
    re.VERBOSE,
)
_PART = re.compile(r'"((?:[^"]|"")*)"|([^."]+)')


class Position(NamedTuple):
    """A place in a statement, both 1-based."""

    line: int
    column: int


class _Name(NamedTuple):
    """A name of one or more parts, as the engine reads it, and where it begins."""

    parts: Sequence[str]
    start: int


def named_in(text: str) -> str | None:
    """Return the column or function that an error of DataFusion's is about."""
    found = _NAMED.search(text)
    return found["name"] if found else None


def parts_of(name: str) -> list[str]:
    """Return the parts of a name that may be qualified and quoted."""
    return [(quoted or plain).replace('""', '"') for quoted, plain in _PART.findall(name)]


def position_of(sql: str, name: str) -> Position | None:
    """Return where a statement mentions a name first, an alias after AS aside.

    Args:
        sql: The statement.
        name: Parts with dots between, quoted where they have to be.
    """
    wanted = parts_of(name)
    found = next((mention for mention in _names(sql) if list(mention.parts) == wanted), None)
    if found is None:
        return None
    line_start = sql.rfind("\n", 0, found.start) + 1
    return Position(sql.count("\n", 0, found.start) + 1, found.start - line_start + 1)


def _names(sql: str) -> Iterator[_Name]:
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
