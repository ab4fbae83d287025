"""Dagster's event log, read as a stream of materializations and wipes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagfusion_query.event_log.location import open_event_log

__all__ = ["open_event_log"]


def __getattr__(name: str) -> Any:
    """Import the drivers of databases when a log is opened: a worker, which only knows events, needs none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dagfusion_query.event_log import location  # noqa: PLC0415

    return getattr(location, name)
