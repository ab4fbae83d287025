"""Decides whether a server that ended by itself is started again. Pure."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass
class Restarts:
    """The restarts of one server.

    Attributes:
        count: All of them.
        last_end: How the server ended the last time.
        due: When it is started again (`time.monotonic`); None while it runs.
        LIMIT: Restarts within `WINDOW_S` seconds; the end after that is the last.
        FIRST_DELAY_S: Until the first of them; doubles with each.
    """

    LIMIT: ClassVar[int] = 5
    WINDOW_S: ClassVar[float] = 600.0
    FIRST_DELAY_S: ClassVar[float] = 0.5

    count: int = 0
    last_end: str | None = None
    due: float | None = None
    _ends: list[float] = field(default_factory=list)

    def ended(self, now: float, how: str) -> bool:
        """Record that the server ended; return False if it has used up its restarts."""
        self._ends = [*(end for end in self._ends if now - end < self.WINDOW_S), now]
        self.last_end = how
        self.due = now + self.FIRST_DELAY_S * 2 ** (len(self._ends) - 1)
        return len(self._ends) <= self.LIMIT

    def started(self) -> None:
        """Record that it runs again."""
        self.count, self.due = self.count + 1, None
