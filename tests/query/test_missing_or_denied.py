"""Objects that are gone, and objects that may not be read, of a role to which S3 answers both with 403."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from dagfusion_client.errors import SnapshotError, StaleObjectError, StoreUnavailableError
from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.metadata_writer import MetadataWriter
from dagfusion_query.catalog.checkpoint import CheckpointStore
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.snapshot import Stored
from dagfusion_query.discovery.foreign_objects import ForeignObjects, ObjectMissingError, Place, TemporaryReadError
from dagfusion_query.event_log.event_log_interface import Cursor, Watermark
from dagfusion_query.object_store import is_absent, open_store
from dagfusion_query.settings import Settings
from dagfusion_stack.object_store import Credentials, ObjectStore
from tests.contract.records import file_record
from tests.query.catalog.folding import EMPTY, written
from tests.query.engine.stored_lake import SUM, StoredLake, numbers
from tests.refusing import Refusing, refusing

KEYS = ["tables/a/data.parquet", "tables/a/b=1/ü d.parquet", "tables/.a", "tables/x"]
PLACE = Place("s3://lake/", "tables/Silver/orders/data.parquet")


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Refusing]:
    with refusing("tables/", tmp_path.name) as running:
        yield running


@pytest.fixture
def settings(bucket: Refusing) -> Settings:
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-2"}
    return Settings.read({**keys, "AWS_ENDPOINT_URL": bucket.endpoint, "DAGFUSION_EVENT_LOG": "-"})


@pytest.fixture
def store(settings: Settings) -> Any:
    return open_store("s3://lake/", settings, connect_timeout="5s", timeout="30s")


def refusal(store: Any, key: str) -> Exception:
    with pytest.raises(PermissionDeniedError) as refused:
        obstore.head(store, key)
    return refused.value


@pytest.mark.parametrize("key", KEYS)
def test_what_a_listing_lacks_is_absent(bucket: Refusing, store: Any, key: str) -> None:
    assert is_absent(store, key, refusal(store, key))
    bucket.objects |= dict.fromkeys(["tables/0", *KEYS, "tables/z"], b"x")
    bucket.denied.add(key)
    assert not is_absent(store, key, refusal(store, key))
    del bucket.objects[key]
    assert is_absent(store, key, refusal(store, key))


@pytest.mark.parametrize("key", ["others/data.parquet", "data.parquet"])
def test_what_cannot_be_listed_is_not_absent(store: Any, key: str) -> None:
    assert not is_absent(store, key, refusal(store, key))


def test_a_listing_ends_behind_the_object(bucket: Refusing, store: Any) -> None:
    bucket.objects |= {f"tables/{number:05}": b"x" for number in range(3_000)}
    key = "tables/00700-"
    assert is_absent(store, key, refusal(store, key))
    assert bucket.listings == ["tables/"]


@pytest.mark.parametrize("key", ["/tables/x", "/tables/a/data.parquet"])
def test_a_leading_slash_is_no_part_of_a_key(bucket: Refusing, store: Any, key: str) -> None:
    assert is_absent(store, key, refusal(store, key))
    bucket.objects[key[1:]] = b"x"
    bucket.denied.add(key[1:])
    assert not is_absent(store, key, refusal(store, key))


def test_a_listing_is_read_page_by_page(bucket: Refusing, store: Any) -> None:
    bucket.objects |= {f"tables/{number:05}": b"x" for number in range(2_500)}
    assert is_absent(store, "tables/x", refusal(store, "tables/x"))
    assert len(bucket.listings) == 3
    bucket.objects |= {"tables/x": b"x", "tables/y": b"x"}
    bucket.denied.add("tables/x")
    assert not is_absent(store, "tables/x", refusal(store, "tables/x"))
    assert len(bucket.listings) == 6


def test_other_errors_are_not_asked_about(bucket: Refusing, store: Any) -> None:
    for error in (BaseError("timeout"), UnauthenticatedError("401")):
        assert not is_absent(store, KEYS[0], error)
    archived = PermissionDeniedError("<Code>InvalidObjectState</Code>")
    assert not is_absent(store, KEYS[0], archived)
    assert bucket.listings == []


class TestQueries:
    """Both ways in which a query reads an object."""

    @pytest.fixture(params=[1 << 20, 1], ids=["copied", "in place"])
    def lake(self, request: pytest.FixtureRequest, tmp_path: Path, bucket: Refusing) -> Iterator[StoredLake]:
        child: Any = None  # no process: only the keys are asked for
        server = ObjectStore(child, 0, {}, Credentials("k", "s"))
        lake = StoredLake(tmp_path, server, bucket.endpoint, object_cache_object_bytes=request.param)
        for number in range(3):
            lake.put(str(number), numbers(number))
        yield lake
        lake.engine.close()

    def test_an_object_that_is_there_needs_no_listing(self, bucket: Refusing, lake: StoredLake) -> None:
        assert lake.rows(SUM) == [{"n": 45 + 55 + 65}]
        assert bucket.listings == []

    def test_an_object_that_is_gone_is_stale(self, bucket: Refusing, lake: StoredLake) -> None:
        (key,) = (key for key in bucket.objects if "p=1/" in key)
        del bucket.objects[key]
        with pytest.raises(StaleObjectError, match=r"p=1/data.parquet .* is gone from the object store"):
            lake.rows(SUM)

    def test_an_object_that_is_denied_is_unavailable(self, bucket: Refusing, lake: StoredLake) -> None:
        bucket.denied |= {key for key in bucket.objects if "p=1/" in key}
        with pytest.raises(StoreUnavailableError, match=r"did not give s3://lake/.*p=1/data.parquet"):
            lake.rows(SUM)

    def test_an_object_that_goes_while_it_is_read_in_place_is_stale(self, bucket: Refusing, lake: StoredLake) -> None:
        bucket.leaving = True  # a copy is made by one GET, and the object is not looked at after it
        if lake.settings.object_cache_object_bytes > 1:
            assert lake.rows(SUM) == [{"n": 45 + 55 + 65}]
        else:
            with pytest.raises(StaleObjectError, match="is gone from the object store"):
                lake.rows(SUM)


def test_discovery_tells_a_missing_object_from_a_denied_one(bucket: Refusing, settings: Settings) -> None:
    with pytest.raises(ObjectMissingError):
        ForeignObjects(settings).tail(PLACE)
    bucket.objects[PLACE.key] = b"x"
    bucket.denied.add(PLACE.key)
    with pytest.raises(TemporaryReadError, match="does not let this service read"):
        ForeignObjects(settings).tail(PLACE)


def test_metadata_of_iceberg_that_is_missing_is_told_from_denied(bucket: Refusing, settings: Settings) -> None:
    name = TableName("uat_silver", "orders")
    writer = MetadataWriter("s3://lake/tables/_iceberg", settings)
    assert writer.read(name, "1.metadata.json") is None
    key = writer.uri(name, "1.metadata.json").removeprefix("s3://lake/")
    bucket.objects[key] = b"x"
    bucket.denied.add(key)
    with pytest.raises(StoreUnavailableError):
        writer.read(name, "1.metadata.json")
    writer.close()


def test_a_checkpoint_that_is_missing_is_told_from_a_denied_one(bucket: Refusing, store: Any) -> None:
    checkpoint = CheckpointStore(lambda: store, "s3://lake/tables/_catalog")
    assert checkpoint.head() is None
    key = "tables/_catalog/checkpoint.json"
    bucket.objects[key] = b"x"
    bucket.denied.add(key)
    with pytest.raises(StoreUnavailableError):
        checkpoint.head()


def test_rows_of_a_checkpoint_that_are_missing_are_told_from_denied_ones(bucket: Refusing, store: Any) -> None:
    checkpoint = CheckpointStore(lambda: store, "s3://lake/tables/_catalog")
    snapshot = fold(EMPTY, [written(file_record(), 1)])
    head = checkpoint.write(Stored(snapshot, Cursor(Watermark(1, 1, 1), {}), "log"), None)
    assert head is not None
    (key,) = (key for key in bucket.objects if "/rows/" in key)
    bucket.denied.add(key)
    with pytest.raises(StoreUnavailableError):
        checkpoint.load(head, "uat")
    del bucket.objects[key]
    with pytest.raises(SnapshotError, match=r"rows/.* is gone"):
        checkpoint.load(head, "uat")
