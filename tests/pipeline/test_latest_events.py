"""The latest materialization of each partition, read in bulk."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_pipeline import latest_events as module
from dagfusion_pipeline.latest_events import latest_event, latest_events

KEY = dg.AssetKey(["Silver", "orgs"])
RECORD = {"version": 1, "uri": "s3://lake/a", "rows": 3, "columns": {"n": {"min": 1, "max": 2, "nulls": 0}}}
TEXT = st.text(max_size=20) | st.sampled_from(
    ['"dagfusion/file"', '}, "label": "dagfusion/file"}', '"timestamp": 5', module._DATA]
)
FIELDS = st.sampled_from(["schema", "size_bytes", "rows", "unreadable"])  # also the names of columns
NAMES = TEXT.filter(lambda name: not name.startswith("__")) | FIELDS  # Dagster's own begin so, such as `__class__`
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def report(instance: dg.DagsterInstance, partition: str | None, metadata: Mapping[str, Any]) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=partition, metadata=metadata))


def file(**fields: object) -> dict[str, Any]:
    return {"dagfusion/file": {**RECORD, **fields}}


def test_the_latest_event_of_each_partition_decides(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDS_A_QUERY", 2)
    for partition in "abcde":
        report(instance, partition, file(rows=1))
    report(instance, "b", file(rows=2))
    report(instance, "c", {"note": "by hand"})
    report(instance, None, file(rows=9))
    instance.report_runless_asset_event(dg.AssetMaterialization("other", partition="z", metadata=file()))
    found = latest_events(instance, KEY)
    rows = {key: event.record["rows"] if event.record else None for key, event in found.items()}
    assert rows == {"a": 1, "b": 2, "c": None, "d": 1, "e": 1}
    assert latest_events(instance, KEY, ["b", "y"]) == {"b": found["b"]}
    assert latest_events(instance, KEY, []) == {}
    monkeypatch.setattr(module, "_KEYS_A_QUERY", 1)
    assert latest_events(instance, KEY, ["b", "y"]) == {"b": found["b"]}
    instance.wipe_assets([KEY])
    assert latest_events(instance, KEY) == {}
    report(instance, "d", file(rows=4))
    assert [*latest_events(instance, KEY)] == ["d"]


def test_an_unpartitioned_asset_has_its_latest_event(instance: dg.DagsterInstance) -> None:
    assert latest_event(instance, KEY) is None
    report(instance, None, file(rows=1))
    report(instance, None, file(rows=2))
    found = latest_event(instance, KEY)
    assert found is not None
    assert found.record == {**RECORD, "rows": 2}
    report(instance, "a", file())
    assert latest_event(instance, KEY) is None


def test_dagster_writes_events_as_they_are_read_here(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, Dagster writes other text, and each event takes ten times as long: see `latest_events`."""
    report(instance, "a", {"before": {"x": 1}, **file(), "after": {"y": 2}})
    monkeypatch.setattr(dg, "deserialize_value", lambda *_: pytest.fail("the whole event was parsed"))
    found = latest_events(instance, KEY)["a"]
    assert found.record == RECORD
    at = instance.fetch_materializations(KEY, limit=1).records[0].timestamp
    assert found.at == datetime.fromtimestamp(at, UTC)


@pytest.mark.parametrize(
    "fields",
    [
        {"schema": {"fields": [{"name": "a"}], "fingerprint": "x"}, "size_bytes": 1},
        {"schema": {"fields": [], "fingerprint": "x", "unreadable": {"schema": "struct<>", "size_bytes": "b"}}},
        {"columns": {"schema": {"nulls": 0}, "size_bytes": {"nulls": 1}}},
        {"schema": "dagfusion/cut", "columns": {}, "size_bytes": 2},
        {"columns": {"schema": 1, "size_bytes": 2}, "schema": [], "size_bytes": 3},
    ],
)
def test_a_schema_is_parsed_once_and_only_that_of_the_record(
    instance: dg.DagsterInstance, fields: dict[str, Any]
) -> None:
    for partition in ("a", "b"):
        report(instance, partition, file(**fields))
    found = latest_events(instance, KEY)
    assert [event.record for event in found.values()] == [{**RECORD, **fields}] * 2


@pytest.fixture(scope="module")
def log() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.mark.usefixtures("heavy")
@given(
    metadata=st.dictionaries(TEXT.filter(bool), TEXT | JSON.map(lambda data: dg.MetadataValue.json({"x": data}))),
    record=st.none() | st.dictionaries(NAMES, JSON, max_size=3),
)
def test_text_is_read_as_dagster_reads_it(
    log: dg.DagsterInstance, metadata: dict[str, Any], record: dict[str, Any] | None
) -> None:
    if record is not None:
        metadata |= {"dagfusion/file": dg.MetadataValue.json(record)}
    report(log, "a", metadata)
    found = latest_events(log, KEY, ["a"])["a"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dg.DagsterInstance, "event_log_storage", WithoutSql(log.event_log_storage))
        assert latest_events(log, KEY, ["a"])["a"] == found
    assert found.record == record


class WithoutSql:
    """A storage that has only what every storage has."""

    index_connection = None

    def __init__(self, storage: Any) -> None:
        self.get_latest_storage_id_by_partition = storage.get_latest_storage_id_by_partition
