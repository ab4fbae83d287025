"""A database whose password is in Secrets Manager, and is rotated while the event log is read."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagfusion_client.errors import EventLogLocationError, EventLogUnavailableError, SettingsError
from dagfusion_contract.secret_reference import SecretReference, SecretValues
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.postgres import PostgresEventLog
from dagfusion_query.event_log.secret_url import SecretUrl
from dagfusion_stack import postgres

READER = "rotated_reader"
REFERENCE = SecretReference("db", "url")
TLS_REQUEST = bytes.fromhex("00000008 04d2162f")  # of PostgreSQL's protocol


@dataclass
class Database:
    """A server that wants the password of `READER`, and the secret that has it."""

    url: str
    folder: Path
    current: str = ""
    pending: str | None = None
    calls: list[str] = field(default_factory=list)

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> dict[str, Any]:  # noqa: N803  # as boto3 has them
        assert SecretId == REFERENCE.name
        self.calls.append(VersionStage)
        text = self.current if VersionStage == "AWSCURRENT" else self.pending
        if text is None:
            raise KeyError(VersionStage)
        return {"SecretString": text}

    def reader_url(self, password: str) -> str:
        return self.url.replace("postgres@", f"{READER}:{password}@", 1)

    def secret(self, password: str) -> str:
        return json.dumps({"url": self.reader_url(password)})

    def set_password(self, password: str) -> None:
        self.run(f"alter role {READER} password '{password}'")

    def end_sessions(self) -> None:
        self.run(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{READER}'")

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def log(self) -> PostgresEventLog:
        return PostgresEventLog(SecretUrl(REFERENCE, secrets=SecretValues(lambda _: self)))


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path], deployment_class: Any, file_record: Any) -> Iterator[Database]:
    folder = server_folder("postgres")
    with postgres.running(folder) as running:
        running.create_database("dagster")
        database = Database(running.url("dagster"), folder)
        deployment = deployment_class(folder / "home", database.url)
        deployment.report(file_record("CA"))
        database.run(f"create role {READER} login")
        database.run(f"grant pg_read_all_data to {READER}")
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text(f"local all {READER} scram-sha-256\n{rules.read_text()}")
        database.run("select pg_reload_conf()")
        yield database
        deployment.instance.dispose()


@pytest.fixture
def database(server: Database) -> Database:
    server.set_password("first-password")
    server.current, server.pending, server.calls = server.secret("first-password"), None, []
    return server


def test_the_secret_is_read_when_it_is_needed(database: Database) -> None:
    log = database.log()
    assert database.calls == []
    log.identity()
    database.end_sessions()
    log.identity()
    assert database.calls == ["AWSCURRENT"], "a password that works is not asked for again"
    log.close()


def test_a_rotation_is_survived_without_an_error(database: Database) -> None:
    log = database.log()
    cursor = log.read_all(lambda _: None)
    for number in range(3):
        database.set_password(f"rotated-{number}")
        database.current = database.secret(f"rotated-{number}")
        assert log.poll(cursor).full_read_reason is None, "a session outlives its password"
        database.end_sessions()
        assert log.poll(cursor).full_read_reason is None
        log._database._secret._read_at = 0  # type: ignore[union-attr]  # as if the next rotation came days later
    log.close()


def test_the_next_password_is_tried_while_a_rotation_is_under_way(database: Database) -> None:
    log = database.log()
    log.identity()
    database.set_password("next-password")
    database.pending = database.secret("next-password")
    database.end_sessions()
    log.identity()
    assert database.calls == ["AWSCURRENT", "AWSCURRENT", "AWSPENDING"]
    log.close()


def test_a_wrong_password_is_told_without_it_and_not_asked_for_at_each_try(database: Database) -> None:
    database.set_password("unknown-password")
    log = database.log()
    for _ in range(3):
        with pytest.raises(EventLogUnavailableError, match=f"postgresql://{READER}@") as raised:
            log.identity()
        chain: BaseException | None = raised.value
        while chain is not None:
            assert "first-password" not in str(chain)
            chain = chain.__cause__ or chain.__context__
    assert len(database.calls) == 3
    log.close()


def test_a_secret_of_rds_has_parts(database: Database) -> None:
    password = "p@ss/w:rd?#%"
    database.set_password(password)
    host = str(psycopg.conninfo.conninfo_to_dict(database.url)["host"])
    parts = {"engine": "postgres", "host": host, "port": 5432, "username": READER, "dbname": "dagster"}
    database.current = json.dumps({**parts, "password": password})
    log = PostgresEventLog(SecretUrl(SecretReference("db"), secrets=SecretValues(lambda _: database)))
    assert log.identity()
    log.close()


@dataclass
class Parts:
    """A secret of RDS whose host is a server that refuses TLS, and what this server is sent."""

    more: dict[str, object]
    port: int = 0
    received: bytes = b""

    def get_secret_value(self, **_: str) -> dict[str, str]:
        database = {"host": "127.0.0.1", "port": self.port, "dbname": "dagster"}
        return {"SecretString": json.dumps({**database, "username": READER, "password": "p", **self.more})}

    def connect(self) -> None:
        log = PostgresEventLog(SecretUrl(SecretReference("db"), secrets=SecretValues(lambda _: self)))
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(10)
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=self._refuse, args=[server])
            thread.start()
            with pytest.raises(EventLogUnavailableError):
                log.identity()
            thread.join()
        log.close()

    def _refuse(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            self.received = connection.recv(1024)
            if self.received == TLS_REQUEST:
                connection.sendall(b"N")
                self.received = connection.recv(1024)


@pytest.mark.parametrize(
    ("more", "variable", "is_plain"),
    [
        ({}, None, False),
        ({}, "", False),
        ({}, "verify-full", False),
        ({}, "prefer", True),
        ({"sslmode": "require"}, "prefer", False),
        ({"sslmode": "prefer"}, "require", True),
        ({"sslmode": "disable"}, None, True),
    ],
)
def test_a_secret_of_rds_is_used_over_tls_only_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: dict[str, object], variable: str | None, *, is_plain: bool
) -> None:
    (tmp_path / "root.crt").touch()
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "root.crt"))
    if variable is not None:
        monkeypatch.setenv("PGSSLMODE", variable)
    parts = Parts(more)
    parts.connect()
    assert (READER.encode() in parts.received) == is_plain


@pytest.mark.parametrize("mode", ["hidden-text", "", None, 1, ["require"]])
def test_an_unknown_sslmode(mode: object) -> None:
    log = PostgresEventLog(SecretUrl(SecretReference("db"), secrets=SecretValues(lambda _: Parts({"sslmode": mode}))))
    with pytest.raises(EventLogLocationError, match="must be one of disable, allow") as raised:
        log.identity()
    assert "hidden-text" not in str(raised.value)


@pytest.mark.parametrize("text", ["hidden-text", '{"host": "hidden-text"}', "mysql://hidden-text@a/b", "[]"])
def test_a_secret_without_a_url_is_told_without_its_text(text: str) -> None:
    class Client:
        def get_secret_value(self, **_: str) -> dict[str, str]:
            return {"SecretString": text}

    log = PostgresEventLog(SecretUrl(SecretReference("db"), secrets=SecretValues(lambda _: Client())))
    with pytest.raises(
        EventLogLocationError, match=r"secret secretsmanager://db must be a postgresql:// URL"
    ) as raised:
        log.identity()
    assert "hidden-text" not in str(raised.value)


def test_a_location_may_be_a_secret() -> None:
    log = open_event_log("secretsmanager://prod/dagfusion#url")
    assert isinstance(log, PostgresEventLog)
    with pytest.raises(SettingsError, match="must be secretsmanager://name"):
        open_event_log("secretsmanager://")
