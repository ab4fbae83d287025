"""Metadata on many partitions' events, and the loud failure when Dagster moves what the bulk way uses."""

import sys
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from obstore.store import MemoryStore

from dagfusion_pipeline import BULK_EVENT_SETTINGS, PartitionedS3ParquetIOManager, partition_events
from dagfusion_pipeline.store import ObjectStore

KEYS = [f"k{number:04}" for number in range(400)]
PARTITIONS = dg.StaticPartitionsDefinition(KEYS)


class InMemory(PartitionedS3ParquetIOManager):
    @property
    def object_store(self) -> ObjectStore:
        return ObjectStore(MemoryStore(), "memory://lake")


@dg.asset(partitions_def=PARTITIONS)
def numbers(context: dg.AssetExecutionContext) -> pl.DataFrame:
    context.add_output_metadata({"for_all": "a"})
    context.add_asset_metadata({"for_all_too": "b"})
    context.add_asset_metadata({"for_one": "c"}, partition_key="k0001")
    keys = list(context.partition_keys)
    return pl.DataFrame({"partition": keys, "n": [int(key[1:]) for key in keys]})


def materialize(first: str, last: str) -> dict[str, dg.AssetMaterialization]:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    result = dg.materialize([numbers], resources={"io_manager": InMemory(bucket="lake")}, tags=tags)
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    by_key = {str(event.partition): event for event in events}
    assert len(by_key) == len(events)  # exactly one event for each partition
    return by_key


def check(events: dict[str, dg.AssetMaterialization], keys: list[str]) -> None:
    assert sorted(events) == keys
    for key, event in events.items():
        entry: Any = event.metadata["dagfusion/file"].value
        assert entry["partition"] == [{"name": "partition", "type": "string", "value": key}]
        assert entry["columns"]["n"] == {"min": int(key[1:]), "max": int(key[1:]), "nulls": 0}
        assert (event.metadata["for_all"].value, event.metadata["for_all_too"].value) == ("a", "b")
        assert ("for_one" in event.metadata) == (key == "k0001")


@pytest.mark.usefixtures("heavy")
def test_a_few_go_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> bool:
        raise AssertionError("the bulk way was taken for 20 partitions")

    monkeypatch.setattr(partition_events, "attach_in_bulk", refuse)
    check(materialize("k0000", "k0019"), KEYS[:20])


@pytest.mark.usefixtures("heavy")
def test_many_go_the_bulk_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    bulk = partition_events.attach_in_bulk

    def watched(context: dg.OutputContext, metadata: Any) -> bool:
        taken.append(bulk(context, metadata))
        return taken[-1]

    monkeypatch.setattr(partition_events, "attach_in_bulk", watched)
    check(materialize(KEYS[0], KEYS[-1]), KEYS)
    # When this fails, Dagster has moved its metadata accumulator: find its new home in partition_events.py.
    assert taken == [True]


@pytest.mark.usefixtures("heavy")
def test_the_public_way_stays_when_names_have_moved(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(partition_events, "MAX_ONE_BY_ONE", 10)
    monkeypatch.setitem(sys.modules, "dagster._core.execution.context.metadata_logging", None)
    check(materialize("k0000", "k0019"), KEYS[:20])
    captured = capfd.readouterr()
    message = f"Dagster {dg.__version__} keeps its metadata elsewhere"
    assert message in captured.out + captured.err
    assert "the metadata of 20 partitions is attached one by one" in captured.out + captured.err


def test_dagster_reads_the_settings() -> None:
    # Each name is somewhere in Dagster's source, or the settings do nothing.
    package = Path(dg.__file__).parent
    source = "".join(path.read_text() for path in package.rglob("*.py") if "DAGSTER_E" in path.read_text())
    assert [name for name in BULK_EVENT_SETTINGS if name not in source] == []
