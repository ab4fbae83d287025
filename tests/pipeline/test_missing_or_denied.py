"""Objects that are gone, and objects that may not be read, of a role to which S3 answers both with 403."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_pipeline.erase import erase_rows
from dagfusion_pipeline.erasure_keys import Keys, read_keys
from dagfusion_pipeline.errors import MissingObjectError, StoreError
from dagfusion_pipeline.repair import repair_asset
from dagfusion_pipeline.replacing import ReplacedError, ReplacingStore, found_objects
from dagfusion_pipeline.store import ObjectStore, ObjectVersion
from tests.pipeline.test_erase import KEY, RUN, latest, people, write
from tests.refusing import Refusing, refusing

KEYS = ["tables/a/data.parquet", "tables/a/b=1/ü d.parquet", "tables/.a", "tables/x"]
READS: dict[str, Callable[[ObjectStore, list[str]], list[Any]]] = {
    "look": lambda store, keys: found_objects(store, keys, 2),
    "look at many": lambda store, keys: store.look_at_many(keys, 2),
    "read": lambda store, keys: store.read_many(keys, 2),
    "read versions": lambda store, keys: store.read_versions([ObjectVersion(key, '"1"', 1) for key in keys], 2),
}
EVERY_READ = pytest.mark.parametrize("read", sorted(READS))


@pytest.fixture
def bucket() -> Iterator[Refusing]:
    with refusing("tables/") as running:
        yield running


@pytest.fixture
def store(bucket: Refusing) -> ObjectStore:
    return ObjectStore.s3(**bucket.fields)


@pytest.fixture
def manager(bucket: Refusing) -> PartitionedS3ParquetIOManager:
    return PartitionedS3ParquetIOManager(**bucket.fields, prefix="tables", file_naming="per_run")


def put(store: ObjectStore, *keys: str) -> None:
    with store.uploads(4) as uploads:
        for key in keys:
            uploads.put(key, pa.py_buffer(b"x"), lambda _: None)


@EVERY_READ
def test_what_a_listing_lacks_is_missing(bucket: Refusing, store: ObjectStore, read: str) -> None:
    assert READS[read](store, KEYS) == [None] * len(KEYS)
    put(store, *(f"{key}-" for key in KEYS), "tables/a/data", "tables/z")
    assert READS[read](store, KEYS) == [None] * len(KEYS)
    assert {prefix.partition("/")[0] for prefix in bucket.listings} == {"tables"}


@EVERY_READ
@pytest.mark.parametrize("key", KEYS)
def test_what_a_listing_has_is_denied(bucket: Refusing, store: ObjectStore, key: str, read: str) -> None:
    put(store, "tables/0", *KEYS, "tables/z")
    bucket.denied.add(key)
    with pytest.raises(StoreError, match=r"s3://lake/tables.*(AccessDenied|403|privileges)") as failed:
        READS[read](store, [key])
    assert type(failed.value) is StoreError


@EVERY_READ
@pytest.mark.parametrize("key", ["others/data.parquet", "data.parquet"])
def test_what_cannot_be_listed_is_denied(store: ObjectStore, key: str, read: str) -> None:
    with pytest.raises(StoreError, match=f"s3://lake/{key}"):
        READS[read](store, [key])


@EVERY_READ
@pytest.mark.parametrize("key", ["/tables/x", "/tables/a/data.parquet"])
def test_a_leading_slash_is_no_part_of_a_key(bucket: Refusing, store: ObjectStore, key: str, read: str) -> None:
    assert READS[read](store, [key]) == [None]
    put(store, key[1:])
    bucket.denied.add(key[1:])
    with pytest.raises(StoreError) as denied:
        READS[read](store, [key])
    assert type(denied.value) is StoreError


def test_a_listing_is_read_page_by_page(bucket: Refusing, store: ObjectStore) -> None:
    bucket.objects |= {f"tables/{number:05}": b"x" for number in range(2_500)}
    assert READS["look"](store, ["tables/x"]) == [None]
    assert len(bucket.listings) == 3
    bucket.objects |= {"tables/x": b"x", "tables/y": b"x"}
    bucket.denied.add("tables/x")
    with pytest.raises(StoreError) as denied:
        READS["look"](store, ["tables/x"])
    assert type(denied.value) is StoreError
    assert len(bucket.listings) == 6


def test_an_object_that_goes_before_it_is_replaced_was_replaced(bucket: Refusing, store: ObjectStore) -> None:
    replacing = ReplacingStore(store.client, store.root, {"tables/x": '"1"'})
    with pytest.raises(ReplacedError, match="s3://lake/tables/x"):
        put(replacing, "tables/x")
    assert bucket.listings == ["tables/"]


def test_an_object_that_is_there_needs_no_listing(bucket: Refusing, store: ObjectStore) -> None:
    put(store, *KEYS)
    assert None not in READS["look"](store, KEYS) + READS["look at many"](store, KEYS) + READS["read"](store, KEYS)
    assert bucket.listings == []


def test_a_file_of_keys_is_missing_where_its_folder_may_be_listed(manager: PartitionedS3ParquetIOManager) -> None:
    with pytest.raises(MissingObjectError, match="upload the keys first"):
        read_keys("s3://lake/tables/keys.txt", manager)
    with pytest.raises(StoreError) as denied:
        read_keys("s3://lake/_erasure/keys.txt", manager)
    assert type(denied.value) is StoreError


def key_of(event: dg.AssetMaterialization) -> str:
    record: Any = event.metadata["dagfusion/file"].value
    return str(record["uri"]).removeprefix("s3://lake/")


@pytest.mark.usefixtures("heavy")
def test_an_erasure_after_a_vacuum_has_a_proof(
    bucket: Refusing, manager: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    write(instance, manager)
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    for one in proof.still_held:
        del bucket.objects[one.uri.removeprefix("s3://lake/")]  # as the vacuum does
    rest = key_of(latest(instance)["a"])
    proof = erase_rows(instance, manager, KEY, Keys("id", ["1"]), run_id=RUN.replace("6", "7", 1))
    assert [(one.partition, one.rows_removed) for one in proof.rewritten] == [("a", 1)]
    assert [one.uri for one in proof.still_held] == [f"s3://lake/{rest}"]


@pytest.mark.usefixtures("heavy")
def test_a_missing_object_is_repaired_and_a_denied_one_is_not(
    bucket: Refusing, manager: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    write(instance, manager)
    keys = {letter: key_of(event) for letter, event in latest(instance).items()}
    del bucket.objects[keys["a"]]
    bucket.denied.add(keys["b"])
    assert repair_asset(instance, manager, KEY).missing == ["a"]
    assert repair_asset(instance, manager, KEY).missing == []


@pytest.mark.usefixtures("heavy")
def test_an_input_that_is_gone_is_told_from_one_that_is_denied(
    bucket: Refusing, manager: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    write(instance, manager)
    key = key_of(latest(instance)["a"])

    @dg.asset(ins={"people": dg.AssetIn(KEY)}, partitions_def=people.partitions_def)
    def downstream(people: pa.Table) -> None:
        assert people.num_rows

    def load() -> None:
        resources = {"io_manager": manager}
        assets = [people, downstream]
        dg.materialize(assets, selection=[downstream], partition_key="a", resources=resources, instance=instance)

    load()
    bucket.denied.add(key)
    with pytest.raises(StoreError) as denied:
        load()
    assert type(denied.value) is StoreError
    del bucket.objects[key]
    with pytest.raises(MissingObjectError):
        load()


@pytest.mark.usefixtures("heavy")
def test_a_consolidation_leaves_out_what_is_gone(
    bucket: Refusing, manager: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    write(instance, manager)
    del bucket.objects[key_of(latest(instance)["a"])]
    assert consolidate_asset(instance, manager, KEY, "run", instance.report_runless_asset_event).partitions == 3
