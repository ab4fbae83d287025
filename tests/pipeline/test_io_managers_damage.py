"""Inputs whose objects changed after they were written, and the event that says which object is the partition's."""

from collections.abc import Iterator
from typing import Any, Literal

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.errors import CorruptObjectError
from dagfusion_pipeline.latest_files import LatestFile, latest_files
from dagfusion_pipeline.store import ObjectStore, checksum
from tests.pipeline.written import STATES, entry_of, materializations

Naming = Literal["stable", "per_run"]
FRAME = pl.DataFrame({"n": range(40), "text": [f"text {n}" for n in range(40)]})


@dg.asset
def raw() -> pl.DataFrame:
    return FRAME


@dg.asset
def copy(raw: pl.DataFrame) -> pl.DataFrame:
    return raw


def write(manager: dg.ConfigurableIOManager, instance: dg.DagsterInstance) -> dict[str, Any]:
    result = dg.materialize([raw], resources={"io_manager": manager}, instance=instance)
    return entry_of(materializations(result)[None])


def load(manager: dg.ConfigurableIOManager, instance: dg.DagsterInstance) -> pl.DataFrame:
    run = dg.materialize([raw, copy], selection=[copy], resources={"io_manager": manager}, instance=instance)
    frame = run.output_for_node("copy")
    assert isinstance(frame, pl.DataFrame)
    return frame


def key_of(entry: dict[str, Any]) -> str:
    return str(entry["uri"]).removeprefix("s3://lake/")


def flips(content: bytes) -> Iterator[bytes]:
    """The content with one byte changed: in its pages, their headers, the indexes and the footer."""
    for position in range(0, len(content), max(1, len(content) // 25)):
        yield content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def test_the_event_has_the_checksum_of_the_stored_bytes(
    hive: PartitionedS3ParquetIOManager, store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    entry = write(hive, instance)

    assert entry["checksum"] == checksum(obstore.get(store.client, key_of(entry)).bytes())


def test_every_changed_byte_is_an_error_that_names_the_object(
    hive: PartitionedS3ParquetIOManager, store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    entry = write(hive, instance)
    content = bytes(obstore.get(store.client, key_of(entry)).bytes())

    for damaged in flips(content):
        obstore.put(store.client, key_of(entry), damaged)
        with pytest.raises(CorruptObjectError, match="does not hold the bytes that its latest") as error:
            load(hive, instance)
        assert entry["uri"] in str(error.value)

    obstore.put(store.client, key_of(entry), content)
    assert load(hive, instance).equals(FRAME)


def test_a_changed_byte_in_a_page_is_an_error_without_a_recorded_checksum(
    hive: PartitionedS3ParquetIOManager, store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    entry = write(hive, instance)
    instance.wipe_assets([raw.key])  # an object without an event is read by its stable name
    content = bytes(obstore.get(store.client, key_of(entry)).bytes())
    assert load(hive, instance).equals(FRAME)

    middle = content.index(b"PAR1") + 60  # behind the first page's header
    obstore.put(store.client, key_of(entry), content[:middle] + b"\xff\x00\xff" + content[middle + 3 :])

    with pytest.raises(CorruptObjectError, match=rf"{entry['uri']} of asset 'raw' is damaged, or not a Parquet file"):
        load(hive, instance)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all", b"PAR1" + bytes(40) + b"PAR1"])
def test_an_object_that_is_not_parquet_is_named(
    content: bytes, hive: PartitionedS3ParquetIOManager, store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    entry = write(hive, instance)
    instance.wipe_assets([raw.key])
    obstore.put(store.client, key_of(entry), content)

    with pytest.raises(CorruptObjectError, match=entry["uri"]):
        load(hive, instance)


def test_an_object_that_is_replaced_while_it_is_loaded_is_read_anew(
    hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write(hive, instance)
    answers = iter([{None: LatestFile(entry["uri"], "sha256:of an older version")}])
    monkeypatch.setattr(
        "dagfusion_pipeline.io_managers.latest_files",
        lambda *arguments: next(answers, None) or latest_files(*arguments),
    )

    assert load(hive, instance).equals(FRAME)


@pytest.mark.parametrize(("first", "second"), [("per_run", "stable"), ("stable", "per_run")])
def test_objects_are_found_after_file_naming_has_changed(
    first: Naming, second: Naming, fields: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    write(S3ParquetIOManager(**fields, file_naming=first), instance)

    assert load(S3ParquetIOManager(**fields, file_naming=second), instance).equals(FRAME)


def test_partitions_are_found_after_file_naming_has_changed_there_and_back(
    fields: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    @dg.asset(partitions_def=STATES)
    def states(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({"run": [context.run.run_id]})

    @dg.asset
    def together(states: pl.DataFrame) -> pl.DataFrame:
        return states

    namings: dict[str, Naming] = {"CA": "stable", "NY": "per_run", "TX": "stable"}
    first: Naming = "per_run"
    runs = []
    for state, naming in [("CA", first), *namings.items()]:
        managers = {"io_manager": PartitionedS3ParquetIOManager(**fields, file_naming=naming)}
        runs.append(dg.materialize([states], partition_key=state, resources=managers, instance=instance).run_id)

    both: list[Naming] = ["stable", "per_run"]
    for naming in both:
        managers = {"io_manager": PartitionedS3ParquetIOManager(**fields, file_naming=naming)}
        loaded = dg.materialize([states, together], selection=[together], resources=managers, instance=instance)
        assert loaded.output_for_node("together")["run"].to_list() == runs[1:]


@pytest.mark.parametrize("naming", ["stable", "per_run"])
def test_materializations_without_a_file_are_passed_over(
    naming: Naming, fields: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    manager = PartitionedS3ParquetIOManager(**fields, file_naming=naming)
    write(manager, instance)
    for _ in range(3):
        instance.report_runless_asset_event(dg.AssetMaterialization("raw", metadata={"reported": True}))

    assert load(manager, instance).equals(FRAME)
