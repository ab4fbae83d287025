"""`dagfusion seed`: what is missing is materialized, what is there stays, and the seed decides the data."""

import contextlib
import hashlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import dagster as dg
import psycopg
import pytest

from dagfusion_query.connection import connect_embedded
from dagfusion_stack import materialize
from dagfusion_stack.settings import Settings
from dagfusion_stack.stores import running_stores
from tests.stack.conftest import Command

ORGANIZATIONS = "local_silver_tax_id.partitioned_organizations"
ORDERS = "local_silver_commerce.partitioned_orders"

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("long")
def test_only_what_is_missing_is_written(module_command: Command) -> None:
    first = _seed(module_command, "--days", "2", "--states", "3")
    assert {table: (one["partitions"], one["written"]) for table, one in first.items()} == {
        "local_silver_tax_id.raw_organizations": (1, 1),
        ORGANIZATIONS: (6, 6),
        "local_bronze_commerce.raw_orders": (1, 1),
        ORDERS: (6, 6),
    }

    more = _seed(module_command, "--days", "2", "--scale", "1.5", "--states", "3")
    assert {table: (one["partitions"], one["written"]) for table, one in more.items()} == {
        "local_silver_tax_id.raw_organizations": (1, 0),
        ORGANIZATIONS: (9, 3),
        "local_bronze_commerce.raw_orders": (1, 0),
        ORDERS: (9, 3),
    }


def test_the_links_on_events_open_the_console_and_the_object(module_command: Command) -> None:
    _seed(module_command, "--days", "2", "--states", "3")
    settings = Settings(module_command.home.path, http_port=module_command.http_port)
    asked = dg.AssetRecordsFilter(dg.AssetKey(["Silver", "TaxID", "partitioned_organizations"]), ["2024-01-02|AK"])
    with running_stores(settings, "test", print), materialize.instance(settings.home / "dagster") as instance:
        [record] = instance.fetch_materializations(asked, limit=1).records
        assert record.asset_materialization is not None
        metadata = record.asset_materialization.metadata
        with urllib.request.urlopen(str(metadata["s3_path"].value), timeout=30) as response:  # noqa: S310
            content = response.read()

    console = f"http://localhost:{module_command.http_port}/#table={ORGANIZATIONS}&partition=2024-01-02%7CAK"
    assert metadata["console"].value == console
    file: Any = metadata["dagfusion/file"].value
    assert file["checksum"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.usefixtures("long")
def test_the_seed_decides_the_data(command: Command, module_command: Command) -> None:
    own = _seed(module_command, "--days", "3", "--states", "3")
    other = _seed(command, "--days", "3", "--states", "3", "--seed", "7")

    assert {table: one["partitions"] for table, one in own.items()} == {
        t: one["partitions"] for t, one in other.items()
    }
    assert own[ORDERS]["bytes"] != other[ORDERS]["bytes"]


@pytest.mark.usefixtures("long")
def test_a_killed_run_leaves_what_was_logged_and_the_next_one_completes_it(command: Command) -> None:
    # Dagster logs 1,000 events at once: these are two batches.
    days, partitions = 24, 24 * 50
    seed = command.start("seed", "--days", str(days))
    logged = _kill_while_it_logs(seed, command)

    # What was started for the command still runs: nobody was left to stop it.
    with connect_embedded(settings=command.home.read_env()) as left:
        (table,) = [table for table in left.snapshot.tables.values() if str(table.name) == ORGANIZATIONS]
        assert set(table.files["partition_key"].to_pylist()) == logged
        assert 0 < len(logged) < partitions
        stored = left.sql(
            f"SELECT date, state, count(npi + 0) AS rows FROM {ORGANIZATIONS} GROUP BY date, state"
        ).to_arrow()
        recorded = {
            (row["partition"]["date"], row["partition"]["state"]): row["rows"] for row in table.files.to_pylist()
        }
        assert {(row["date"], row["state"]): row["rows"] for row in stored.to_pylist()} == {
            partition: rows for partition, rows in recorded.items() if rows
        }
    assert command.run("down").returncode == 0

    completed = _seed(command, "--days", str(days))
    assert (completed[ORGANIZATIONS]["partitions"], completed[ORDERS]["partitions"]) == (partitions, partitions)
    assert partitions - len(logged) <= completed[ORGANIZATIONS]["written"] <= partitions


def _kill_while_it_logs(seed: subprocess.Popen[str], command: Command) -> set[str]:
    """Kill a seed as soon as some of its partitions are logged, and return these."""
    with contextlib.ExitStack() as stack:
        stack.callback(seed.communicate)
        stack.callback(seed.kill)
        _wait_until(lambda: _has_slow_events(command), seed)
        _wait_until(lambda: len(_logged(command)) > 0, seed)
    with psycopg.connect(_event_log(command), autocommit=True) as connection:
        connection.execute("drop function slow() cascade")
    return _logged(command)


def _wait_until(condition: Callable[[], bool], seed: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while not condition():
        assert seed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.1)


def _has_slow_events(command: Command) -> bool:
    """Let each materialization take 5 ms, as soon as there is an event log, so that a batch of them takes seconds."""
    try:
        with psycopg.connect(_event_log(command)) as connection:
            connection.execute(
                "create function slow() returns trigger language plpgsql"
                " as 'begin perform pg_sleep(0.005); return new; end'"
            )
            connection.execute(
                "create trigger slow before insert on event_logs for each row"
                " when (new.dagster_event_type = 'ASSET_MATERIALIZATION') execute function slow()"
            )
    except (KeyError, psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return False
    return True


def _logged(command: Command) -> set[str]:
    """Return the partitions of which the event log has a materialization."""
    query = "select partition from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION' and asset_key = %s"
    with psycopg.connect(_event_log(command)) as connection:
        rows = connection.execute(query, ('["Silver", "TaxID", "partitioned_organizations"]',)).fetchall()
    return {partition for (partition,) in rows}


def _event_log(command: Command) -> str:
    return command.home.read_env()["DAGFUSION_EVENT_LOG"]


def test_another_environment_must_say_where_its_runs_are_logged(command: Command) -> None:
    uat = command.with_variables(ENVIRONMENT="uat")

    result = uat.run("seed", "--days", "1")

    assert (result.returncode, result.stdout) == (1, "")
    assert "error: DAGSTER_HOME must be set to fill ENVIRONMENT=uat" in result.stderr


def _seed(command: Command, *arguments: str) -> dict[str, dict[str, Any]]:
    result = command.run("seed", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    return {one["table"]: one for one in json.loads(result.stdout)}
