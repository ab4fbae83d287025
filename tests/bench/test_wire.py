"""The relay that counts: on a real S3 server, with the clients that the benchmarks measure."""

from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from benchmarks.wire import GET, HEAD, LIST, RANGED_GET, Meter, metered
from dagfusion_stack import object_store

pytestmark = pytest.mark.embedded

CONTENT = b"0123456789" * 10_000


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path]) -> Iterator[object_store.ObjectStore]:
    with object_store.running(server_folder("s3"), buckets=["lake"]) as running:
        obstore.put(client(running, running.endpoint), "folder/a b.bin", CONTENT)
        yield running


@pytest.fixture
def meter(server: object_store.ObjectStore) -> Iterator[Meter]:
    with metered(server.endpoint) as relay:
        yield relay


def client(server: object_store.ObjectStore, endpoint: str) -> S3Store:
    variables = server.environ()
    return S3Store(
        "lake",
        endpoint=endpoint,
        region=variables["AWS_REGION"],
        access_key_id=variables["AWS_ACCESS_KEY_ID"],
        secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )


def test_nothing_has_happened_yet(meter: Meter) -> None:
    traffic = meter.take()
    assert (traffic.requests, traffic.bytes, traffic.objects) == ({}, {}, frozenset())


def test_requests_are_counted_by_kind(server: object_store.ObjectStore, meter: Meter) -> None:
    store = client(server, meter.endpoint)
    assert bytes(obstore.get(store, "folder/a b.bin").bytes()) == CONTENT
    assert bytes(obstore.get_range(store, "folder/a b.bin", start=10, length=5)) == CONTENT[10:15]
    assert obstore.head(store, "folder/a b.bin")["size"] == len(CONTENT)
    assert [entry["path"] for page in obstore.list(store) for entry in page] == ["folder/a b.bin"]
    traffic = meter.take()
    assert traffic.requests == {GET: 1, RANGED_GET: 1, HEAD: 1, LIST: 1}
    assert traffic.object_bytes == len(CONTENT) + 5
    assert traffic.bytes[LIST] > 0
    assert traffic.objects == {"/lake/folder/a b.bin"}


def test_taking_starts_from_nothing(server: object_store.ObjectStore, meter: Meter) -> None:
    store = client(server, meter.endpoint)
    obstore.head(store, "folder/a b.bin")
    meter.take()
    obstore.head(store, "folder/a b.bin")
    assert meter.take().requests == {HEAD: 1}


def test_a_missing_object_is_a_request_too(server: object_store.ObjectStore, meter: Meter) -> None:
    with pytest.raises(FileNotFoundError):
        obstore.get(client(server, meter.endpoint), "nowhere")
    assert meter.take().requests == {GET: 1}


def test_writes_pass(server: object_store.ObjectStore, meter: Meter, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(b"x" * 3_000_000)
    store = client(server, meter.endpoint)
    obstore.put(store, "large.bin", file, use_multipart=False)
    assert obstore.head(store, "large.bin")["size"] == 3_000_000
    obstore.delete(store, "large.bin")
    assert meter.take().requests["PUT"] == 1
