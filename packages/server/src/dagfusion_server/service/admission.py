"""Admission: decides whether a query runs, waits in the queue or is refused, and which one is next. Pure."""

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from dagfusion_client.errors import TooBusyError

_SMOOTHING = 0.1  # weight of the latest query in the average of how long queries take
_LONGEST_RETRY_S = 60.0


@dataclass(eq=False)
class AdmissionPlace:
    """One query's place: in the queue until `start` is called, running from then on."""

    user: str
    start: Callable[[], None]
    is_running: bool = False


class Admission:
    """Lets queries run: so many at once, so many of one user, users in turn, each user's in the order they came.

    Args:
        slots: Queries that run at once.
        user_slots: Queries of one user that run at once.
        queue_length: Queries that wait, in all.
        user_queue_length: Queries of one user that wait.
    """

    def __init__(self, slots: int, user_slots: int, queue_length: int, user_queue_length: int) -> None:
        self._slots, self._user_slots = slots, user_slots
        self._queue_length, self._user_queue_length = queue_length, user_queue_length
        self._waiting: OrderedDict[str, deque[AdmissionPlace]] = (
            OrderedDict()
        )  # the user whose turn is next comes first
        self._running: Counter[str] = Counter()
        self._takes_s = 0.1

    @property
    def waiting(self) -> int:
        """Queries that wait."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def running(self) -> int:
        """Queries that run."""
        return self._running.total()

    def enter(self, user: str, start: Callable[[], None]) -> AdmissionPlace:
        """Queue a query; `start` is called, perhaps at once, when it may run.

        Raises:
            TooBusyError: As many wait as may.
        """
        place = AdmissionPlace(user, start)
        self._waiting.setdefault(user, deque()).append(place)
        self._start_next()
        if not place.is_running:
            self._refuse_the_one_too_many(place)
        return place

    def leave(self, place: AdmissionPlace, took_s: float | None = None) -> None:
        """Release a place, whether the query ran (for how long) or waited."""
        if place.is_running:
            place.is_running = False
            self._running[place.user] -= 1
            if not self._running[place.user]:
                del self._running[place.user]
            if took_s is not None:
                self._takes_s += _SMOOTHING * (took_s - self._takes_s)
        else:
            self._remove(place)
        self._start_next()

    def too_busy(self, limit_s: float) -> TooBusyError:
        """Return the error of a query that was not admitted in this time, in seconds."""
        retry_after_s = self.retry_after_s()
        return TooBusyError(
            f"the service is busy: no worker was free within {limit_s:g} s (DAGFUSION_QUEUE_TIMEOUT_S); try again in "
            f"{retry_after_s:.0f} s",
            retry_after_s,
        )

    def retry_after_s(self) -> float:
        """Estimate, in whole seconds, when those that wait now will have run."""
        return min(_LONGEST_RETRY_S, max(1.0, math.ceil((self.waiting + 1) * self._takes_s / self._slots)))

    def _refuse_the_one_too_many(self, place: AdmissionPlace) -> None:
        own = len(self._waiting[place.user])
        if own > self._user_queue_length:
            text = f"{own - 1} of your queries wait already, which is as many as may (DAGFUSION_USER_QUEUE_LENGTH)"
        elif self.waiting > self._queue_length:
            text = f"{self.waiting - 1} queries wait already, which is as many as may (DAGFUSION_QUEUE_LENGTH)"
        else:
            return
        self._remove(place)
        retry_after_s = self.retry_after_s()
        raise TooBusyError(f"the service is busy: {text}; try again in {retry_after_s:.0f} s", retry_after_s)

    def _remove(self, place: AdmissionPlace) -> None:
        queue = self._waiting.get(place.user)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[place.user]

    def _start_next(self) -> None:
        while self.running < self._slots and (user := self._next_user()) is not None:
            queue = self._waiting[user]
            place = queue.popleft()
            if queue:
                self._waiting.move_to_end(user)
            else:
                del self._waiting[user]
            place.is_running = True
            self._running[user] += 1
            place.start()

    def _next_user(self) -> str | None:
        """Return the user whose turn it is; those with as many running as they may are passed over."""
        return next((user for user in self._waiting if self._running[user] < self._user_slots), None)
