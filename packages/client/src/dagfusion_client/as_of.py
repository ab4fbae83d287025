"""`as_of`: the past event or moment that a statement reads, as callers write it. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from dagfusion_client.errors import AsOfError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GREATEST_ID = (1 << 63) - 1
_SHOWN = 100
Given = int | str | date


@dataclass(frozen=True)
class AsOf:
    """A past state of the catalog: that after an event, or that at a moment. One of the two is set.

    Attributes:
        event_id: The id of an event in Dagster's event log.
        at_us: Microseconds since 1970 in UTC.
    """

    event_id: int | None = None
    at_us: int | None = None

    def __str__(self) -> str:
        """Return it as `read_as_of` reads it."""
        return str(self.event_id) if self.at_us is None else moment_text(self.at_us)


def moment_text(at_us: int) -> str:
    """Return a moment in ISO 8601.

    >>> moment_text(1705320000000000)
    '2024-01-15T12:00:00+00:00'
    """
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat()


def read_as_of(value: Given) -> AsOf:
    """Read an event id, or a time.

    Args:
        value: An id (a number, or a text of digits), or a time: ISO 8601 or a datetime. A time without a zone is UTC,
            and a date is its first moment.

    Raises:
        AsOfError: The value is neither.

    >>> read_as_of("2024-01-15T13:00:00+01:00") == read_as_of("2024-01-15 12:00")
    True
    >>> read_as_of("4711").event_id
    4711
    """
    if isinstance(value, datetime):
        return _moment(value, value)
    if isinstance(value, date):
        return _moment(datetime(value.year, value.month, value.day), value)  # noqa: DTZ001  # `_moment` sets UTC
    text = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _neither(value)
    if text.isascii() and text.isdecimal():
        number = int(text) if len(text) < _SHOWN else 0
        if not 0 < number <= _GREATEST_ID:
            raise _neither(value)
        return AsOf(event_id=number)
    try:
        return _moment(datetime.fromisoformat(text), value)
    except ValueError:
        raise _neither(value) from None


def _moment(at: datetime, value: object) -> AsOf:
    if at != at:  # noqa: PLR0124  # NaT of pandas
        raise _neither(value)
    aware = at if at.utcoffset() is not None else at.replace(tzinfo=UTC)
    try:
        return AsOf(at_us=(aware.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1))
    except OverflowError:  # in UTC it is before the year 1, or after 9999
        raise _neither(value) from None


def _neither(value: object) -> AsOfError:
    return AsOfError(
        "as_of must be the id of an event, such as 4711, or a time in ISO 8601, such as 2024-01-15T12:00:00Z; "
        f"got {str(value)[:_SHOWN]!r}"
    )
