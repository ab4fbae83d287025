"""Dagster's event log in PostgreSQL, purged in the ways that Dagster and its operators have."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from obstore.store import MemoryStore

from dagfusion_query.event_log.event_log_interface import Mark
from tests.query.catalog.checkpointing import Service
from tests.query.catalog.following import Clock, Record

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/service.md"
KEY = ("Silver", "TaxID", "partitioned_organizations")


def run_sql(deployment: Any, statement: str) -> None:
    with psycopg.connect(deployment.url, autocommit=True) as connection:
        connection.execute(statement.encode())


def purge_all(deployment: Any) -> None:
    run_sql(deployment, "delete from event_logs")


def purge_by_age(deployment: Any) -> None:
    run_sql(deployment, "delete from event_logs where timestamp < (select max(timestamp) from event_logs)")


def purge_as_documented(deployment: Any) -> None:
    """Age all events but the last by a year, and run the statement of the documentation."""
    run_sql(
        deployment,
        "update event_logs set timestamp = timestamp - interval '1 year' where id < (select max(id) from event_logs)",
    )
    (statement,) = re.findall(r"^```sql\n(DELETE .*)\n```$", PAGE.read_text(), re.MULTILINE)
    run_sql(deployment, statement)
    with psycopg.connect(deployment.url) as connection:
        assert connection.execute("select count(*) from event_logs").fetchall() == [(1,)]


def delete_runs(deployment: Any) -> None:
    for run in deployment.instance.get_runs():
        deployment.instance.delete_run(run.run_id)


@pytest.fixture
def service(on_postgres: Any) -> Iterator[Callable[..., Service]]:
    store, now = MemoryStore(), Clock()
    with ExitStack() as stack:

        def start() -> Service:
            made = Service(on_postgres.open(), store, now)
            stack.callback(made.catalog.close)
            return made

        yield start


def rows_of(service: Service) -> dict[str, int]:
    tables = service.catalog.refresh().tables
    return {str(name): sum(table.files["rows"].to_pylist()) for name, table in tables.items()}


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("purge", [purge_all, purge_by_age, purge_as_documented, delete_runs])
def test_a_purged_log_and_a_lost_state_folder_lose_no_table(
    on_postgres: Any, service: Callable[..., Service], file_record: Record, purge: Callable[[Any], None]
) -> None:
    for state in ("CA", "NY"):
        on_postgres.report(file_record(state, rows=5))
    on_postgres.materialize(file_record(partition=[], rows=3))
    running = service()
    assert running.look()
    before = rows_of(running)
    assert sorted(before.values()) == [3, 10]
    purge(on_postgres)
    assert rows_of(running) == rows_of(service()) == before
    on_postgres.report(file_record("CA", rows=7))
    assert sorted(rows_of(running).values()) == sorted(rows_of(service()).values()) == [3, 12]
    on_postgres.wipe()
    assert list(rows_of(running).values()) == list(rows_of(service()).values()) == [3]


@pytest.mark.usefixtures("processes")
def test_an_instance_that_is_wiped_has_no_tables(
    on_postgres: Any, service: Callable[..., Service], file_record: Record
) -> None:
    for state in ("CA", "NY"):
        on_postgres.report(file_record(state))
    running = service()
    assert running.look()
    on_postgres.instance.wipe()
    assert rows_of(running) == rows_of(service()) == {}
    on_postgres.report(file_record("TX", rows=1))
    assert [*rows_of(running).values()] == [*rows_of(service()).values()] == [1]


@pytest.mark.usefixtures("processes")
def test_the_evidence_of_a_log_outlives_a_purge(on_postgres: Any, file_record: Record) -> None:
    on_postgres.report(file_record("CA"))
    on_postgres.report(file_record("NY"), key=("Gold", "kept"))
    log = on_postgres.open()
    records = on_postgres.instance.fetch_materializations(dg.AssetKey(list(KEY)), limit=1).records
    event_id = records[0].storage_id
    found = log.evidence([event_id, 12345])
    assert found.highest == event_id + 1
    mark = found.marks[event_id]
    assert found.marks == {event_id: Mark(records[0].run_id, mark.at_us)}
    assert abs(mark.at_us / 1e6 - records[0].timestamp) < 1e-3
    assert log.purged_assets() == []
    run_sql(on_postgres, f"delete from event_logs where id <= {event_id}")
    assert log.purged_assets() == [KEY]
    purge_all(on_postgres)
    assert log.evidence([event_id]) == ({}, event_id + 1)
    run_sql(on_postgres, "create role reader login")
    run_sql(on_postgres, "grant select on all tables in schema public to reader")
    log.close()
    reader = type(log)(on_postgres.url.replace("postgresql://postgres", "postgresql://reader", 1))
    assert reader.evidence([event_id]) == ({}, event_id + 1), "without the right to read the sequence"
    on_postgres.wipe()
    assert reader.purged_assets() == [("Gold", "kept")]
    reader.close()
    run_sql(on_postgres, "drop owned by reader; drop role reader")
