"""Faults of an environment, and what could not be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

_NAMED = 3


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Its kind, such as `bucket_public`.
        where: The database, bucket, table or setting.
        what: What is wrong.
        next_step: What to do.
    """

    name: str
    where: str
    what: str
    next_step: str


@dataclass(frozen=True)
class Unknown:
    """Something that could not be looked at, and why."""

    check: str
    where: str
    why: str


def named(items: Sequence[str]) -> str:
    """Return the first of some names, and the number of the others."""
    more = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
