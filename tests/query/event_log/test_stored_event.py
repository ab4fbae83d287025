import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import MalformedRecordError, RecordVersionError
from dagfusion_contract.record import DataFile
from dagfusion_query.event_log.stored_event import EventReader, Foreign

Record = Callable[..., dict[str, Any]]
NPI = {"name": "npi", "type": "int64", "nullable": True}


def event(record: object, **others: object) -> str:
    """An event in the order that Dagster's serializer gives it."""
    data = {"class": "JsonMetadataEntryData", "dagfusion/file": record, **others}
    entries = [
        {
            "__class__": "EventMetadataEntry",
            "description": None,
            "entry_data": {"__class__": "JsonMetadataEntryData", "data": value},
            "label": label,
        }
        for label, value in data.items()
    ]
    materialization = {"asset_key": {"path": ["x"]}, "metadata_entries": entries}
    return json.dumps({"dagster_event": {"event_specific_data": {"materialization": materialization}}})


def test_an_event_gives_its_record(file_record: Record) -> None:
    file = EventReader().from_event(event(file_record(), after={"label": "x"}))
    assert isinstance(file, DataFile)
    assert file.rows == 321


def test_an_event_without_a_record_gives_none() -> None:
    assert EventReader().from_event(event(None).replace("dagfusion/file", "other/file")) is None


def test_an_event_in_another_order_gives_the_same(file_record: Record) -> None:
    stored = orjson.loads(event(file_record()))
    shuffled = orjson.dumps(stored, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2).decode()
    reader = EventReader()
    assert reader.from_event(shuffled) == reader.from_event(json.dumps(stored))


def test_metadata_that_quotes_an_event_does_not_pass_for_the_record(file_record: Record) -> None:
    quoted = orjson.loads(event(file_record(rows=1)))
    file = EventReader().from_event(event(file_record(rows=321), quoted=quoted))
    assert isinstance(file, DataFile)
    assert file.rows == 321
    as_text = EventReader().from_event(event(file_record(rows=321), quoted=event(file_record(rows=1))))
    assert isinstance(as_text, DataFile)
    assert as_text.rows == 321


@pytest.mark.parametrize("broken", ["", "{", "[]", "null", '{"dagster_event": null}', '{"dagster_event": {}}'])
def test_a_broken_event_is_an_error_and_not_an_exception(broken: str) -> None:
    assert isinstance(EventReader().from_event(broken), MalformedRecordError)


def test_a_bad_record_is_an_error_and_not_an_exception(file_record: Record) -> None:
    assert isinstance(EventReader().from_event(event(file_record(version=2))), RecordVersionError)
    assert isinstance(EventReader().from_event(event(file_record(rows="x"))), MalformedRecordError)
    assert isinstance(EventReader().from_event(event(None)), MalformedRecordError)


def test_what_dagster_stores_is_read(file_record: Record) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        metadata = {"dagfusion/file": dg.MetadataValue.json(file_record()), "rows": dg.MetadataValue.int(3)}
        instance.report_runless_asset_event(dg.AssetMaterialization("x", metadata=metadata))
        (stored,) = instance.fetch_materializations(dg.AssetKey("x"), limit=1).records
        text = dg.serialize_value(stored.event_log_entry)
    file = EventReader().from_event(text)
    assert isinstance(file, DataFile)
    assert file == EventReader().read(file_record())._replace(layout=file.layout)


SPECIAL = st.sampled_from([float("nan"), float("inf"), float("-inf"), "\ud800"])
METADATA = st.recursive(
    SPECIAL | st.none() | st.integers() | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
)


@given(value=METADATA, is_cut=st.booleans())
def test_metadata_that_only_python_writes_hides_nothing(file_record: Record, value: object, *, is_cut: bool) -> None:
    """Dagster stores Python's JSON: NaN, infinities, lone surrogates and integers of any size."""
    stored = event(file_record(), other=value)
    stored = stored if is_cut else json.dumps(json.loads(stored), indent=1)
    reader = EventReader(("path",))
    file = reader.from_event(stored)
    assert isinstance(file, DataFile)
    assert (file.rows, file.partition) == (321, ["CA", "2024-01-15"])
    named = {"path": {"__class__": "PathMetadataEntryData", "path": "/lake/f.parquet"}}
    entries = [
        {"label": label, "entry_data": data}
        for label, data in ({"other": {"__class__": "JsonMetadataEntryData", "data": value}} | named).items()
    ]
    document = {"dagster_event": {"event_specific_data": {"materialization": {"metadata_entries": entries}}}}
    assert reader.from_event(json.dumps(document)) == Foreign("/lake/f.parquet", ())


@pytest.mark.parametrize(
    "change", [{"rows": float("nan")}, {"columns": {"npi": {"min": float("nan")}}}, {"uri": "\ud800"}]
)
def test_a_record_itself_must_be_json(file_record: Record, change: dict[str, Any]) -> None:
    assert isinstance(EventReader().from_event(event(file_record(**change))), MalformedRecordError)


def test_metadata_nested_too_deep_is_refused_and_ends_nothing() -> None:
    deep = event(None).replace('"data": null', f'"data": {"[" * 100_000}{"]" * 100_000}')
    assert isinstance(EventReader().from_event(deep), MalformedRecordError)
