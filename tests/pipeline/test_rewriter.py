"""Objects that are written again without rows: what stays of them, and the proof of an erasure that was cut short."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_pipeline import rewriter, wipe_partitions, writer
from dagfusion_pipeline.erase import check_complete, described, erase_rows
from dagfusion_pipeline.erasure_keys import Keys
from dagfusion_pipeline.errors import PipelineError
from dagfusion_pipeline.parquet import PARTITION_METADATA_KEY
from tests.pipeline.in_memory import STORE, Flat, Hive
from tests.pipeline.test_erase import ALL, KEY, RUN, latest, stored, write

pytestmark = pytest.mark.usefixtures("heavy")
ROWS = pa.table(
    {
        "letter": pa.array(["a", "a", "b", "b"]),
        "id": pa.array([1, 3, 3, 4], pa.int32()),
        "amount": pa.array([Decimal("1.50"), None, Decimal("2.25"), Decimal("0.00")], pa.decimal128(9, 2)),
        "at": pa.array([datetime(2024, 1, 15, 12, tzinfo=UTC)] * 4, pa.timestamp("us", "Europe/Paris")),
        "day": pa.array([date(2024, 1, 15)] * 4),
        "kind": pa.array(["x", "y", "x", None]).dictionary_encode(),
        "tags": pa.array([["p"], [], None, ["q", "r"]], pa.list_(pa.string())),
        "place": pa.array([{"x": 1.5}] * 4, pa.struct([("x", pa.float32())])),
        "raw": pa.array([b"\0", b"\1", None, b"\2"], pa.large_binary()),
    }
)


@dg.asset(key=KEY, partitions_def=dg.StaticPartitionsDefinition(["a", "b"]), metadata={"partition_expr": "letter"})
def typed(context: dg.AssetExecutionContext) -> pa.Table:
    assert context.partition_keys == ["a", "b"]
    return ROWS


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).translate(str.maketrans("[]", "--"))


def content(uri: str) -> pa.Buffer:
    (found,) = STORE.read_many([uri.removeprefix(STORE.uri(""))], 1)
    return pa.py_buffer(found)


@pytest.mark.parametrize("kind", [Hive, Flat])
def test_the_types_and_the_metadata_of_an_object_stay(
    instance: dg.DagsterInstance, prefix: str, kind: type[Hive | Flat]
) -> None:
    manager = kind(bucket="lake", prefix=prefix)
    tags = {**ALL, "dagster/asset_partition_range_end": "b"}
    assert dg.materialize([typed], instance=instance, resources={"io_manager": manager}, tags=tags).success
    uris = [event.metadata["dagfusion/file"].data["uri"] for event in latest(instance).values()]
    before = {uri: pq.ParquetFile(pa.BufferReader(content(uri))) for uri in uris}
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert {one.new_uri for one in proof.rewritten} == {*uris}

    for uri, old in before.items():
        new = pq.ParquetFile(pa.BufferReader(content(uri)))
        assert new.schema_arrow.equals(old.schema_arrow, check_metadata=True)
        assert new.schema.equals(old.schema), "the types of Parquet"
        footers = [file.metadata.metadata or {} for file in (old, new)]
        assert footers[0].keys() == footers[1].keys()
        assert footers[0].get(PARTITION_METADATA_KEY) == footers[1].get(PARTITION_METADATA_KEY)
        rest = old.read().filter(pa.compute.not_equal(old.read()["id"], 3))
        assert new.read().equals(rest)
        assert new.metadata.num_rows == 1


def test_an_object_without_rows_keeps_its_columns(instance: dg.DagsterInstance, prefix: str) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    uri = latest(instance)["d"].metadata["dagfusion/file"].data["uri"]
    before = pq.read_schema(pa.BufferReader(content(uri)))
    erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    after = pq.ParquetFile(pa.BufferReader(content(uri)))
    assert after.metadata.num_rows == 0
    assert after.schema_arrow.equals(before, check_metadata=True)
    assert latest(instance)["d"].metadata["dagfusion/file"].data["rows"] == 0


@pytest.mark.parametrize("naming", ["stable", "per_run"])
def test_the_proof_of_an_erasure_that_an_error_ended(instance: dg.DagsterInstance, prefix: str, naming: Any) -> None:
    manager = Hive(bucket="lake", prefix=prefix, file_naming=naming)
    write(instance, manager)
    before = latest(instance)
    uris = {letter: before[letter].metadata["dagfusion/file"].data["uri"] for letter in "abd"}
    STORE.delete_objects([uris["b"].removeprefix(STORE.uri(""))])
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)

    assert [(one.partition, one.rows_removed) for one in proof.rewritten] == [("a", 1)]
    assert (proof.rows_removed, proof.written_meanwhile) == (1, [])
    assert "letter=b/" in str(proof.stopped)
    after = latest(instance)
    assert {letter for letter in "abcd" if after[letter] != before[letter]} == {"a"}, "only what was done is logged"
    assert stored(after["a"].metadata["dagfusion/file"].data["uri"]) == [1, 2]
    assert stored(uris["d"]) == [3], "not reached"
    assert uris["d"] not in {one.uri for one in proof.still_held}, "it is current, so the next erasure reads it"
    assert {one.uri for one in proof.still_held} == ({uris["a"]} if naming == "per_run" else set())
    assert "4 objects examined, 3 read, 1 are rewritten" in described(proof)
    with pytest.raises(PipelineError, match=r"rows of other partitions are not erased yet: .*letter=b"):
        check_complete(proof)

    wipe_partitions(instance, KEY, ["b"])
    again = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert [one.partition for one in again.rewritten] == ["d"]
    check_complete(again)


def test_a_tombstone_of_a_partition_from_before_an_asset_was_unpartitioned(
    instance: dg.DagsterInstance, prefix: str
) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    wipe_partitions(instance, KEY, list("abcd"))

    @dg.asset(key=KEY)
    def whole() -> pa.Table:
        return pa.table({"id": [3, 4], "name": ["c", "d"]})

    flat = Flat(bucket="lake", prefix=prefix)
    assert dg.materialize([whole], instance=instance, resources={"io_manager": flat}).success
    proof = erase_rows(instance, flat, KEY, Keys("id", ["3"]), run_id=RUN)

    (done,) = proof.rewritten
    assert (done.partition, done.rows_removed, proof.not_examined) == (None, 1, [])
    assert stored(str(done.new_uri)) == [4]
    held = {one.uri.rpartition("letter=")[2] for one in proof.still_held}
    assert held == {f"{letter}/data.parquet" for letter in "abd"}, "wiped objects of c have none of the keys"
    assert all(one.why.startswith("superseded") for one in proof.still_held)


def test_a_run_that_writes_during_the_upload_keeps_its_rows(
    instance: dg.DagsterInstance, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Hive(bucket="lake", prefix=prefix, file_naming="per_run")
    write(instance, manager)

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.undo()
        done = writer.write(*arguments)
        write(instance, manager)
        return done

    monkeypatch.setattr(rewriter, "write", overtaken)
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert ([*proof.rewritten], sorted(map(str, proof.written_meanwhile))) == ([], ["a", "b", "d"])
    assert stored(latest(instance)["a"].metadata["dagfusion/file"].data["uri"]) == [1, 2, 3]
    assert not [one.key for one in STORE.list_objects(f"{prefix}/Silver/people") if RUN in one.key]
