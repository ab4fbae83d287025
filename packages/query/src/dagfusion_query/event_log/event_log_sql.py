"""The SQL that both readers run, in the dialect of each database: consolidations, and the history of a table."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, CONSOLIDATIONS
from dagfusion_query.event_log.protocol import History, PlannedRun

Run = Callable[[str, Mapping[str, Any]], Sequence[tuple[Any, ...]]]

_OBSERVATION = "ASSET_OBSERVATION"
MOST_RUNS = 5
_LATEST_EVENTS = 1000  # in which the latest runs of a table are looked for: a run may have one for each partition
_MOST_RANGES = 100  # of the latest runs over many partitions, so that a long history takes no longer


class Dialect(NamedTuple):
    """The expressions that are spelled differently in each database.

    Attributes:
        microseconds: Of a timestamp, for `format`.
        position: The function that finds a text in another.
        parameter: A named parameter, for `format`.
        bytewise: Compares texts by their bytes.
        runs: Before the names of the runs' tables.
    """

    microseconds: str
    position: str
    parameter: str
    bytewise: str
    runs: str


def consolidations(microseconds: str, find: str, condition: str) -> str:
    """Return the query of each asset's latest consolidations: id, asset key, time, run id and text of each.

    Args:
        microseconds: The time, as `Dialect.microseconds` has it.
        find: The function that finds a text in another.
        condition: On the events that are looked at.
    """
    return f"""
    with found as (
        select id, row_number() over (partition by asset_key order by id desc) as number from event_logs
        where {condition} and dagster_event_type = '{_OBSERVATION}' and asset_key is not null and partition is null
            and {find}(event, '"{CONSOLIDATED_ENTRY}"') > 0
    )
    select e.id, e.asset_key, {microseconds.format("e.timestamp")}, e.run_id, e.event
    from found join event_logs e using (id) where number <= {CONSOLIDATIONS}
    """


def observations_since(parameter: str) -> str:
    """Return the query of the ids of observations that may be consolidations, above the id that is its parameter."""
    return (
        f"select id from event_logs where dagster_event_type = '{_OBSERVATION}' and id > {parameter} "
        "and asset_key is not null and partition is null"
    )


def read_history(run: Run, dialect: Dialect, asset_key: Sequence[str], partition_key: str | None) -> History:
    """Read the history of a partition, or of a whole table.

    Args:
        run: Runs a statement with named parameters, all in one transaction.
        dialect: Of the database.
        asset_key: The asset's.
        partition_key: Dagster's, dimensions in the order of their names; None for the table.
    """
    params = {
        "asset": json.dumps(asset_key),
        "partition": partition_key or "",
        "quoted": json.dumps(partition_key),
    }
    texts = {name: dialect.parameter.format(name) for name in params}
    at = dialect.microseconds.format("timestamp")
    statement, only = (_LATEST, "") if partition_key is None else (_PLANNED, f"and partition = {texts['partition']}")
    planned = statement.format(at=at, position=dialect.position, bytewise=dialect.bytewise, runs=dialect.runs, **texts)
    materialized = run(_MATERIALIZED.format(at=at, only=only, **texts), params)
    wiped = run(_WIPED.format(at=dialect.microseconds.format("wipe_timestamp"), **texts), params)
    return History(
        [PlannedRun(*row) for row in run(planned, params)],
        materialized[0][0] if materialized else None,
        wiped[0][0] if wiped else None,
    )


_OF_ASSET = "from event_logs where asset_key = {asset} and dagster_event_type ="
_MATERIALIZED = f"select {{at}} {_OF_ASSET} 'ASSET_MATERIALIZATION' {{only}} order by id desc limit 1"
_WIPED = "select {at} from asset_keys where asset_key = {asset}"
_LATEST = f"""
with planned as (
    select id, run_id, timestamp {_OF_ASSET} 'ASSET_MATERIALIZATION_PLANNED' order by id desc limit {_LATEST_EVENTS}
), by_run as (select run_id, min(timestamp) as timestamp, max(id) as id from planned group by run_id)
select p.run_id, {{at}}, r.status from by_run p left join {{runs}}runs r on r.run_id = p.run_id
order by p.id desc limit {MOST_RUNS}
"""
# A run over many partitions plans them one by one, or in one event: as a set of keys, or as windows of time, which its
# tags say in keys. Keys of more than one dimension are always a set.
_PLANNED = f"""
with one as (
    select id, run_id, timestamp {_OF_ASSET} 'ASSET_MATERIALIZATION_PLANNED' and partition = {{partition}}
    order by id desc limit {MOST_RUNS}
), ranges as (
    select id, run_id, timestamp, event {_OF_ASSET} 'ASSET_MATERIALIZATION_PLANNED' and partition is null
    order by id desc limit {_MOST_RANGES}
), planned as (
    select id, run_id, timestamp from one
    union all
    select id, run_id, timestamp from ranges
    where {{position}}(event, {{quoted}}) > 0
    or exists (
        select 1 from {{runs}}run_tags t
        where t.run_id = ranges.run_id and t.key = 'dagster/partition' and t.value = {{partition}}
    )
    or {{position}}({{partition}}, '|') = 0 and exists (
        select 1 from {{runs}}run_tags f join {{runs}}run_tags l on l.run_id = f.run_id
        where f.run_id = ranges.run_id
        and f.key = 'dagster/asset_partition_range_start' and f.value {{bytewise}} <= {{partition}}
        and l.key = 'dagster/asset_partition_range_end' and l.value {{bytewise}} >= {{partition}}
    )
)
select p.run_id, {{at}}, r.status from planned p left join {{runs}}runs r on r.run_id = p.run_id
order by p.id desc limit {MOST_RUNS}
"""
