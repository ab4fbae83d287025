"""S3 keys in secrets, before and after a rotation, at a server that refuses wrong keys."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionContext

from dagfusion_client import secrets_manager
from dagfusion_client.errors import MissingExtraError, SecretUnavailableError
from dagfusion_contract.secret_reference import SecretValues
from dagfusion_query.engine.runtime import Stores
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings
from dagfusion_stack import object_store
from dagfusion_stack.object_store import ObjectStore

URI = "s3://lake/one.parquet"


class Client:
    keys: dict[str, str]

    def get_secret_value(self, **_: str) -> dict[str, str]:
        return {"SecretString": json.dumps(self.keys)}


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path]) -> Iterator[ObjectStore]:
    with object_store.running(server_folder("s3"), buckets=["lake"]) as server:
        content = io.BytesIO()
        pq.write_table(pa.table({"n": [1, 2, 3]}), content)
        obstore.put(server.bucket("lake"), "one.parquet", content.getvalue())
        yield server


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def client(server: ObjectStore, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    client.keys = {"id": server.credentials.access_key_id, "secret": server.credentials.secret_access_key}
    monkeypatch.setattr(secrets_manager, "SECRETS", SecretValues(lambda _: client, lambda: clock[0]))
    return client


@pytest.fixture
def settings(server: ObjectStore) -> Settings:
    return Settings(
        endpoint_url=server.endpoint,
        region="us-east-1",
        access_key_id="secretsmanager://store#id",
        secret_access_key="secretsmanager://store#secret",
    )


def rows(stores: Stores) -> int:
    context = SessionContext()
    stores.register(context, "local", "s3://lake/")
    return context.read_parquet(URI).count()


def test_both_kinds_of_clients_use_the_keys_of_now(client: Client, clock: list[float], settings: Settings) -> None:
    stores = Stores({"local": settings})
    right, wrong = client.keys, {"id": "wrong-key-id", "secret": "wrong-secret-key"}
    client.keys = wrong
    with pytest.raises(Exception, match=r"InvalidAccessKeyId|Access ?Denied|403"):
        rows(stores)
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.head(open_store("s3://lake/", settings, connect_timeout="5s", timeout="5s"), "one.parquet")
    client.keys = right
    clock[0] = 61.0
    assert rows(stores) == 3
    assert stores.head(URI, "local")["size"] > 0


def test_a_secret_that_is_not_there_is_told(client: Client, settings: Settings) -> None:
    client.keys = {}
    with pytest.raises(SecretUnavailableError, match="secretsmanager://store#id has no value"):
        rows(Stores({"local": settings}))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setattr(
        secrets_manager, "SECRETS", SecretValues(lambda _: secrets_manager.aws_client("secretsmanager"))
    )
    with pytest.raises(MissingExtraError, match=r"needs boto3, .* pip install 'dagfusion-query\[aws\]'"):
        rows(Stores({"local": settings}))
