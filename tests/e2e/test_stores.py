"""Every S3 server that the IO managers write to behaves alike: the embedded one, and LocalStack."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import obstore
import pyarrow as pa
import pytest

from dagfusion_pipeline.errors import StoreError
from dagfusion_pipeline.store import ObjectStore, StoredObject
from tests.e2e.lake import client
from tests.e2e.services import EVERY_PROVIDER
from tests.e2e.services import ObjectStore as Server

BUCKET = "stores"
pytestmark = pytest.mark.parametrize("services", EVERY_PROVIDER, indirect=True, scope="session")


@pytest.fixture(scope="module")
def environ(object_store: Server) -> Mapping[str, str]:
    variables = object_store.environ()
    s3 = client(variables)
    s3.create_bucket(Bucket=BUCKET)
    s3.close()
    return variables


@pytest.fixture
def store(environ: Mapping[str, str]) -> ObjectStore:
    return connected(environ, BUCKET)


def connected(environ: Mapping[str, str], bucket: str) -> ObjectStore:
    return ObjectStore.s3(
        bucket,
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        region=environ["AWS_REGION"],
        access_key_id=environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
    )


def put_all(store: ObjectStore, objects: dict[str, bytes]) -> dict[str, StoredObject]:
    stored: dict[str, StoredObject] = {}
    with store.uploads(4, 1 << 20) as uploads:
        for key, content in objects.items():
            uploads.put(key, pa.py_buffer(content), lambda one: stored.__setitem__(one.key, one))
    return stored


def test_objects_come_back(store: ObjectStore) -> None:
    objects = {f"store/back/{n}": bytes([n]) * n for n in range(1, 40)}
    stored = put_all(store, objects)
    assert {key: one.size_bytes for key, one in stored.items()} == {key: len(value) for key, value in objects.items()}
    read = store.read_many([*objects, "store/back/none"], 3)
    assert [None if one is None else bytes(one) for one in read] == [*objects.values(), None]


def test_facts_are_the_servers(store: ObjectStore) -> None:
    before = datetime.now(UTC).replace(microsecond=0)  # S3's times are whole seconds
    (stored,) = put_all(store, {"store/facts": b"abc"}).values()
    head = obstore.head(store.client, "store/facts")
    assert (stored.etag, stored.size_bytes) == (head["e_tag"], head["size"])
    assert before <= head["last_modified"] <= datetime.now(UTC)
    assert before <= stored.modified <= datetime.now(UTC)
    assert store.uri("store/facts") == "s3://stores/store/facts"


def test_large_objects_are_put_from_their_file(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"0123456789abcdef" * (1 << 20))
    stored: list[StoredObject] = []
    with store.uploads(1) as uploads:
        uploads.put("store/large", path, stored.append)
    assert stored[0].size_bytes == 16 << 20
    (content,) = store.read_many(["store/large"], 1)
    assert content is not None
    assert bytes(content) == path.read_bytes()


def test_keys_are_raw(store: ObjectStore, environ: Mapping[str, str]) -> None:
    key = "store/raw/k=a%2Fb%25 ü+日本&~;,@!$'()|<>/.../data.parquet"
    put_all(store, {key: b"x"})
    s3 = client(environ)
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"
    s3.close()


def test_listing_and_deleting_for_maintenance(store: ObjectStore) -> None:
    put_all(store, {f"store/swept/{n}": b"x" for n in range(5)})
    listed = {found.key: found for found in store.list_objects("store/swept")}
    assert sorted(listed) == [f"store/swept/{n}" for n in range(5)]
    assert listed["store/swept/0"].size_bytes == 1
    store.delete_objects(["store/swept/0", "store/swept/1", "store/swept/never"])
    assert len(list(store.list_objects("store/swept"))) == 3


def test_wrong_bucket_is_no_missing_object(environ: Mapping[str, str]) -> None:
    other = connected(environ, "no-such-bucket")
    with pytest.raises(StoreError, match="could not read s3://no-such-bucket/a"):
        other.read_many(["a"], 1)


def test_a_replaced_object_has_another_version(store: ObjectStore) -> None:
    (first,) = put_all(store, {"store/replaced": b"abc"}).values()
    (second,) = put_all(store, {"store/replaced": b"abd"}).values()
    assert first.etag != second.etag
    assert obstore.get(store.client, "store/replaced", options={"if_match": second.etag}).bytes() == b"abd"
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.get(store.client, "store/replaced", options={"if_match": first.etag})


def test_a_part_of_an_object_is_read_alone(store: ObjectStore) -> None:
    put_all(store, {"store/part": bytes(range(100))})
    assert bytes(obstore.get_range(store.client, "store/part", start=10, length=5)) == bytes(range(10, 15))
