r"""LIKE patterns of metadata: `%` is any text, `_` any character, `\` takes a wildcard's meaning away. Pure."""

import re
from collections.abc import Callable

from dagfusion_query.errors import BadRequestError

_LONGEST = 1024
_PART = re.compile(r"\\?.", re.DOTALL)


def like(pattern: str) -> Callable[[str], bool]:
    r"""Return what tells whether a whole text fits a pattern, in time of both their lengths multiplied at most.

    Raises:
        BadRequestError: The pattern is longer than any name.

    >>> [text for text in ("orders", "raw_orders", "raworders") if like(r"%\_ord%")(text)]
    ['raw_orders']
    """
    if len(pattern) > _LONGEST:
        raise BadRequestError(f"a pattern must have at most {_LONGEST} characters, got {len(pattern)}")
    parts = [part if part in ("%", "_") else part[-1:] + "\\" for part in _PART.findall(pattern)]
    return lambda text: _fits(parts, text)


def _fits(parts: list[str], text: str) -> bool:
    """Match greedily: only the last `%` passed ever has to take one more character."""
    part = at = 0
    last, resume = -1, 0
    while at < len(text):
        if part < len(parts) and parts[part] == "%":
            last, resume = part, at
            part += 1
        elif part < len(parts) and (parts[part] == "_" or (parts[part][0] == text[at] and len(parts[part]) > 1)):
            part, at = part + 1, at + 1
        elif last >= 0:
            resume += 1
            part, at = last + 1, resume
        else:
            return False
    return all(rest == "%" for rest in parts[part:])
