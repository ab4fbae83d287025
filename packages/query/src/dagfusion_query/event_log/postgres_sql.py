"""The SQL of an event log in PostgreSQL, and what the log shows of its history: its events by id, and purged ones."""

from collections.abc import Sequence

from dagfusion_query.event_log.event_log_interface import AssetKey, Evidence, Mark, parse_asset_key
from dagfusion_query.event_log.event_log_sql import consolidations, observations_since
from dagfusion_query.event_log.postgres_connection import Transaction
from dagfusion_query.event_log.stored_event import ENTRY_END, ENTRY_START

_SNAPSHOT = "pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint"
_IS_MATERIALIZATION = "dagster_event_type = 'ASSET_MATERIALIZATION'"
MICROSECONDS = "(extract(epoch from {}) * 1000000)::bigint"

IDENTITY = """
select (select system_identifier from pg_control_system()),
       (select oid from pg_database where datname = current_database()),
       'event_logs'::regclass::oid::bigint
"""
ASSETS = f"select asset_key, {MICROSECONDS.format('wipe_timestamp')}, id from asset_keys"
VISIBLE = f"""
select {_SNAPSHOT}, array(select id from event_logs where id > %s and {_IS_MATERIALIZATION})
from pg_current_snapshot() s
"""
HIGHEST = f"select coalesce(max(id), 0) from event_logs where {_IS_MATERIALIZATION}"
FINGERPRINT = f"select count(*), coalesce(sum(id), 0)::bigint from event_logs where id <= %s and {_IS_MATERIALIZATION}"
EVIDENCE = f"""
select count(*), coalesce(sum(id), 0)::bigint, (select run_id || ' ' || timestamp from event_logs where id = %(up_to)s)
from event_logs where id <= %(up_to)s and {_IS_MATERIALIZATION}
"""
_COLUMNS = f"e.id, e.asset_key, e.partition, {MICROSECONDS.format('e.timestamp')}, e.run_id"
# The record is a fifth of its event: the server cuts it out, as `record` does, where the end is there once. `offset 0`
# keeps each step from being computed, and the event from being decompressed, as often as it is mentioned.
_EVENT = f"{_COLUMNS}, cut.record, case when cut.record is null then e.event end"
_CUT = f"""
cross join lateral (
    select case when cardinality(starts) > 1 and cardinality(ends) = 2 then starts[cardinality(starts)] end as record
    from (
        select ends, string_to_array(ends[1], '{ENTRY_START}') as starts
        from (select string_to_array(e.event, '{ENTRY_END}') as ends offset 0) as at_ends offset 0
    ) as at_starts
) as cut
"""
_IN = "e.id = any(%s) and e.asset_key is not null"
BY_ID = f"select {_EVENT} from event_logs e {_CUT} where {_IN}"
BETWEEN = f"""
select {_EVENT} from event_logs e {_CUT}
where e.asset_key = %(key)s and e.{_IS_MATERIALIZATION} and e.id between %(first)s and %(last)s
"""
WHOLE_BY_ID = f"select {_COLUMNS}, null, e.event from event_logs e where {_IN}"
# Wipes are filtered outside the aggregate: inside it, the index alone no longer answers it.
_LATEST = f"""
with latest as (
    select max(id) id from event_logs
    where asset_key = %(key)s and {_IS_MATERIALIZATION} and id <= %(up_to)s and {{partition}}
)
select {_EVENT} from latest join event_logs e using (id) {_CUT}
where {MICROSECONDS.format("e.timestamp")} > %(wiped)s
"""
LATEST_PARTITIONED = _LATEST.replace("{partition}", "partition is not null group by partition")
LATEST_UNPARTITIONED = _LATEST.replace("{partition}", "partition is null")
# Of each partition whose latest event names no file, the next `window` events before it: the latest that may name one
# (see `EventReader.naming`), and the earliest. Their ids come from the index, and only their texts are looked at.
EARLIER = f"""
with bare as (select * from unnest(%(partitions)s::text[], %(ids)s::bigint[]) as bare(partition, before)),
earlier as (
    select e.id, e.partition, row_number() over (partition by e.partition order by e.id desc) as number
    from bare join event_logs e on {{same}} and e.id < bare.before and e.id > %(above)s
    where e.asset_key = %(key)s and e.{_IS_MATERIALIZATION}
)
select earlier.partition, max(id) filter (where e.event ~ %(naming)s), min(id), count(*)
from earlier join event_logs e using (id) where number <= %(window)s group by earlier.partition
"""
EARLIER_PARTITIONED = EARLIER.replace("{same}", "e.partition = bare.partition")
EARLIER_UNPARTITIONED = EARLIER.replace("{same}", "e.partition is null")
CONSOLIDATIONS = consolidations(MICROSECONDS, "strpos", "id > 0")
OBSERVED = observations_since("%s")
CONSOLIDATIONS_BY_ID = consolidations(MICROSECONDS, "strpos", "id = any(%s)")
# Both counts come from an index; looking for a partition that is null does not.
HAS_UNPARTITIONED = f"""
select (select count(*) from event_logs where asset_key = %(key)s and {_IS_MATERIALIZATION})
     > (select count(*) from event_logs where asset_key = %(key)s and {_IS_MATERIALIZATION} and partition is not null)
"""
# A hash join would hash the events' text, and write it to disk; a merge or nested loop streams from the first row.
NO_SPILL = "set local enable_hashjoin = off"

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
    """Return what the event log has under these ids, and the highest id; see `EventLog.evidence`."""
    marks = {event_id: Mark(*mark) for event_id, *mark in run(_MARKS, ([*event_ids],))}
    return Evidence(marks, run(_HIGHEST_KNOWN)[0][0])


def read_purged_assets(run: Transaction, naming: str) -> list[AssetKey]:
    """Return the assets whose materializations are gone; see `EventLog.purged_assets`.

    Args:
        run: Runs statements.
        naming: Finds an event that names a file; see `EventReader.naming`.
    """
    return [parse_asset_key(key) for (key,) in run(_PURGED, (naming,))]
