"""Dagster's event log, read as a stream of materializations and wipes."""

from dagfusion_query.event_log.location import open_event_log

__all__ = ["open_event_log"]
