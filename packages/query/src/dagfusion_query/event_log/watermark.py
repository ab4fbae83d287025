"""The gap-safe watermark: follow ids that become visible out of order, and miss none. Pure.

An id is assigned when a row is inserted, and becomes visible when its transaction commits. So a reader that keeps the
highest id only would skip the rows of transactions that were open at that time. Here the watermark moves to a poll's
highest id only once every transaction that was open at that poll has ended (its `xmax` is not above a later poll's
`xmin`); until then ids above it are read again and told apart by `seen`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

SLACK_S = 1.0  # between an id being handed out and its transaction getting a number of its own


class Horizon(NamedTuple):
    """What one poll saw: `highest` is the highest id, `xmax` the first transaction number not yet given out."""

    at_s: float
    xmax: int
    highest: int


@dataclass(frozen=True)
class Watermark:
    """The ids that have been delivered.

    Attributes:
        settled: Ids up to this one have been delivered, or will never become visible.
        count: How many there are up to `settled`.
        total: Their sum; with `count` it tells whether rows went away or came late.
        seen: The delivered ids above `settled`.
        pending: Earlier polls whose transactions may still be open, oldest first.
    """

    settled: int = 0
    count: int = 0
    total: int = 0
    seen: frozenset[int] = field(default=frozenset(), repr=False)
    pending: tuple[Horizon, ...] = field(default=(), repr=False, compare=False)

    def advance(self, visible: Collection[int], xmin: int, xmax: int, now_s: float) -> "Advance":
        """Take in one poll.

        Args:
            visible: Every visible id above `settled`.
            xmin: The lowest transaction number still open in the poll's snapshot.
            xmax: The first number not given out yet in that snapshot.
            now_s: A monotonic clock, seconds.

        Returns:
            What to deliver, and the watermark to poll with next.
        """
        now_visible = frozenset(visible)
        highest = max(visible, default=self.settled)
        pending = [*self.pending]
        if highest > (pending[-1].highest if pending else self.settled):
            pending.append(Horizon(now_s, xmax, highest))
        settled = self.settled
        while pending and pending[0].xmax <= xmin and now_s - pending[0].at_s >= SLACK_S:
            settled = max(settled, pending.pop(0).highest)
        passed = [event_id for event_id in now_visible if event_id <= settled]
        moved = Watermark(
            settled,
            self.count + len(passed),
            self.total + sum(passed),
            now_visible.difference(passed),
            tuple(pending),
        )
        return Advance(sorted(now_visible - self.seen), sorted(self.seen - now_visible), moved)


@dataclass(frozen=True)
class Advance:
    """The outcome of one poll.

    Attributes:
        fresh: Ids that were not delivered before, ascending.
        gone: Delivered ids whose rows were deleted since, ascending.
        watermark: To poll with next.
    """

    fresh: Sequence[int]
    gone: Sequence[int]
    watermark: Watermark
