"""What an event log in PostgreSQL shows of its history: events by their ids, and what was purged."""

from collections.abc import Sequence

from dagfusion_query.event_log.event_log_interface import AssetKey, Evidence, Mark, parse_asset_key
from dagfusion_query.event_log.postgres_connection import Transaction

# A purge leaves the ids of the last materializations in `asset_keys`. Few users may read the sequence.
_MARKS = "select id, run_id, (extract(epoch from timestamp) * 1000000)::bigint from event_logs where id = any(%s)"
_HIGHEST_KNOWN = r"""
select greatest(
    (select max(id) from event_logs),
    (select max(substring(last_materialization from '"storage_id": (\d+)\}$')::bigint) from asset_keys),
    (select max(last_value) from pg_sequences
     where sequencename = 'event_logs_id_seq' and schemaname = any(current_schemas(false))),
    0)
"""
_PURGED = """
select asset_key from asset_keys a where last_materialization ~ %s
    and not exists (
        select from event_logs e where e.asset_key = a.asset_key and e.dagster_event_type = 'ASSET_MATERIALIZATION'
    )
order by 1
"""


def read_evidence(run: Transaction, event_ids: Sequence[int]) -> Evidence:
    """Return what the log has under these ids, and the highest id; see `EventLog.evidence`."""
    marks = {event_id: Mark(*mark) for event_id, *mark in run(_MARKS, ([*event_ids],))}
    return Evidence(marks, run(_HIGHEST_KNOWN)[0][0])


def read_purged_assets(run: Transaction, naming: str) -> list[AssetKey]:
    """Return the assets whose materializations are gone; see `EventLog.purged_assets`.

    Args:
        run: Runs statements.
        naming: Finds an event that names a file; see `EventReader.naming`.
    """
    return [parse_asset_key(key) for (key,) in run(_PURGED, (naming,))]
