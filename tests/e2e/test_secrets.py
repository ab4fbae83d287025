"""The service with all of its secrets in Secrets Manager, and a rotation of each while it is queried."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import psutil
import psycopg
import pytest

from dagfusion_client.errors import UnauthenticatedError
from dagfusion_query import connect
from dagfusion_query.access.authentication import Tokens
from tests.e2e.lake import EXTRACTS, TABLES, Lake
from tests.e2e.services import Services
from tests.server.processes.process import Server, cmdline, served

READER = "rotated_reader"
COUNT = f"select count(npi) as n from {TABLES[EXTRACTS]}"
PARTITIONS = f"select count(distinct state) as n from {TABLES[EXTRACTS]}"
CONFIGURATION = """
[service]
tokens = "secretsmanager://tokens"

[environments.local]
event_log = "secretsmanager://database#url"
s3_bucket = "{bucket}"
aws_access_key_id = "secretsmanager://store#id"
aws_secret_access_key = "secretsmanager://store#secret"
"""


@dataclass
class Secrets:
    """The secrets of a deployment, and all values that they had."""

    client: Any
    lake: Lake
    given: list[str]

    def put(self, name: str, text: str) -> None:
        try:
            self.client.create_secret(Name=name, SecretString=text)
        except self.client.exceptions.ResourceExistsException:
            self.client.put_secret_value(SecretId=name, SecretString=text)

    def rotate_password(self, password: str) -> None:
        """What a rotation function does: the database first, and then the secret; and all sessions end."""
        self.given.append(password)
        with psycopg.connect(self.lake.event_log, autocommit=True) as connection:
            connection.execute(f"alter role {READER} password '{password}'".encode())
            parts = urlsplit(self.lake.event_log)
            address = f"{parts.hostname}:{parts.port}"
            self.put("database", json.dumps({"url": f"postgresql://{READER}:{password}@{address}{parts.path}"}))
            connection.execute(
                f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{READER}'".encode()
            )

    def rotate_keys(self, number: int) -> None:
        keys = {"id": f"rotated-key-id-{number}", "secret": f"rotated-secret-key-{number}"}
        self.given += keys.values()
        self.put("store", json.dumps(keys))


@pytest.fixture
def secrets(services: Services, request: pytest.FixtureRequest) -> Iterator[Secrets]:
    if services.name != "containers":
        pytest.skip("only LocalStack has Secrets Manager")
    small: Lake = request.getfixturevalue("small")
    client = boto3.client(
        "secretsmanager",
        endpoint_url=small.variables["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    with psycopg.connect(small.event_log, autocommit=True) as connection:
        connection.execute(f"create role {READER} login".encode())
        connection.execute(f"grant pg_read_all_data to {READER}".encode())
    made = Secrets(client, small, [])
    made.rotate_password("first-rotated-password")
    made.rotate_keys(1)
    yield made
    with psycopg.connect(small.event_log, autocommit=True) as connection:
        connection.execute(f"revoke pg_read_all_data from {READER}".encode())
        connection.execute(f"drop role {READER}".encode())
    client.close()


@pytest.fixture
def token(secrets: Secrets, tmp_path: Path) -> str:
    tokens = Tokens(tmp_path / "tokens" / "tokens.json")
    created = tokens.create("ann", ["local"])
    secrets.put("tokens", tokens.path.read_text())
    return created


@pytest.fixture
def server(secrets: Secrets, token: str, tmp_path: Path) -> Iterator[Server]:  # noqa: ARG001  # there must be a token
    (tmp_path / "dagfusion.toml").write_text(CONFIGURATION.format(bucket=secrets.lake.bucket))
    variables = {name: value for name, value in secrets.lake.variables.items() if name.startswith("AWS_")}
    with served(tmp_path, variables={**variables, "DAGFUSION_ANONYMOUS": "never"}) as server:
        yield server


def test_rotations_are_survived_without_a_failed_query(secrets: Secrets, server: Server, token: str) -> None:
    failed: list[str] = []
    answered, over = threading.Semaphore(0), threading.Event()

    def query() -> None:
        with server.client(token) as client:
            while not over.is_set():
                answer = client.post("/v1/sql", json={"sql": COUNT, "format": "json"})
                if answer.status_code != httpx.codes.OK:
                    failed.append(answer.text)
                answered.release()

    thread = threading.Thread(target=query)
    thread.start()
    try:
        for number in range(2):
            assert answered.acquire(timeout=60)
            secrets.rotate_password(f"rotated-password-{number}")
            secrets.rotate_keys(number + 2)
            assert answered.acquire(timeout=60)
    finally:
        over.set()
        thread.join()
    assert failed == []

    before = secrets.lake.connect().sql(PARTITIONS).to_arrow()["n"][0].as_py()
    assert secrets.lake.materialize(EXTRACTS, "2024-01-01|AR", "2024-01-01|AR")
    with connect(server.url, token=token, settings={}) as connection:
        connection.refresh()  # with the new password
        assert connection.sql(PARTITIONS).to_arrow()["n"][0].as_py() == before + 1
    assert_nothing_shows(secrets, server, token)


def assert_nothing_shows(secrets: Secrets, server: Server, token: str) -> None:
    said = server.log.read_text() + server.said.read_text()
    processes = [psutil.Process(server.process.pid), *server.workers()]
    assert len(processes) > 1
    for process in processes:
        said += " ".join([*cmdline(process), *process.environ().values()])
        assert process.rlimit(psutil.RLIMIT_CORE) in [(1, 1), (0, 0)]  # the latter where nobody may raise it
    assert [secret for secret in (*secrets.given, token) if secret in said] == []


def test_a_client_takes_its_token_from_a_secret(
    secrets: Secrets, server: Server, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in secrets.lake.variables.items():
        monkeypatch.setenv(name, value)
    secrets.put("client", json.dumps({"token": token, "old": "dft_old"}))
    for url in (server.url, server.flight_url):
        with connect(url, token="secretsmanager://client#token", settings={}) as connection:
            assert connection.sql("select 1 as n").to_arrow()["n"].to_pylist() == [1]
        old = connect(url, token="secretsmanager://client#old", settings={})
        with old, pytest.raises(UnauthenticatedError):
            old.sql("select 1").to_arrow()


def test_the_io_managers_take_their_keys_from_a_secret(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in secrets.lake.variables.items():
        monkeypatch.setenv(name, value)
    references = {
        "AWS_ACCESS_KEY_ID": "secretsmanager://store#id",
        "AWS_SECRET_ACCESS_KEY": "secretsmanager://store#secret",
    }
    lake = Lake(
        secrets.lake.instance, secrets.lake.event_log, {**secrets.lake.variables, **references}, secrets.lake.s3
    )
    assert lake.materialize(EXTRACTS, "2024-01-01|CA", "2024-01-01|CA")
    with lake.connect() as connection:
        assert connection.sql(f"{COUNT} where state = 'CA'").to_arrow()["n"][0].as_py() > 0
