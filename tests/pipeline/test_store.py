"""Uploads are bounded, retried, and never half claimed; tests/e2e/test_stores.py has what every server has to do."""

import asyncio
import socket
import threading
from typing import Any

import pyarrow as pa
import pytest
from obstore.store import MemoryStore

from dagfusion_pipeline import store as store_module
from dagfusion_pipeline.errors import ArchivedObjectError, ConfigurationError, StoreError
from dagfusion_pipeline.store import ObjectStore, ObjectVersion, StoredObject
from tests.archive import archive


def put_all(
    store: ObjectStore, objects: dict[str, bytes], concurrency: int = 4, max_bytes: int = 1 << 20
) -> dict[str, StoredObject]:
    stored: dict[str, StoredObject] = {}
    with store.uploads(concurrency, max_bytes) as uploads:
        for key, content in objects.items():
            uploads.put(key, pa.py_buffer(content), lambda one: stored.__setitem__(one.key, one))
    return stored


def memory() -> ObjectStore:
    return ObjectStore(MemoryStore(), "memory://lake")


def test_number_and_bytes_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: list[int] = []
    most = {"objects": 0, "bytes": 0}

    async def slow(_store: ObjectStore, key: str, content: pa.Buffer) -> StoredObject:
        busy.append(content.size)
        most["objects"] = max(most["objects"], len(busy))
        most["bytes"] = max(most["bytes"], sum(busy))
        await asyncio.sleep(0.002)
        busy.remove(content.size)
        return await original(memory(), key, content)

    original = ObjectStore.put
    monkeypatch.setattr(ObjectStore, "put", slow)
    assert len(put_all(memory(), {str(n): b"x" * 10 for n in range(100)}, concurrency=8, max_bytes=1000)) == 100
    assert 1 < most["objects"] <= 8
    most["bytes"] = 0
    assert len(put_all(memory(), {str(n): b"x" * 10 for n in range(100)}, concurrency=8, max_bytes=40)) == 100
    assert most["bytes"] <= 40


def test_one_object_may_be_larger_than_the_bound() -> None:
    assert put_all(memory(), {"a": b"x" * 100, "b": b"x"}, max_bytes=10).keys() == {"a", "b"}


def test_failure_is_raised_once_and_ends_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_store: ObjectStore, key: str, content: pa.Buffer) -> StoredObject:
        if key == "7":
            raise StoreError(f"no {key}")
        return await original(memory(), key, content)

    original = ObjectStore.put
    monkeypatch.setattr(ObjectStore, "put", fail)
    with pytest.raises(StoreError, match=r"^no 7$"):
        put_all(memory(), {str(n): b"x" for n in range(1000)})
    assert "dagfusion-store" not in {thread.name for thread in threading.enumerate()}


def test_error_of_the_caller_gives_up_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_store: ObjectStore, _key: str, _content: pa.Buffer) -> StoredObject:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(ObjectStore, "put", never)

    def interrupted() -> None:
        with memory().uploads(8) as uploads:
            for n in range(4):
                uploads.put(str(n), pa.py_buffer(b"x"), lambda _stored: None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert "dagfusion-store" not in {thread.name for thread in threading.enumerate()}


def test_works_inside_an_event_loop() -> None:
    async def notebook() -> int:
        store = memory()
        put_all(store, {"a": b"x"})  # a notebook's cell is synchronous code inside a loop
        return len(store.read_many(["a"], 1))

    assert asyncio.run(notebook()) == 1


def test_server_that_is_gone_is_named(s3_fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_RETRIES", {"max_retries": 1})
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    gone = ObjectStore.s3(**{**s3_fields, "endpoint_url": endpoint})
    with pytest.raises(StoreError, match=r"could not write s3://lake/a: .*check the bucket, the endpoint") as failed:
        put_all(gone, {"a": b"x"})
    assert "\n" not in str(failed.value)
    with pytest.raises(StoreError, match="could not read s3://lake/a: "):
        gone.read_many(["a"], 1)


def test_wrong_key_is_told_without_the_secret(s3_fields: dict[str, Any]) -> None:
    other = ObjectStore.s3(**{**s3_fields, "secret_access_key": "a-wrong-secret"})
    with pytest.raises(StoreError, match="could not write s3://lake/a: ") as failed:
        put_all(other, {"a": b"x"})
    assert "a-wrong-secret" not in str(failed.value) + str(failed.value.__cause__)
    assert "a-wrong-secret" not in repr(other)


@pytest.mark.parametrize(
    "keys",
    [
        {"access_key_id": "a"},
        {"secret_access_key": "b"},
        {"access_key_id": "a", "session_token": "c"},
    ],
)
def test_half_a_key_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="access_key_id and secret_access_key must be set together"):
        ObjectStore.s3("lake", **keys)


def test_a_token_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="session_token is of a temporary access key"):
        ObjectStore.s3("lake", session_token="c")


def test_no_credentials_at_all_are_told() -> None:
    with pytest.raises(ConfigurationError, match="no AWS credentials were found: set access_key_id"):
        ObjectStore.s3("lake")


def test_default_chain_is_used_without_keys(s3_fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_fields["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_fields["secret_access_key"])
    store = ObjectStore.s3("lake", endpoint_url=s3_fields["endpoint_url"], region=s3_fields["region"])
    assert put_all(store, {"store/chain": b"x"}).keys() == {"store/chain"}


def test_an_archived_object_is_an_error_of_its_own() -> None:
    with archive() as endpoint:
        keys = {"access_key_id": "k", "secret_access_key": "s"}
        store = ObjectStore.s3("lake", endpoint_url=endpoint, region="eu-central-1", **keys)
        stored = asyncio.run(store.put("orders.parquet", pa.py_buffer(b"rows")))
        said = "s3://lake/orders.parquet is in an archive storage class such as GLACIER.*restore it"
        with pytest.raises(ArchivedObjectError, match=said):
            store.read_many(["orders.parquet"], 1)
        with pytest.raises(ArchivedObjectError, match=said):
            store.read_versions([ObjectVersion(stored.key, stored.etag or "", stored.size_bytes)], 1)
