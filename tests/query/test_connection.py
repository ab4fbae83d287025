"""The Python way in, over a plain DAGSTER_HOME: results, freshness, errors, many threads."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import dagfusion_client
import dagfusion_query
from dagfusion_client.errors import EventLogSchemaError, EventLogUnavailableError, SettingsError, StaleObjectError
from dagfusion_query import connection as embedded
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_query.settings import Settings, stack_service
from tests.waiting import eventually

TABLE = "local_default.orders"
Write = Callable[..., None]


@pytest.mark.usefixtures("heavy")
def test_a_materialization_becomes_visible_by_itself(write: Write, connect: Callable[..., EmbeddedConnection]) -> None:
    write("2024-01-01", [1])
    connection = connect()
    assert connection.sql(f"SELECT count(*) AS n FROM {TABLE}").to_arrow().to_pylist() == [{"n": 1}]

    write("2024-01-02", [1])
    assert eventually(lambda: connection.sql(f"SELECT count(*) AS n FROM {TABLE}").to_arrow()["n"].to_pylist() == [2])


@pytest.mark.usefixtures("heavy")
def test_an_object_that_was_replaced_meanwhile_is_read_after_one_refresh(
    write: Write, connect: Callable[..., EmbeddedConnection]
) -> None:
    write("2024-01-01", [1])
    connection = connect(DAGFUSION_POLL_INTERVAL_S="3600")
    query = f"SELECT sum(amount) AS total FROM {TABLE}"
    before = connection.snapshot.generation

    write("2024-01-01", list(range(10_000)))

    result = connection.sql(query)
    assert result.to_arrow().to_pylist() == [{"total": sum(range(10_000))}]
    assert result.stats.generation > before


@pytest.mark.usefixtures("heavy")
def test_an_object_that_was_replaced_behind_dagsters_back_is_named(
    write: Write, connect: Callable[..., EmbeddedConnection]
) -> None:
    write("2024-01-01", [1])
    connection = connect()
    write("2024-01-01", list(range(10_000)), log=False)

    with pytest.raises(StaleObjectError, match=r"2024-01-01\.parquet .* has changed since its event") as caught:
        connection.sql(f"SELECT sum(amount) FROM {TABLE}").to_arrow()

    assert "materialize it again: asset orders, partition 2024-01-01" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "dagfusion up"),
        ({"DAGFUSION_EVENT_LOG": "/nonexistent"}, "/nonexistent"),
        ({"DAGFUSION_EVENT_LOG": "mysql://x"}, "postgresql://"),
        ({"ENVIRONMENT": "test"}, "ENVIRONMENT must be one of local, uat, prod, got 'test'"),
        ({"DAGFUSION_PARALLELISM": "0"}, "DAGFUSION_PARALLELISM must be a positive whole number, got '0'"),
        ({"DAGFUSION_POLL_INTERVAL_S": "soon"}, "DAGFUSION_POLL_INTERVAL_S must be a positive number, got 'soon'"),
        ({"AWS_ACCESS_KEY_ID": "key"}, "must be set together"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(dagfusion_query.QueryError, match=message.replace("(", r"\(")):
        dagfusion_query.connect(settings={"DAGFUSION_HOME": str(tmp_path), **settings})


@pytest.mark.parametrize("arguments", [{}, {"environment": "prod"}, {"token": "t"}])
def test_a_wrong_url_of_a_service_is_named_whatever_else_is_given(arguments: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="DAGFUSION_URL must be a URL that begins with http"):
        dagfusion_query.connect(settings={"DAGFUSION_URL": "localhost:8080"}, **arguments)


def test_the_client_alone_connects_to_services_only() -> None:
    with pytest.raises(SettingsError, match="no query service is named"):
        dagfusion_client.connect(settings={})
    with pytest.raises(SettingsError, match="url must be a URL that begins with http") as caught:
        dagfusion_client.connect("postgresql://user:hunter2@127.0.0.1/dagster", settings={})
    assert "hunter2" not in str(caught.value)


def test_secrets_are_in_no_repr_and_no_message(tmp_path: Path) -> None:
    log = "postgresql://user:hunter2@127.0.0.1:1/dagster"
    variables = {"DAGFUSION_HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hunter2"}

    with pytest.raises(dagfusion_query.QueryError) as caught:
        dagfusion_query.connect(log, settings=variables)

    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"


def test_the_local_stack_of_the_folder_is_the_default(
    dagster_home: Path, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("2024-01-01", [1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dagfusion").mkdir()
    (tmp_path / ".dagfusion" / "stack.env").write_text(f"DAGFUSION_EVENT_LOG={dagster_home}\nENVIRONMENT=uat\n")

    with dagfusion_query.connect(settings={}) as connection:
        assert [table.name for table in connection.tables()] == ["uat_default.orders"]


def test_the_shells_keys_are_not_sent_to_the_local_stack(tmp_path: Path) -> None:
    (tmp_path / "stack.env").write_text(
        "DAGFUSION_EVENT_LOG=/x\nAWS_ENDPOINT_URL=http://127.0.0.1:1\nAWS_ACCESS_KEY_ID=own\n"
    )
    shell = {
        "DAGFUSION_HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "aws",
        "AWS_SECRET_ACCESS_KEY": "aws",
        "AWS_REGION": "eu-west-1",
    }

    settings = Settings.read(shell)

    assert (settings.access_key_id, settings.endpoint_url) == ("own", "http://127.0.0.1:1")
    assert Settings.read(shell | {"DAGSTER_HOME": "/y"}).access_key_id == "aws"


def test_the_service_of_the_folders_stack(tmp_path: Path) -> None:
    shell = {"DAGFUSION_HOME": str(tmp_path)}
    assert stack_service(shell) is None
    (tmp_path / "stack.env").write_text("DAGFUSION_EVENT_LOG=/x\nDAGFUSION_CONSOLE_URL=http://localhost:1\n")

    assert stack_service(shell) == "http://localhost:1"
    for another in ("DAGFUSION_URL", "DAGFUSION_EVENT_LOG", "DAGSTER_HOME"):
        assert stack_service(shell | {another: "http://elsewhere"}) is None


def test_a_stack_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    home = tmp_path / ".dagfusion"
    home.mkdir()
    (home / "stack.env").write_text(f"DAGFUSION_EVENT_LOG=postgresql://postgres@/dagster?host={tmp_path}\n")

    with pytest.raises(EventLogUnavailableError, match=r"start it with `dagfusion up -d` \("):
        dagfusion_query.connect(settings={"DAGFUSION_HOME": str(home)})


class ClosedLog:
    """An event log that cannot be read, and notes that it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def identity(self) -> str:
        raise EventLogSchemaError("the database is not one of Dagster's")

    def close(self) -> None:
        self.closed += 1


def test_an_event_log_that_cannot_be_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ClosedLog()
    monkeypatch.setattr(embedded, "open_event_log", lambda *_, **__: log)
    with pytest.raises(EventLogSchemaError):
        connect_embedded(str(tmp_path), settings={"XDG_CACHE_HOME": str(tmp_path)})
    assert log.closed > 0


def test_a_catalog_is_closed_if_there_is_no_engine_for_it(
    dagster_home: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("2024-01-01", [1])
    followed = []
    follow = embedded._follow

    def note(*given: Any) -> LiveCatalog:
        followed.append(follow(*given))
        return followed[0]

    def fail(_: Settings) -> None:
        raise OSError("no threads")

    monkeypatch.setattr(embedded, "_follow", note)
    monkeypatch.setattr(embedded, "Engine", fail)
    with pytest.raises(OSError, match="no threads"):
        connect_embedded(str(dagster_home), settings={})
    assert not followed[0]._thread.is_alive()


def test_a_partition_that_is_left_out_is_told(
    dagster_home: Path, write: Write, connect: Callable[..., EmbeddedConnection]
) -> None:
    write("2024-01-01", [1])
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        record = {"version": 2}
        instance.report_runless_asset_event(
            dg.AssetMaterialization("orders", partition="2024-01-02", metadata={"dagfusion/file": record})
        )

    (table,) = connect().tables()

    assert table.partitions == 1
    assert "2024-01-02" in table.warnings[0]


def test_no_setting_is_missing_its_home(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no event log to read"):
        dagfusion_query.connect(settings={"DAGFUSION_HOME": str(tmp_path)})


# ---- the user's cache folder


def generations(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("dagfusion/*/manifest-*.json"))


def test_a_catalog_is_kept_in_the_users_cache_folder(
    tmp_path: Path, write: Write, connect: Callable[..., EmbeddedConnection]
) -> None:
    write("2024-01-01", [1, 2])
    variables = {"HOME": str(tmp_path / "user"), "XDG_CACHE_HOME": "not/absolute"}
    first = connect(**variables)
    kept_for_all = {tmp_path / "user/.cache/dagfusion" / name for name in ("objects", "results")}
    (folder,) = set((tmp_path / "user/.cache/dagfusion").iterdir()) - kept_for_all
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent, folder / "segments")} == {0o700}
    kept = generations(tmp_path / "user/.cache")
    assert kept
    again = connect(**variables)
    assert again.snapshot.generation == first.snapshot.generation
    assert generations(tmp_path / "user/.cache") == kept
    assert again.sql(f"SELECT sum(amount) FROM {TABLE}").to_arrow()[0].to_pylist() == [3]


def test_event_logs_and_environments_have_folders_of_their_own(
    tmp_path: Path, sqlite_pattern: Path, write: Write, connect: Callable[..., EmbeddedConnection]
) -> None:
    write("2024-01-01", [1])
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    connect(**cache)
    connect(**cache, ENVIRONMENT="uat")
    other = shutil.copytree(sqlite_pattern, tmp_path / "other")
    with dagfusion_query.connect(str(other), settings=cache) as empty:
        assert empty.tables() == []
    folders = {path.name for path in (tmp_path / "cache/dagfusion").iterdir()}
    assert len(folders - {"objects", "results"}) == 3


@pytest.mark.parametrize("variables", [{}, {"DAGFUSION_STATE_DIR": "none", "HOME": "{home}"}])
def test_no_catalog_is_kept_without_a_user_or_when_that_is_said(
    tmp_path: Path, write: Write, connect: Callable[..., EmbeddedConnection], variables: dict[str, str]
) -> None:
    write("2024-01-01", [1])
    before = {*tmp_path.iterdir()}
    connection = connect(**{name: value.format(home=tmp_path) for name, value in variables.items()})
    assert connection.tables()[0].partitions == 1
    assert {*tmp_path.iterdir()} == before


def test_a_cache_folder_that_cannot_be_made_costs_only_time(
    tmp_path: Path, write: Write, connect: Callable[..., EmbeddedConnection], caplog: pytest.LogCaptureFixture
) -> None:
    write("2024-01-01", [1])
    (tmp_path / "file").write_text("")
    connection = connect(XDG_CACHE_HOME=str(tmp_path / "file"))
    connection.refresh()
    assert connection.tables()[0].partitions == 1
    snapshot, copies, results = [record.getMessage() for record in caplog.records]
    assert "cannot be kept: " in snapshot
    assert "DAGFUSION_STATE_DIR" in snapshot
    assert copies.startswith("copies of objects cannot be kept in ")
    assert results.startswith("results cannot be kept in ")


def test_a_catalog_that_nobody_asked_for_does_not_hide_that_the_event_log_is_gone(
    dagster_home: Path, tmp_path: Path, write: Write, connect: Callable[..., EmbeddedConnection]
) -> None:
    write("2024-01-01", [1])
    cache, named = {"XDG_CACHE_HOME": str(tmp_path / "cache")}, {"DAGFUSION_STATE_DIR": str(tmp_path / "state")}
    connect(**cache).close()
    connect(**named).close()
    (dagster_home / "history/runs/index.db").unlink()
    with pytest.raises(EventLogUnavailableError):
        connect(**cache)
    assert connect(**named).tables()[0].partitions == 1
