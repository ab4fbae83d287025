"""A catalog of a million partitions: an event log of that size, and what a process needs to follow it."""

import json
import sys
import time
from pathlib import Path
from typing import TypedDict

import psycopg
from psycopg import sql

from benchmarks import synthetic
from benchmarks.memory import peak_rss_mb
from benchmarks.planning import Planner, best_s
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.event_log import open_event_log

_COLUMNS = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
_AT = "2026-01-01 00:00:00"
_DAY, _STATE = "1111-11-11", "@@"  # stand in a template for a partition's values


class Probed(TypedDict):
    """What one process needed: seconds and peak memory until its catalog was there, and then to plan a point query."""

    partitions: int
    ready_s: float
    ready_peak_rss_mb: float
    point_plan_ms: float
    planned_peak_rss_mb: float


def fill(event_log: str, count: int, event: str) -> None:
    """COPY `count` materializations into a Dagster database that has none of the synthetic asset.

    Args:
        event_log: The database's URL.
        count: How many partitions.
        event: What `template` made.
    """
    key = json.dumps(synthetic.ASSET_KEY)
    with psycopg.connect(event_log) as connection, connection.cursor() as cursor:
        cursor.execute("insert into asset_keys (asset_key) values (%s)", (key,))
        with cursor.copy(sql.SQL("copy event_logs ({}) from stdin").format(sql.SQL(_COLUMNS))) as copy:
            for day, state in synthetic.partitions(count):
                row = ("run", fill_in(event, day, state), "ASSET_MATERIALIZATION", _AT, "step", key, f"{day}|{state}")
                copy.write_row(row)
    with psycopg.connect(event_log, autocommit=True) as connection:
        connection.execute("vacuum analyze event_logs")


def fill_in(event: str, day: str, state: str) -> str:
    """Make a partition's event of a template."""
    return event.replace(_DAY, day).replace(_STATE, state)


def count(event_log: str) -> int:
    """Count the synthetic materializations that a database has."""
    with psycopg.connect(event_log) as connection:
        row = connection.execute(
            "select count(*) from event_logs where asset_key = %s", (json.dumps(synthetic.ASSET_KEY),)
        ).fetchone()
    assert row is not None
    return int(row[0])


def any_event(event_log: str) -> str:
    """Return a stored materialization of a partition."""
    with psycopg.connect(event_log) as connection:
        row = connection.execute(
            "select event from event_logs"
            " where dagster_event_type = 'ASSET_MATERIALIZATION' and partition is not null limit 1"
        ).fetchone()
    assert row is not None
    return str(row[0])


def template(event: str) -> str:
    """Make a template of a stored materialization of `partitioned_organizations`, as large as the real one."""
    document = json.loads(event)
    materialization = document["dagster_event"]["event_specific_data"]["materialization"]
    materialization["asset_key"]["path"] = list(synthetic.ASSET_KEY)
    materialization["partition"] = f"{_DAY}|{_STATE}"
    for entry in materialization["metadata_entries"]:
        if entry["label"] == "dagfusion/file":
            entry["entry_data"]["data"] = synthetic.record(_DAY, _STATE)
    return json.dumps(document)


def probe(event_log: str, state_dir: Path) -> Probed:
    """Open a catalog and plan over it, in this process."""
    started = time.perf_counter()
    catalog = LiveCatalog(open_event_log(event_log), "local", state_dir, poll_interval_s=0.25)
    ready_s, ready_peak = time.perf_counter() - started, peak_rss_mb()
    planner = Planner(catalog.current())
    [scan] = planner.plan("point").scans
    assert scan.count == 1
    plan_s = best_s(lambda: planner.plan("point"), 2)
    planner.close()
    catalog.close()
    return Probed(
        partitions=len(scan.table.files),
        ready_s=ready_s,
        ready_peak_rss_mb=ready_peak,
        point_plan_ms=plan_s * 1000,
        planned_peak_rss_mb=peak_rss_mb(),
    )


if __name__ == "__main__":
    url, folder = sys.argv[1:]
    print(json.dumps(probe(url, Path(folder))))
