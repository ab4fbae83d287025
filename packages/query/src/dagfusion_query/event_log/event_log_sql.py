"""The SQL that both readers run, in the dialect of each database: consolidations, the history of a table, and its past.

The past is the event that a time stands for, and the wipes of an asset.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dagfusion_client.as_of import AsOf, moment_text
from dagfusion_client.errors import AsOfError, UnknownPastError
from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, CONSOLIDATIONS
from dagfusion_contract.tombstone import TOMBSTONE_ENTRY
from dagfusion_query.event_log.event_log_interface import AssetKey, History, Moment, PlannedRun

Run = Callable[[str, Mapping[str, Any]], Sequence[tuple[Any, ...]]]

_OBSERVATION = "ASSET_OBSERVATION"
MOST_RUNS = 5
_LATEST_EVENTS = 1000  # in which the latest runs of a table are looked for: a run may have one for each partition
_MOST_RANGES = 100  # of the latest runs over many partitions, so that a long history takes no longer
LAST_EVENT = (1 << 63) - 1
_CLOCK_TOLERANCE_US = 5_000_000  # by which a caller's clock may be ahead of this one
MATERIALIZATION, _WIPED = "ASSET_MATERIALIZATION", "ASSET_WIPED"


class Dialect(NamedTuple):
    """The expressions that are spelled differently in each database.

    Attributes:
        microseconds: The expression for the microseconds of a timestamp, for `format`.
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
        dialect: The dialect of the database.
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
    found = run(_MATERIALIZED.format(at=at, only=only, position=dialect.position, **texts), params)
    materialized_at_us, is_tombstone = found[0] if found else (None, False)
    wiped = run(_WIPED_AT.format(at=dialect.microseconds.format("wipe_timestamp"), **texts), params)
    wiped_at_us = wiped[0][0] if wiped else None
    runs = [PlannedRun(*row) for row in run(planned, params)]
    if is_tombstone and partition_key is not None:
        return History(runs, None, max(materialized_at_us, wiped_at_us or 0))
    return History(runs, materialized_at_us, wiped_at_us)


_OF_ASSET = "from event_logs where asset_key = {asset} and dagster_event_type ="
_MATERIALIZED = f"""
select {{at}}, {{position}}(event, '"{TOMBSTONE_ENTRY}"') > 0
{_OF_ASSET} 'ASSET_MATERIALIZATION' {{only}} order by id desc limit 1
"""
_WIPED_AT = "select {at} from asset_keys where asset_key = {asset}"
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


def find_moment(run: Run, dialect: Dialect, as_of: AsOf) -> Moment:
    """Return the state that an event id or a time stands for.

    Raises:
        AsOfError: The event or time is in the future.
    """
    if as_of.at_us is not None:
        _check_time(as_of.at_us)
        return Moment(_last(run, dialect, f"{dialect.microseconds.format('timestamp')} <=", as_of.at_us), as_of.at_us)
    wanted = as_of.event_id or 0
    highest = run("select coalesce(max(id), 0) from event_logs", {})[0][0]
    if wanted > highest:
        raise AsOfError(f"event {wanted} is in the future: the latest event of the event log is {highest}")
    event_id = _last(run, dialect, "id <=", wanted)
    parameter = dialect.parameter.format("up_to")
    at = dialect.microseconds.format("timestamp")
    found = run(f"select {at} from event_logs where id <= {parameter} order by id desc limit 1", {"up_to": wanted})
    return Moment(event_id, found[0][0] if found else 0)


def find_wipe(run: Run, dialect: Dialect, asset_key: AssetKey, moment: Moment, *, keeps_wiped: bool) -> int | None:
    """Return when an asset was last wiped, as of a moment: microseconds since 1970; None if it was not.

    Args:
        run: Runs a statement with named parameters, all in one transaction.
        dialect: The dialect of the database.
        asset_key: The asset's.
        moment: The past state.
        keeps_wiped: True if a wipe leaves the events in the event log.

    Raises:
        UnknownPastError: The events from before a later wipe are gone.
    """
    asset, params = dialect.parameter.format("asset"), {"asset": json.dumps(asset_key)}
    at = dialect.microseconds
    [(wiped_at_us,)] = run(
        f"select {at.format('wipe_timestamp')} from asset_keys where asset_key = {asset}", params
    ) or [(None,)]
    if wiped_at_us is None:
        return None
    if not keeps_wiped:
        if wiped_at_us > moment.at_us:
            raise UnknownPastError(
                f"asset {'/'.join(asset_key)} was wiped at {moment_text(wiped_at_us)}, and an event log in SQLite "
                "keeps nothing from before a wipe: ask for a later time, or keep Dagster's event log in PostgreSQL"
            )
        return int(wiped_at_us)
    wipes = read_wipes(run, dialect, asset_key, LAST_EVENT)
    if not wipes:  # by a Dagster that does not log them
        return int(wiped_at_us) if wiped_at_us <= moment.at_us else None
    is_logged = wiped_at_us <= wipes[0][1]  # the event of a wipe comes a little later, or never
    if not is_logged and wiped_at_us <= moment.at_us:
        return int(wiped_at_us)
    if is_logged and wipes[0][0] <= moment.event_id:
        return int(wiped_at_us)
    return next((wipe_us for event_id, wipe_us in wipes if event_id <= moment.event_id), None)


def _check_time(at_us: int) -> None:
    now_us = time.time_ns() // 1000
    if at_us > now_us + _CLOCK_TOLERANCE_US:
        raise AsOfError(f"{moment_text(at_us)} is in the future: it is {moment_text(now_us)} here")


def _last(run: Run, dialect: Dialect, condition: str, value: int) -> int:
    """Return the id of the last materialization or wipe that fulfils a condition; 0 if there is none."""
    parameter = dialect.parameter.format("value")
    found = (
        run(
            f"select id from event_logs where dagster_event_type = '{kind}' and {condition} {parameter} "
            "order by id desc limit 1",
            {"value": value},
        )
        for kind in (MATERIALIZATION, _WIPED)
    )
    return max((rows[0][0] for rows in found if rows), default=0)


def read_wipes(run: Run, dialect: Dialect, asset_key: AssetKey, up_to: int = LAST_EVENT) -> list[tuple[int, int]]:
    """Return id and moment of the wipes of a whole asset, newest first."""
    asset, last = dialect.parameter.format("asset"), dialect.parameter.format("last")
    at = dialect.microseconds.format("timestamp")
    rows = run(
        f"select id, {at}, event from event_logs where asset_key = {asset} and dagster_event_type = '{_WIPED}' "
        f"and id <= {last} order by id desc",
        {"asset": json.dumps(asset_key), "last": up_to},
    )
    return [(event_id, at_us) for event_id, at_us, event in rows if _is_whole(event)]


def _is_whole(event: str) -> bool:
    """Return True if the event is the wipe of a whole asset, not of some partitions."""
    wiped = json.loads(event)["dagster_event"]["event_specific_data"] or {}
    return wiped.get("partition_keys") is None
