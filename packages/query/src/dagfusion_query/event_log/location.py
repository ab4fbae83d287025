"""Opens an event log by its location: a PostgreSQL URL, the secret that has it, or a DAGSTER_HOME folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from dagfusion_client.errors import EventLogLocationError
from dagfusion_client.secrets_manager import reference_in
from dagfusion_query.event_log.event_log_interface import EventLog
from dagfusion_query.event_log.secret_url import SecretUrl, is_postgres, without_dialect
from dagfusion_query.event_log.stored_event import EventReader

_RUNS = Path("history", "runs")
_INDEX = "index.db"


def open_event_log(
    location: str,
    variables: Mapping[str, str] | None = None,
    records: EventReader | None = None,
    *,
    region: str | None = None,
) -> EventLog:
    """Open a reader of Dagster's event log; nothing is connected to yet.

    Args:
        location: `postgresql://...` (an SQLAlchemy dialect such as `+psycopg2` is ignored), or a DAGSTER_HOME folder. A
            folder whose `dagster.yaml` names PostgreSQL is read there, any other from its SQLite files. The path of
            the SQLite file itself, `index.db`, is right too. `secretsmanager://name#key` is the secret that has a URL.
        variables: What `env:` in `dagster.yaml` refers to; the process's environment by default.
        records: Reads what events say was written; by default only records of this project's IO managers.
        region: The region of AWS Secrets Manager; by default that of the process.

    Raises:
        SettingsError: The location begins as a reference to a secret and cannot be parsed.
        EventLogLocationError: The location names no event log that this reader knows.
    """
    if is_postgres(location):
        return _open_postgres(location, records)
    if (reference := reference_in(location)) is not None:
        return _open_postgres(SecretUrl(reference, region), records)
    if "://" in location:
        scheme = location.partition("://")[0]
        raise EventLogLocationError(
            f"the event log must be a postgresql:// URL or a DAGSTER_HOME folder, got a {scheme}:// URL"
        )
    home = Path(location).expanduser()
    if home.name == _INDEX and home.is_file():
        return _open_sqlite(home, records)
    if not home.is_dir():
        got = "something with an @ in it" if "@" in location else repr(str(home))  # a misspelt URL has its password
        raise EventLogLocationError(
            f"the event log must be a postgresql:// URL or a DAGSTER_HOME folder, got {got}, which is no folder"
        )
    instance = _instance(home / "dagster.yaml")
    where = _configured(home, instance, os.environ if variables is None else variables)
    return _open_sqlite(where, records) if isinstance(where, Path) else _open_postgres(where, records)


def _open_sqlite(path: Path, records: EventReader | None) -> EventLog:
    from dagfusion_query.event_log.sqlite import SqliteEventLog  # noqa: PLC0415

    return SqliteEventLog(path, records)


def _open_postgres(url: str | SecretUrl, records: EventReader | None) -> EventLog:
    from dagfusion_query.event_log.postgres import PostgresEventLog  # noqa: PLC0415  # psycopg takes a while to import

    return PostgresEventLog(url if isinstance(url, SecretUrl) else without_dialect(url), records=records)


def _instance(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise EventLogLocationError(f"{path} cannot be read: {error}") from error
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415  # a URL, or a folder without the file, needs none

    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # the whole text might quote a password
        where = f" at line {mark.line + 1}" if mark else ""
        raise EventLogLocationError(f"{path} must be YAML, and is not{where}") from None
    if parsed is not None and not isinstance(parsed, dict):
        raise EventLogLocationError(f"{path} must be a YAML mapping, got {type(parsed).__name__}")
    return parsed or {}


def _configured(home: Path, instance: Mapping[str, Any], variables: Mapping[str, str]) -> Path | str:
    """Return the SQLite file or PostgreSQL's URL that a `dagster.yaml` names."""
    storage = instance.get("storage")
    where = f"{home / 'dagster.yaml'}: storage"
    if storage is None:
        legacy = instance.get("event_log_storage")
        if legacy is None:
            return home / _RUNS / _INDEX
        return _legacy(home, legacy, variables)
    if isinstance(storage, dict) and isinstance(storage.get("postgres"), dict):
        return _postgres(storage["postgres"], f"{where}.postgres", variables)
    if isinstance(storage, dict) and isinstance(storage.get("sqlite"), dict):
        base = _value(storage["sqlite"].get("base_dir", str(home)), f"{where}.sqlite.base_dir", variables)
        return Path(base) / _RUNS / _INDEX
    got = ", ".join(map(str, storage)) if isinstance(storage, dict) else repr(storage)
    raise EventLogLocationError(
        f"{where} must be postgres or sqlite for this reader, got {got}: give the event log's postgresql:// URL instead"
    )


def _legacy(home: Path, storage: Any, variables: Mapping[str, str]) -> Path | str:
    """Read the older `event_log_storage: {module, class, config}`."""
    kind = storage.get("class") if isinstance(storage, dict) else None
    where = f"{home / 'dagster.yaml'}: event_log_storage"
    config = storage.get("config") or {} if kind else {}
    if kind == "PostgresEventLogStorage":
        return _postgres(config, f"{where}.config", variables)
    if kind == "SqliteEventLogStorage":
        base = _value(config.get("base_dir", str(home / _RUNS)), f"{where}.config.base_dir", variables)
        return Path(base) / _INDEX
    raise EventLogLocationError(f"{where} must be PostgreSQL's or SQLite's for this reader, got class {kind!r}")


def _postgres(config: Mapping[str, Any], where: str, variables: Mapping[str, str]) -> str:
    if "postgres_url" in config:
        url = _value(config["postgres_url"], f"{where}.postgres_url", variables)
        if not is_postgres(url):
            raise EventLogLocationError(f"{where}.postgres_url must start with postgresql://")
        return url
    database = config.get("postgres_db")
    if not isinstance(database, dict):
        raise EventLogLocationError(
            f"{where} must have postgres_url or postgres_db, got {', '.join(map(str, config)) or 'neither'}"
        )
    params = database.get("params") or {}
    parts = {
        name: _value(value, f"{where}.postgres_db.{name}", variables)
        for name, value in database.items()
        if name != "params"
    }
    user = quote(parts.get("username", ""), safe="")
    password = f":{quote(parts['password'], safe='')}" if parts.get("password") else ""
    host, port, name = parts.get("hostname", ""), parts.get("port", "5432"), quote(parts.get("db_name", ""), safe="")
    query = f"?{urlencode({key: str(value) for key, value in params.items()}, quote_via=quote)}" if params else ""
    return f"postgresql://{user}{password}@{host}:{port}/{name}{query}"


def _value(value: Any, where: str, variables: Mapping[str, str]) -> str:
    """Return a literal, or what `{env: NAME}` refers to."""
    if not isinstance(value, dict):
        return str(value)
    variable = value.get("env")
    if variable is None or variables.get(str(variable)) is None:
        raise EventLogLocationError(f"{where} is taken from the environment variable {variable}, which is not set")
    return variables[str(variable)]
