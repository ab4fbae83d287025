"""Objects that are replaced only if they are unchanged, and a look at single ones, on a real S3 server."""

import asyncio
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_pipeline.erase import erase_rows
from dagfusion_pipeline.erasure_keys import Keys
from dagfusion_pipeline.replacing import ReplacedError, ReplacingStore, found_objects
from dagfusion_pipeline.store import ObjectStore, checksum
from tests.pipeline.in_memory import STORE, Hive
from tests.pipeline.test_erase import KEY, RUN, latest, write

pytestmark = pytest.mark.usefixtures("heavy")


def put(store: ObjectStore, key: str, content: bytes) -> str:
    with store.uploads(1) as uploads:
        uploads.put(key, pa.py_buffer(content), lambda _: None)
    (found,) = found_objects(store, [key], 1)
    assert found is not None
    return str(found.etag)


def replace(store: ObjectStore, key: str, etag: str, content: bytes) -> Any:
    return asyncio.run(ReplacingStore(store.client, store.root, {key: etag}).put(key, pa.py_buffer(content)))


def text(store: ObjectStore, key: str) -> bytes:
    (content,) = store.read_many([key], 1)
    assert content is not None
    return bytes(content)


@pytest.fixture
def key(fields: dict[str, Any]) -> str:
    return f"{fields['prefix']}/one"


def test_a_server_replaces_only_the_version_that_was_read(store: ObjectStore, key: str) -> None:
    first = put(store, key, b"first")
    written = replace(store, key, first, b"second")
    assert (text(store, key), written.size_bytes, written.checksum) == (b"second", 6, checksum(b"second"))
    (found,) = found_objects(store, [key], 1)
    assert found is not None
    assert found.etag == written.etag != first
    with pytest.raises(ReplacedError):
        replace(store, key, first, b"third")
    assert text(store, key) == b"second"


def test_a_server_does_not_make_an_object_that_is_gone(store: ObjectStore, key: str) -> None:
    etag = put(store, key, b"first")
    store.delete_objects([key])
    with pytest.raises(ReplacedError):
        replace(store, key, etag, b"second")
    assert found_objects(store, [key], 1) == [None]


def test_single_objects_are_found_in_the_order_of_their_keys(store: ObjectStore, key: str) -> None:
    put(store, f"{key}/b", b"12")
    put(store, f"{key}/ü d=1", b"123")
    found = found_objects(store, [f"{key}/{name}" for name in ("a", "b", "c", "ü d=1")], 2)
    assert [None if one is None else one.size_bytes for one in found] == [None, 2, None, 3]
    assert found_objects(store, [], 4) == []


def test_an_erasure_on_a_server(instance: dg.DagsterInstance, hive: PartitionedS3ParquetIOManager) -> None:
    write(instance, hive)
    before = latest(instance)
    proof = erase_rows(instance, hive, KEY, Keys("id", ["3"]), run_id=RUN)
    assert [(one.partition, one.rows_removed) for one in proof.rewritten] == [("a", 1), ("b", 1), ("d", 1)]
    assert proof.still_held == []
    after = {letter: event.metadata["dagfusion/file"].data for letter, event in latest(instance).items()}
    for one in proof.rewritten:
        record = after[str(one.partition)]
        assert one.old_version[0] == before[str(one.partition)].metadata["dagfusion/file"].data["etag"]
        assert one.new_version == (record["etag"], record["checksum"])
        (found,) = found_objects(hive.object_store, [record["uri"].removeprefix(hive.object_store.uri(""))], 1)
        assert found is not None
        assert (found.etag, found.size_bytes) == (record["etag"], record["size_bytes"])
    assert erase_rows(instance, hive, KEY, Keys("id", ["3"]), run_id=RUN).rows_removed == 0


def test_objects_outside_of_the_listing_are_in_the_proof_as_long_as_they_are_there(
    instance: dg.DagsterInstance,
) -> None:
    """After the prefix was changed, the objects before are below another one, which an erasure does not list."""
    before, after = (Hive(bucket="lake", prefix=prefix) for prefix in ("outside-before", "outside-after"))
    write(instance, before)
    old = {letter: event.metadata["dagfusion/file"].data["uri"] for letter, event in latest(instance).items()}
    write(instance, after)
    STORE.delete_objects([old["b"].removeprefix(STORE.uri(""))])
    proof = erase_rows(instance, after, KEY, Keys("id", ["3"]), run_id=RUN)
    assert {one.uri for one in proof.still_held} == {old["a"], old["d"]}, "c has none of the keys, and b is gone"
