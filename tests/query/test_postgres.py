"""The event log in PostgreSQL: writers that commit out of order, a server that goes away, and locations."""

import dataclasses
import itertools
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagfusion_query.catalog.live import LiveCatalog
from dagfusion_query.errors import (
    EventLogError,
    EventLogLocationError,
    EventLogSchemaError,
    EventLogUnavailableError,
)
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.postgres import PostgresEventLog
from dagfusion_query.event_log.protocol import Event, Materialization, Wipe
from dagfusion_query.event_log.record import DataFile, RecordReader
from dagfusion_query.event_log.sqlite import SqliteEventLog
from dagfusion_query.event_log.watermark import SLACK_S, Watermark
from dagfusion_stack import postgres
from dagfusion_stack.postgres import Postgres

Record = Callable[..., dict[str, Any]]
COPY_EVENT = """
insert into event_logs (run_id, event, dagster_event_type, timestamp, asset_key, partition)
select run_id, event, dagster_event_type, timestamp, asset_key, %s from event_logs where id = %s returning id
"""


@pytest.fixture
def log(on_postgres: Any) -> Iterator[PostgresEventLog]:
    made = on_postgres.open()
    yield made
    made.close()


def pattern_event(on_postgres: Any, record: dict[str, Any]) -> int:
    """Log one event through Dagster, and return its id, to be copied."""
    on_postgres.report(record)
    with psycopg.connect(on_postgres.url) as connection:
        row = connection.execute("select max(id) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'")
        (event_id,) = row.fetchone() or (0,)
    return int(event_id)


def materializations(events: list[Event]) -> list[Materialization]:
    return [event for event in events if isinstance(event, Materialization)]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_transaction_that_commits_late_is_not_missed(on_postgres: Any, file_record: Record) -> None:
    first = pattern_event(on_postgres, file_record())
    clock = Clock()
    log = PostgresEventLog(on_postgres.url, clock)
    cursor = log.sync(lambda _: None)
    with psycopg.connect(on_postgres.url) as late, psycopg.connect(on_postgres.url, autocommit=True) as quick:
        (hidden,) = late.execute(COPY_EVENT, ("late", first)).fetchone() or (0,)
        (seen,) = quick.execute(COPY_EVENT, ("quick", first)).fetchone() or (0,)
        assert hidden < seen
        for _ in range(5):
            clock.now += 10 * SLACK_S
            poll = log.poll(cursor)
            cursor = poll.cursor
            assert cursor.watermark.settled < hidden, "the watermark waits for the open transaction"
        assert seen in cursor.watermark.seen
        late.commit()
        poll = log.poll(cursor)
        assert [event.event_id for event in materializations(list(poll.events))] == [hidden]
        clock.now += 2 * SLACK_S
        cursor = log.poll(poll.cursor).cursor
        assert cursor.watermark == Watermark(seen, 3, first + hidden + seen)
        assert log.verify(cursor) is None
    log.close()


def test_a_transaction_that_was_open_during_the_full_sync_is_not_missed(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    first = pattern_event(on_postgres, file_record())
    with psycopg.connect(on_postgres.url) as late, psycopg.connect(on_postgres.url, autocommit=True) as quick:
        (hidden,) = late.execute(COPY_EVENT, ("late", first)).fetchone() or (0,)
        quick.execute(COPY_EVENT, ("quick", first))
        received: list[Event] = []
        cursor = log.sync(received.extend)
        assert {event.partition_key for event in materializations(received)} == {"2024-01-15|CA", "quick"}
        late.commit()
        poll = log.poll(cursor)
    assert [event.event_id for event in materializations(list(poll.events))] == [hidden]


def test_a_late_transaction_below_the_overlap_leads_to_a_resync(
    on_postgres: Any, file_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagfusion_query.event_log.postgres._OVERLAP", 2)
    first = pattern_event(on_postgres, file_record())
    clock = Clock()
    log = PostgresEventLog(on_postgres.url, clock)
    with psycopg.connect(on_postgres.url) as late, psycopg.connect(on_postgres.url, autocommit=True) as quick:
        late.execute(COPY_EVENT, ("late", first))
        for number in range(5):
            quick.execute(COPY_EVENT, (f"quick {number}", first))
        cursor = log.sync(lambda _: None)
        late.commit()
        poll = log.poll(cursor)
        assert (poll.resync, poll.cursor.verified) == (None, False)
        clock.now += 2 * SLACK_S
        poll = log.poll(poll.cursor)
    assert "events were read up to id" in str(poll.resync)
    received: list[Event] = []
    log.sync(received.extend)
    assert "late" in {event.partition_key for event in materializations(received)}
    log.close()


def writer_of(url: str, pattern: int, committed: list[int], stop: threading.Event) -> Callable[[int], None]:
    """Writes transactions of many sizes and lengths, and notes the ids of those that it commits."""
    numbers = itertools.count()

    def write(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        with psycopg.connect(url) as connection:
            while not stop.is_set():
                ids = []
                for _ in range(chance.choice([1, 1, 3, 20])):
                    (event_id,) = connection.execute(COPY_EVENT, (f"p{next(numbers)}", pattern)).fetchone() or (0,)
                    ids.append(event_id)
                    time.sleep(chance.choice([0, 0, 0.002]))
                time.sleep(chance.choice([0, 0.01, 0.3]))
                if chance.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()
                    committed.extend(ids)

    return write


@pytest.mark.slow
def test_concurrent_writers_that_commit_out_of_order_are_all_seen(on_postgres: Any, file_record: Record) -> None:
    """Sixteen writers, batches of many sizes, some held open, some rolled back; all of them before the first sync."""
    first = pattern_event(on_postgres, file_record())
    committed: list[int] = []
    stop = threading.Event()
    write = writer_of(on_postgres.url, first, committed, stop)
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(16)]
    for writer in writers:
        writer.start()
    time.sleep(0.5)
    log = on_postgres.open()
    received: list[Event] = []
    cursor = log.sync(received.extend)
    polled_ids: list[int] = []
    ends = time.monotonic() + 6
    while time.monotonic() < ends:
        poll = log.poll(cursor)
        assert poll.resync is None
        cursor = poll.cursor
        polled_ids += [event.event_id for event in materializations(list(poll.events))]
        time.sleep(0.02)
    stop.set()
    for writer in writers:
        writer.join()
    settled = time.monotonic() + 20
    while cursor.watermark.settled < max(committed):
        assert time.monotonic() < settled, "the watermark never settled"
        poll = log.poll(cursor)
        cursor = poll.cursor
        polled_ids += [event.event_id for event in materializations(list(poll.events))]
        time.sleep(0.05)
    synced_ids = [event.event_id for event in materializations(received)]
    assert sorted(synced_ids + polled_ids) == sorted([first, *committed]), "each event once"
    assert polled_ids != sorted(polled_ids), "the writers did commit out of order"
    assert (cursor.watermark.count, cursor.watermark.total) == (len(committed) + 1, first + sum(committed))
    assert log.verify(cursor) is None
    assert len(cursor.watermark.seen) == 0
    log.close()


def test_rows_that_are_deleted_before_they_settle_lead_to_a_resync(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    first = pattern_event(on_postgres, file_record())
    cursor = log.sync(lambda _: None)
    with psycopg.connect(on_postgres.url) as connection:
        connection.execute("delete from event_logs where id = %s", (first,))
    assert log.poll(cursor).resync == f"events were deleted, among them {first}"


def test_an_asset_that_dagster_forgot_leads_to_a_resync_without_it(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    on_postgres.report(file_record())
    on_postgres.report(file_record(), key=("Gold", "kept"))
    cursor = log.sync(lambda _: None)
    with psycopg.connect(on_postgres.url) as connection:
        connection.execute("delete from asset_keys where asset_key like '%partitioned%'")
    assert "no longer knows the assets" in str(log.poll(cursor).resync)
    received: list[Event] = []
    log.sync(received.extend)
    assert {event.asset_key for event in received} == {("Gold", "kept")}


def test_an_event_whose_asset_is_listed_later_is_not_missed(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    on_postgres.report(file_record())
    with psycopg.connect(on_postgres.url, autocommit=True) as connection:
        connection.execute("create table kept as select * from asset_keys")
        connection.execute("delete from asset_keys")
        received: list[Event] = []
        cursor = log.sync(received.extend)
        assert received == []
        connection.execute("insert into asset_keys select * from kept")
    (event,) = log.poll(cursor).events
    assert event.asset_key == ("Silver", "TaxID", "partitioned_organizations")


def test_a_wipe_is_told_once(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
    on_postgres.report(file_record())
    cursor = log.sync(lambda _: None)
    on_postgres.wipe()
    poll = log.poll(cursor)
    (wipe,) = poll.events
    assert isinstance(wipe, Wipe)
    assert log.poll(poll.cursor).events == []
    received: list[Event] = []
    log.sync(received.extend)
    assert received == [wipe]


def test_events_are_read_however_they_are_written(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
    """The server cuts records out of events as Dagster writes them; others come as a whole, at once or later."""
    event_id = pattern_event(on_postgres, file_record(rows=7))
    with psycopg.connect(on_postgres.url) as connection:
        (event,) = connection.execute("select event from event_logs where id = %s", (event_id,)).fetchone() or ("",)
        document = json.loads(event)
        (entry,) = document["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
        other = entry | {
            "label": "a",
            "entry_data": entry["entry_data"] | {"data": {"quotes": entry, "as text": event}},
        }
        materialization = document["dagster_event"]["event_specific_data"]["materialization"]
        ways = {"as it is": event, "indented": json.dumps(document, indent=1)}
        for name, entries in (
            ("quoted before", [other, entry]),
            ("quoted after", [entry, other]),
            ("described", [other | {"entry_data": entry["entry_data"]}, entry | {"description": "a file"}]),
            ("twice", [entry, entry]),
        ):
            materialization["metadata_entries"] = entries
            ways[name] = json.dumps(document)
        for name, text in ways.items():
            (copied,) = connection.execute(COPY_EVENT.encode(), (name, event_id)).fetchone() or (0,)
            connection.execute("update event_logs set event = %s where id = %s", (text, copied))
        connection.execute("delete from event_logs where id = %s", (event_id,))
    received: list[Event] = []
    cursor = log.sync(received.extend)
    read = {str(event.partition_key): event.file for event in materializations(received)}
    assert read.keys() == ways.keys()
    expected = RecordReader().read(file_record(rows=7))
    for name, file in read.items():
        assert isinstance(file, DataFile), name
        assert file._replace(layout=expected.layout) == expected, name
    polled = log.poll(dataclasses.replace(cursor, watermark=Watermark()))
    assert {str(event.partition_key): event.file for event in materializations([*polled.events])} == read


def test_nothing_is_written(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
    on_postgres.report(file_record())
    log.sync(lambda _: None)
    with pytest.raises(EventLogError, match="cannot execute DELETE in a read-only transaction"):
        log._read(lambda run: run("delete from event_logs"), 5)


# ---- a server that goes away


@pytest.fixture
def own_server() -> Iterator[Callable[[], Postgres]]:
    """Starts and, called again, starts anew a server over one folder."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        servers: list[Postgres] = []

        def start() -> Postgres:
            servers.append(postgres.start(Path(folder, "server")))
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
    cursor = log.sync(lambda _: None)
    (name,) = catalog.current().tables

    server.stop()
    with pytest.raises(EventLogUnavailableError, match=r"cannot be reached; is PostgreSQL running there\?"):
        log.poll(cursor)
    ends = time.monotonic() + 20
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
    assert catalog.lag().syncs == 1
    catalog.close()
    log.close()
    deployment.instance.dispose()


def test_an_ended_session_is_replaced_without_an_error(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    on_postgres.report(file_record("CA"))
    cursor = log.sync(lambda _: None)
    with psycopg.connect(on_postgres.url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dagfusion' "
            "and datname = current_database()"
        )
    assert log.poll(cursor).resync is None


def test_a_statement_that_takes_too_long_is_ended(log: PostgresEventLog) -> None:
    with pytest.raises(EventLogUnavailableError, match=r"did not answer within 1 s: .*statement timeout"):
        log._read(lambda run: run("select pg_sleep(20)"), 1)
    assert log._read(lambda run: run("select 1"), 1) == [(1,)]


def test_a_database_that_is_not_dagsters_is_told(postgres_server: Postgres) -> None:
    log = open_event_log(postgres_server.url("postgres"))
    with pytest.raises(EventLogSchemaError, match=r"does not look like Dagster's.*event_logs.*does not exist"):
        log.sync(lambda _: None)
    log.close()


def test_a_missing_database_is_told(postgres_server: Postgres) -> None:
    with pytest.raises(EventLogUnavailableError, match='database "nowhere" does not exist'):
        open_event_log(postgres_server.url("nowhere")).identity()


@pytest.mark.slow
def test_closing_ends_a_full_sync_under_way(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
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

    def sync() -> None:
        try:
            log.sync(receive)
        except EventLogUnavailableError as error:
            failed.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    started.wait(20)
    began = time.monotonic()
    log.close()
    thread.join(20)
    assert time.monotonic() - began < 10
    assert len(failed) == 1
    with pytest.raises(EventLogUnavailableError, match="was closed"):
        log.identity()


# ---- locations

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://dagster:{SECRET}@127.0.0.1:1/dagster",
        f"postgresql+psycopg2://dagster:{SECRET}@127.0.0.1:1/dagster",
        f"postgres://dagster:{SECRET}@127.0.0.1:1/dagster?connect_timeout=2",
        f"postgresql://dagster:{SECRET}%zz@127.0.0.1:1/dagster",
        f"postgresql://dagster:{SECRET}@127.0.0.1:port/dagster",
        f"postgresql://dagster@127.0.0.1:1/dagster?password={SECRET}&nonsense={SECRET}",
    ],
)
def test_no_error_shows_the_password(url: str) -> None:
    with pytest.raises((EventLogUnavailableError, EventLogLocationError)) as raised:
        open_event_log(url).identity()
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def conninfo(location: Path, variables: dict[str, str] | None = None) -> str:
    log = open_event_log(str(location), variables or {})
    assert isinstance(log, PostgresEventLog)
    return log._conninfo


def test_a_dagster_home_may_name_postgresql(tmp_path: Path) -> None:
    yaml = tmp_path / "dagster.yaml"
    yaml.write_text("storage:\n  postgres:\n    postgres_url: postgresql+psycopg2://u:p@h:5433/d\n")
    assert "user=u password=p" in conninfo(tmp_path)
    yaml.write_text("storage:\n  postgres:\n    postgres_url:\n      env: PG_URL\n")
    assert "port=5433" in conninfo(tmp_path, {"PG_URL": "postgresql://u@h:5433/d"})
    yaml.write_text(
        "storage:\n  postgres:\n    postgres_db:\n      username: u\n      password: {env: PG_PASSWORD}\n"
        "      hostname: h\n      db_name: a b\n      port: 5433\n      params: {sslmode: require}\n"
    )
    text = conninfo(tmp_path, {"PG_PASSWORD": "p@ss:/w'ord"})
    given = psycopg.conninfo.conninfo_to_dict(text)
    assert (given["user"], given["password"], given["host"], given["port"]) == ("u", "p@ss:/w'ord", "h", "5433")
    assert (given["dbname"], given["sslmode"]) == ("a b", "require")
    yaml.write_text(
        "event_log_storage:\n  module: dagster_postgres.event_log\n  class: PostgresEventLogStorage\n"
        "  config:\n    postgres_url: postgresql://u@h/legacy\n"
    )
    assert "dbname=legacy" in conninfo(tmp_path)


def test_a_dagster_home_without_storage_is_sqlite(tmp_path: Path) -> None:
    log = open_event_log(str(tmp_path))
    assert isinstance(log, SqliteEventLog)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert isinstance(open_event_log(str(tmp_path)), SqliteEventLog)
    (tmp_path / "dagster.yaml").write_text(f"storage:\n  sqlite:\n    base_dir: {tmp_path}/else\n")
    with pytest.raises(EventLogUnavailableError, match=r"no event log at .*/else/history/runs/index\.db"):
        open_event_log(str(tmp_path)).identity()


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("storage:\n  mysql: {}\n", "storage must be postgres or sqlite .* got mysql"),
        ("storage: 5\n", "storage must be postgres or sqlite .* got 5"),
        ("storage:\n  postgres: {}\n", "must have postgres_url or postgres_db, got neither"),
        ("storage:\n  postgres: {postgres_url: {env: NOT_SET}}\n", "environment variable NOT_SET, which is not set"),
        ("storage:\n  postgres: {postgres_url: mysql://u:hunter2@h/d}\n", "must start with postgresql://$"),
        ("event_log_storage: {class: Consolidated}\n", "got class 'Consolidated'"),
        ("a: [\n", "must be YAML, and is not at line 2"),
        ("[]\n", "must be a YAML mapping, got list"),
    ],
)
def test_a_dagster_yaml_that_does_not_help_is_told(tmp_path: Path, yaml: str, says: str) -> None:
    (tmp_path / "dagster.yaml").write_text(yaml)
    with pytest.raises(EventLogLocationError, match=says) as raised:
        open_event_log(str(tmp_path), {})
    assert SECRET not in str(raised.value)


def test_what_is_no_location_is_told(tmp_path: Path) -> None:
    with pytest.raises(EventLogLocationError, match="got a mysql:// URL"):
        open_event_log(f"mysql://u:{SECRET}@h/d")
    with pytest.raises(EventLogLocationError, match="which is no folder"):
        open_event_log(str(tmp_path / "nowhere"))
