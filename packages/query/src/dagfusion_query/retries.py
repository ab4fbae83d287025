"""When a query starts over because an object was replaced while it was read."""

import time

# Until the run that writes the object has logged its event, every try finds it replaced.
_PAUSES_S = (0.0, 0.1, 0.2, 0.4, 0.6)
_LIMIT_S = 2.0


class StaleRetries:
    """The retries of one query: the first at once, then some within about two seconds; a long query has one."""

    def __init__(self) -> None:
        self._pauses = iter(_PAUSES_S)
        self._first_at: float | None = None

    def pause_s(self) -> float | None:
        """Return how long to wait before the catalog is refreshed and the query tried again; None to give up."""
        pause_s = next(self._pauses, None)
        if self._first_at is None:
            self._first_at = time.monotonic()
        elif pause_s is not None and time.monotonic() + pause_s - self._first_at > _LIMIT_S:
            return None
        return pause_s
