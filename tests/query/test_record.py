import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_query.errors import MalformedRecordError, RecordVersionError
from dagfusion_query.event_log.arrow_types import parse_type
from dagfusion_query.event_log.record import DataFile, Foreign, RecordReader

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


def test_a_record_becomes_a_data_file(file_record: Record) -> None:
    file = RecordReader().read(file_record())
    assert file.uri.endswith("/state=CA/date=2024-01-15/data.parquet")
    assert (file.size_bytes, file.rows, file.etag) == (12345, 321, '"9b2c"')
    assert file.layout.file == pa.schema({"npi": pa.int64(), "name": pa.string()})
    assert file.layout.partition == pa.schema({"state": pa.string(), "date": pa.date32()})
    assert file.partition == ["CA", "2024-01-15"]
    assert orjson.loads(file.columns)["npi"] == {"min": 1, "max": 9, "nulls": 0}


def test_a_checksum_is_read_where_there_is_one(file_record: Record) -> None:
    reader = RecordReader()
    assert reader.read(file_record(checksum=f"sha256:{'0f' * 32}")).checksum == f"sha256:{'0f' * 32}"
    assert reader.read(file_record(checksum=None)).checksum is None
    assert reader.read(file_record()).checksum is None


def test_a_partition_column_in_the_file_is_left_to_the_event(file_record: Record) -> None:
    schema = {"fingerprint": "f", "fields": [NPI, {"name": "date", "type": "string", "nullable": True}]}
    file = RecordReader().read(file_record(schema=schema))
    assert file.layout.file.names == ["npi"]
    assert file.layout.partition.field("date").type == pa.date32()


def test_layouts_are_shared(file_record: Record) -> None:
    reader = RecordReader()
    layouts = {id(reader.read(file_record(state)).layout) for state in ("CA", "NY", "TX")}
    assert len(layouts) == 1
    other = reader.read(file_record(partition=[])).layout
    assert len(other.partition) == 0
    assert other.file.names == ["npi", "name"]


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
def test_an_unknown_version_is_refused(file_record: Record, version: object) -> None:
    with pytest.raises(
        RecordVersionError, match=r"dagfusion/file\.version must be 1, got .*upgrade this reader"
    ) as raised:
        RecordReader().read(file_record(version=version))
    assert repr(version) in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("uri", None, r"uri must be a string, got None"),
        ("uri", "https://x/y", r"uri must start with .*got 'https://x/y'"),
        ("size_bytes", "12", r"size_bytes must be an integer, got '12'"),
        ("size_bytes", -1, r"size_bytes must be a count .*got -1"),
        ("size_bytes", 1.5, r"size_bytes must be an integer, got 1\.5"),
        ("size_bytes", True, r"size_bytes must be an integer, got True"),
        ("rows", None, r"rows must be an integer, got None"),
        ("rows", 1 << 63, r"rows must be a count"),
        ("modified", 17, r"modified must be a string, got 17"),
        ("etag", 17, r"etag must be a string or null, got 17"),
        ("checksum", 17, r"checksum must be sha256: and 64 hexadecimal digits in lower case, got 17"),
        ("checksum", "ab" * 32, r"checksum must be sha256: .* got 'abab"),
        ("checksum", f"sha256:{'AB' * 32}", r"checksum must be sha256: .* got 'sha256:ABAB"),
        ("checksum", f"sha256:{'ab' * 32}\n", r"checksum must be sha256:"),
        ("checksum", f"sha256:{'ab' * 31}", r"checksum must be sha256:"),
        ("checksum", f"sha256:{'ab' * 33}", r"checksum must be sha256:"),
        ("checksum", f"sha512:{'ab' * 32}", r"checksum must be sha256:"),
        ("partition", None, r"partition must be a list, got None"),
        ("partition", [{"name": "a", "type": "string"}], r"partition must be a list of"),
        ("partition", [{"name": "a", "type": {"list": NPI}, "value": 1}], r"partition must be a list of .*flat types"),
        ("partition", [{"name": "a", "type": "strin", "value": "x"}], r"partition\[0\]\.type must be .*got 'strin'"),
        (
            "partition",
            [{"name": "a", "type": "string", "value": "x"}] * 2,
            r"partition must name each column once.*'a'",
        ),
        ("partition", ["state=CA"], r"partition must be a list of"),
        ("columns", [], r"columns must be an object, got \[\]"),
        ("schema", None, r"schema must be an object, got None"),
        ("schema", {"fields": []}, r"schema\.fingerprint is missing"),
        ("schema", {"fingerprint": "f"}, r"schema\.fields is missing"),
        ("schema", {"fingerprint": "f", "fields": [NPI, NPI]}, r"schema\.fields must name each column once.*'npi'"),
        ("schema", {"fingerprint": "f", "fields": [{"name": "a"}]}, r"schema\.fields\[0\] must be"),
        (
            "schema",
            {"fingerprint": "f", "fields": [{"name": "a", "type": {"list": 1}}]},
            r"fields\[0\]\.type\.list must",
        ),
        ("schema", {"fingerprint": 1, "fields": []}, r"schema must be a fingerprint"),
    ],
)
def test_a_malformed_record_is_refused_by_the_name_of_its_field(
    file_record: Record, field: str, value: object, says: str
) -> None:
    with pytest.raises(MalformedRecordError, match=says):
        RecordReader().read(file_record(**{field: value}))


@pytest.mark.parametrize("field", ["uri", "size_bytes", "modified", "etag", "rows", "partition", "schema", "columns"])
def test_a_missing_field_is_named(file_record: Record, field: str) -> None:
    record = file_record()
    del record[field]
    with pytest.raises(MalformedRecordError, match=rf"dagfusion/file\.{field} must be"):
        RecordReader().read(record)


@pytest.mark.parametrize("record", [None, [], "x", 1])
def test_a_record_that_is_no_object_is_refused(record: object) -> None:
    with pytest.raises(MalformedRecordError, match="must be a JSON object"):
        RecordReader().read(record)


def test_unknown_fields_of_a_known_version_are_ignored(file_record: Record) -> None:
    assert RecordReader().read(file_record(compression="zstd")).rows == 321


def test_an_event_gives_its_record(file_record: Record) -> None:
    file = RecordReader().from_event(event(file_record(), after={"label": "x"}))
    assert isinstance(file, DataFile)
    assert file.rows == 321


def test_an_event_without_a_record_gives_none() -> None:
    assert RecordReader().from_event(event(None).replace("dagfusion/file", "other/file")) is None


def test_an_event_in_another_order_gives_the_same(file_record: Record) -> None:
    stored = orjson.loads(event(file_record()))
    shuffled = orjson.dumps(stored, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2).decode()
    reader = RecordReader()
    assert reader.from_event(shuffled) == reader.from_event(json.dumps(stored))


def test_metadata_that_quotes_an_event_does_not_pass_for_the_record(file_record: Record) -> None:
    quoted = orjson.loads(event(file_record(rows=1)))
    file = RecordReader().from_event(event(file_record(rows=321), quoted=quoted))
    assert isinstance(file, DataFile)
    assert file.rows == 321
    as_text = RecordReader().from_event(event(file_record(rows=321), quoted=event(file_record(rows=1))))
    assert isinstance(as_text, DataFile)
    assert as_text.rows == 321


@pytest.mark.parametrize("broken", ["", "{", "[]", "null", '{"dagster_event": null}', '{"dagster_event": {}}'])
def test_a_broken_event_is_an_error_and_not_an_exception(broken: str) -> None:
    assert isinstance(RecordReader().from_event(broken), MalformedRecordError)


def test_a_bad_record_is_an_error_and_not_an_exception(file_record: Record) -> None:
    assert isinstance(RecordReader().from_event(event(file_record(version=2))), RecordVersionError)
    assert isinstance(RecordReader().from_event(event(file_record(rows="x"))), MalformedRecordError)
    assert isinstance(RecordReader().from_event(event(None)), MalformedRecordError)


def test_what_dagster_stores_is_read(file_record: Record) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        metadata = {"dagfusion/file": dg.MetadataValue.json(file_record()), "rows": dg.MetadataValue.int(3)}
        instance.report_runless_asset_event(dg.AssetMaterialization("x", metadata=metadata))
        (stored,) = instance.fetch_materializations(dg.AssetKey("x"), limit=1).records
        text = dg.serialize_value(stored.event_log_entry)
    file = RecordReader().from_event(text)
    assert isinstance(file, DataFile)
    assert file == RecordReader().read(file_record())._replace(layout=file.layout)


FLAT = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.null(), pa.binary(16)),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.duration("us")),
    *(
        pa.timestamp("us"),
        pa.timestamp("ns", "UTC"),
        pa.timestamp("ms", "America/New_York"),
        pa.timestamp("s", "+02:00"),
    ),
    *(pa.decimal128(12, 2), pa.decimal128(38, 0), pa.decimal256(60, 20), pa.decimal128(5, -2)),
]


@pytest.mark.parametrize("kind", FLAT, ids=str)
def test_a_flat_type_reads_as_arrow_prints_it(kind: pa.DataType) -> None:
    assert parse_type(str(kind), "type") == kind


def test_nested_types_read_as_json() -> None:
    item = {"name": "item", "type": "int32", "nullable": True}
    key = {"name": "key", "type": "string", "nullable": False}
    assert parse_type({"list": item}, "type") == pa.list_(pa.field("item", pa.int32()))
    assert parse_type({"struct": [item, key]}, "type") == pa.struct({"item": pa.int32(), "key": pa.string()})
    assert parse_type({"map": [key, item]}, "type") == pa.map_(pa.string(), pa.int32())
    nested = {"list": {"name": "item", "type": {"struct": [item]}, "nullable": True}}
    assert parse_type(nested, "type") == pa.list_(pa.struct({"item": pa.int32()}))


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "int128",
        "timestamp[us, tz=]",
        "decimal128(0, 0)",
        "decimal128(39, 2)",
        {},
        {"list": []},
        {"map": []},
        1,
        None,
    ],
)
def test_what_is_no_type_is_refused(spec: object) -> None:
    with pytest.raises(MalformedRecordError, match=r"^type"):
        parse_type(spec, "type")


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
    reader = RecordReader(("path",))
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
    assert isinstance(RecordReader().from_event(event(file_record(**change))), MalformedRecordError)


def test_metadata_nested_too_deep_is_refused_and_ends_nothing() -> None:
    deep = event(None).replace('"data": null', f'"data": {"[" * 100_000}{"]" * 100_000}')
    assert isinstance(RecordReader().from_event(deep), MalformedRecordError)
