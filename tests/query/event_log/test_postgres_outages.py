"""The event log in PostgreSQL when its server goes away, is slow, or is another's; and when it is closed."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagfusion_client.errors import EventLogSchemaError, EventLogUnavailableError
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.postgres import PostgresEventLog
from dagfusion_stack import postgres
from dagfusion_stack.postgres import Postgres
from tests.query.event_log.copied import COPY_EVENT, materializations, pattern_event

Record = Callable[..., dict[str, Any]]


@pytest.fixture
def own_server(server_folder: Callable[[str], Path]) -> Iterator[Callable[[], Postgres]]:
    """Starts and, called again, starts anew a server over one folder."""
    folder = server_folder("postgres")
    servers: list[Postgres] = []

    def start() -> Postgres:
        servers.append(postgres.start(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.mark.slow
def test_a_restarted_server_is_found_again(
    own_server: Callable[[], Postgres], deployment_class: Any, file_record: Record, tmp_path: Path
) -> None:
    server = own_server()
    server.create_database("dagster")
    url = server.url("dagster")
    deployment = deployment_class(tmp_path / "home", url)
    deployment.report(file_record("CA"))
    catalog = LiveCatalog(open_event_log(url), "uat", poll_interval_s=0.05)
    log = open_event_log(url)
    cursor = log.read_all(lambda _: None)
    (name,) = catalog.current().tables

    server.stop()
    with pytest.raises(EventLogUnavailableError, match=r"cannot be reached; is PostgreSQL running there\?"):
        log.poll(cursor)
    ends = time.monotonic() + 60
    while not isinstance(catalog.lag().last_error, EventLogUnavailableError):
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert len(catalog.current().tables[name].files) == 1, "the last snapshot is served"

    own_server()
    deployment.report(file_record("NY"))
    assert len(materializations(list(log.poll(cursor).events))) == 1
    while len(catalog.current().tables[name].files) < 2:
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert catalog.lag().last_error is None
    assert catalog.lag().full_reads == 1
    catalog.close()
    log.close()
    deployment.instance.dispose()


def test_an_ended_session_is_replaced_without_an_error(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    on_postgres.report(file_record("CA"))
    cursor = log.read_all(lambda _: None)
    with psycopg.connect(on_postgres.url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dagfusion' "
            "and datname = current_database()"
        )
    assert log.poll(cursor).full_read_reason is None


def test_a_statement_that_takes_too_long_is_ended(log: PostgresEventLog) -> None:
    with pytest.raises(EventLogUnavailableError, match=r"did not answer within 1 s: .*statement timeout"):
        log._database.run(lambda run: run("select pg_sleep(20)"), 1)
    assert log._database.run(lambda run: run("select 1"), 1) == [(1,)]


def test_a_database_that_is_not_dagsters_is_told(postgres_server: Postgres) -> None:
    log = open_event_log(postgres_server.url("postgres"))
    with pytest.raises(EventLogSchemaError, match=r"does not look like Dagster's.*event_logs.*does not exist"):
        log.read_all(lambda _: None)
    log.close()


def test_a_missing_database_is_told(postgres_server: Postgres) -> None:
    with pytest.raises(EventLogUnavailableError, match='database "nowhere" does not exist'):
        open_event_log(postgres_server.url("nowhere")).identity()


@pytest.mark.slow
def test_closing_ends_a_full_read_under_way(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
    first = pattern_event(on_postgres, file_record())
    with psycopg.connect(on_postgres.url, autocommit=True) as connection:
        connection.execute(
            f"{COPY_EVENT.partition(' returning')[0]}".replace("%s from", "n::text from")
            .replace(
                "event_logs where id = %s", f"event_logs, generate_series(1, 60000) n where event_logs.id = {first}"
            )
            .encode()
        )
    started, failed = threading.Event(), []

    def receive(_: object) -> None:
        started.set()
        time.sleep(0.05)

    def read_all() -> None:
        try:
            log.read_all(receive)
        except EventLogUnavailableError as error:
            failed.append(error)

    thread = threading.Thread(target=read_all)
    thread.start()
    assert started.wait(30)
    log.close()
    thread.join(30)
    assert len(failed) == 1
    with pytest.raises(EventLogUnavailableError, match="was closed"):
        log.identity()
