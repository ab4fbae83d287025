"""Where an event log is: URLs, Dagster homes and what their files name; no error shows a password."""

from pathlib import Path

import psycopg
import pytest

from dagfusion_client.errors import EventLogLocationError, EventLogUnavailableError
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.postgres import PostgresEventLog
from dagfusion_query.event_log.sqlite import SqliteEventLog

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
    return log._database._conninfo


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


def test_the_file_of_sqlite_is_a_location(tmp_path: Path) -> None:
    file = tmp_path / "index.db"
    with pytest.raises(EventLogLocationError, match="which is no folder"):
        open_event_log(str(file))
    file.touch()
    log = open_event_log(str(file))
    assert isinstance(log, SqliteEventLog)
    assert log.identity() == SqliteEventLog(file).identity()
