"""Events that are logged once through Dagster, and then copied in PostgreSQL as often as a test wants."""

from typing import Any

import psycopg

from dagfusion_query.event_log.event_log_interface import Event, Materialization

COPY_EVENT = """
insert into event_logs (run_id, event, dagster_event_type, timestamp, asset_key, partition)
select run_id, event, dagster_event_type, timestamp, asset_key, %s from event_logs where id = %s returning id
"""


def pattern_event(on_postgres: Any, record: dict[str, Any]) -> int:
    """Log one event through Dagster, and return its id, to be copied."""
    on_postgres.report(record)
    with psycopg.connect(on_postgres.url) as connection:
        row = connection.execute("select max(id) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'")
        (event_id,) = row.fetchone() or (0,)
    return int(event_id)


def materializations(events: list[Event]) -> list[Materialization]:
    return [event for event in events if isinstance(event, Materialization)]
