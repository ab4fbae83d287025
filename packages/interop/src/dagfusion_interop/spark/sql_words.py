"""Finds the keywords, parentheses and operands of a statement. Pure.

A quoted name, and a part of a qualified name, can be spelled like a keyword.
"""

from collections.abc import Iterator, Sequence

from dagfusion_client.errors import EngineChoiceError
from dagfusion_client.sql_text import SqlToken, TokenKind

NAME = "name"  # in lower case, so that it differs from every keyword
CLAUSES_OF_CALLS = ("FILTER", "OVER")
_DEEPEST = 100  # DataFusion plans at most 50 levels


def keyword(tokens: Sequence[SqlToken], at: int) -> str:
    """Return the token at an index in upper case, if it is a sign, a number, or a word that may be a keyword.

    Args:
        tokens: The statement, without comments.
        at: The index; may be outside of the statement.

    Returns:
        `NAME` for any other token: a quoted name, a part of a qualified name, a string, a parameter. "" outside of the
        statement.
    """
    if not 0 <= at < len(tokens):
        return ""
    token = tokens[at]
    if token.kind is TokenKind.other:
        return token.text.upper()
    is_part = _is_qualifying(tokens, at - 1) or _is_qualifying(tokens, at + 1)
    return NAME if token.kind is not TokenKind.word or is_part else token.text.upper()


def text(tokens: Sequence[SqlToken], at: int) -> str:
    """Return the text of the token at an index, "" outside of the statement."""
    return tokens[at].text if 0 <= at < len(tokens) else ""


def check_nesting(tokens: Sequence[SqlToken]) -> None:
    """Check that a statement is not nested too deep, because the other checks read each level again.

    Raises:
        EngineChoiceError: The statement is nested deeper than DataFusion plans, or a parenthesis or CASE has no end.
    """
    depths = [0, 0]
    for at in range(len(tokens)):
        word = keyword(tokens, at)
        depths[0] += {"(": 1, ")": -1}.get(word, 0)
        depths[1] += {"CASE": 1, "END": -1}.get(word, 0)
        if not all(0 <= depth <= _DEEPEST for depth in depths):
            break
    if any(depths):
        raise EngineChoiceError(
            f"the Spark engine is only sent statements whose parentheses and CASE ... END are closed, and nested at "
            f'most {_DEEPEST} deep: use engine="local"'
        )


def enclosing(tokens: Sequence[SqlToken]) -> list[int]:
    """Return for each token the index of the innermost open parenthesis around it, or -1."""
    found, opened = [], [-1]
    for at in range(len(tokens)):
        if text(tokens, at) == ")" and len(opened) > 1:
            opened.pop()
        found.append(opened[-1])
        if text(tokens, at) == "(":
            opened.append(at)
    return found


def closing(tokens: Sequence[SqlToken], at: int) -> int:
    """Return the index of the parenthesis that closes the one at `at`, or the number of tokens."""
    return next((place for place, depth in _depths(tokens, at) if not depth), len(tokens))


def opening(tokens: Sequence[SqlToken], at: int) -> int:
    """Return the index of the parenthesis that the one at `at` closes, or 0."""
    depth = 0
    for place in range(at, -1, -1):
        depth += {")": 1, "(": -1}.get(text(tokens, place), 0)
        if not depth:
            return place
    return 0


def directly_inside(tokens: Sequence[SqlToken], at: int) -> Iterator[int]:
    """Yield the indexes directly in the parentheses that open at `at`, without those in nested parentheses."""
    for place, depth in _depths(tokens, at):
        if not depth:
            return
        if depth == 1 and place > at:
            yield place


def is_names(tokens: Sequence[SqlToken], at: int) -> bool:
    """Return True if the parentheses that open at `at` contain only names, separated by commas."""
    inside = range(at + 1, closing(tokens, at))
    return len(inside) % 2 == 1 and all(
        text(tokens, place) == "," if number % 2 else tokens[place].name is not None
        for number, place in enumerate(inside)
    )


def column_lists(tokens: Sequence[SqlToken]) -> set[int]:
    """Return the indexes of names before a list of columns: `b` in `(...) AS b (x, y)` and in `WITH b (x, y)`."""
    found = {
        at
        for at in range(1, len(tokens) - 1)
        if tokens[at].name is not None
        and text(tokens, at + 1) == "("
        and keyword(tokens, at - 1) in ("AS", ")")
        and is_names(tokens, at + 1)
    }
    for at in range(len(tokens)):
        if keyword(tokens, at) == "WITH":
            found.update(place for place in expressions(tokens, at) if text(tokens, place + 1) == "(")
    return found


def expressions(tokens: Sequence[SqlToken], at: int) -> Iterator[int]:
    """Yield the indexes of the names of the common table expressions of the WITH at `at`."""
    at += 2 if keyword(tokens, at + 1) == "RECURSIVE" else 1
    while at < len(tokens) and tokens[at].name is not None:
        start = at + 1
        if text(tokens, start) == "(" and is_names(tokens, start):
            start = closing(tokens, start) + 1
        if keyword(tokens, start) != "AS":
            return
        start += {"NOT": 3, "MATERIALIZED": 2}.get(keyword(tokens, start + 1), 1)
        if text(tokens, start) != "(":
            return
        yield at
        at = closing(tokens, start) + 1
        if text(tokens, at) != ",":
            return
        at += 1


def call_of(tokens: Sequence[SqlToken], at: int) -> int:
    """Return the first index of the operand that ends at `at`: a name, a constant, parentheses, a call, or a CASE."""
    if keyword(tokens, at) == "END":
        return _case(tokens, at, -1)
    if tokens[at].kind is TokenKind.text and keyword(tokens, at - 1) in ("DATE", "TIMESTAMP"):
        return at - 1
    while text(tokens, at) == ")":
        at = opening(tokens, at)
        if keyword(tokens, at - 1) not in CLAUSES_OF_CALLS:
            return at - 1 if at and tokens[at - 1].name is not None else at
        at -= 2
    return at


def end_of_operand(tokens: Sequence[SqlToken], at: int) -> int:
    """Return the index after the operand that begins at `at`."""
    while keyword(tokens, at) in ("+", "-"):
        at += 1
    if keyword(tokens, at) == "CASE":
        return _case(tokens, at, 1) + 1
    while _is_qualifying(tokens, at + 1):
        at += 2
    if text(tokens, at) != "(" and text(tokens, at + 1) != "(":
        return at + 1
    at = closing(tokens, at if text(tokens, at) == "(" else at + 1) + 1
    while keyword(tokens, at) in CLAUSES_OF_CALLS and text(tokens, at + 1) == "(":
        at = closing(tokens, at + 1) + 1
    return at


def _case(tokens: Sequence[SqlToken], at: int, step: int) -> int:
    """Return the index of the other end of the CASE ... END at `at`."""
    depth = 0
    while 0 <= at < len(tokens):
        depth += {"CASE": 1, "END": -1}.get(keyword(tokens, at), 0)
        if not depth:
            return at
        at += step
    return max(at, 0)


def _depths(tokens: Sequence[SqlToken], at: int) -> Iterator[tuple[int, int]]:
    depth = 0
    for place in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(text(tokens, place), 0)
        yield place, depth


def _is_qualifying(tokens: Sequence[SqlToken], at: int) -> bool:
    """Return True if the token at `at` is the dot of a qualified name, and not that of a number."""
    if text(tokens, at) != ".":
        return False
    return not (text(tokens, at - 1)[:1].isdecimal() or text(tokens, at + 1)[:1].isdecimal())
