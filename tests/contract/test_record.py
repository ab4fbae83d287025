"""The record of event metadata v1: what is written is read again, and what breaks the contract is refused."""

import datetime as dt
import hashlib
import json
from importlib.resources import files
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_contract.arrow_types import parse_flat_type
from dagfusion_contract.errors import MalformedRecordError, RecordVersionError
from dagfusion_contract.record import RecordReader, WrittenFile, file_entry, schema_entry
from dagfusion_contract.values import partition_entry
from tests.contract.records import file_record

GOLDEN = json.loads(files("dagfusion_contract").joinpath("golden", "event_v1.json").read_text())
NPI = {"name": "npi", "type": "int64", "nullable": True}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_reader_reads_the_golden_event(name: str) -> None:
    entry = GOLDEN[name]
    file = RecordReader().read(json.loads(json.dumps(entry)))
    assert (file.uri, file.size_bytes, file.etag, file.rows) == tuple(
        entry[field] for field in ("uri", "size_bytes", "etag", "rows")
    )
    assert file.modified == entry["modified"]
    assert file.checksum == entry.get("checksum")
    assert list(file.partition) == [column["value"] for column in entry["partition"]]
    assert json.loads(file.columns) == entry["columns"]
    assert file.layout.partition == pa.schema(
        [pa.field(column["name"], parse_flat_type(column["type"])) for column in entry["partition"]]
    )
    partition = {column["name"] for column in entry["partition"]}
    names = [field["name"] for field in entry["schema"]["fields"] if field["name"] not in partition]
    assert file.layout.file.names == names
    assert file.layout.fingerprint == entry["schema"]["fingerprint"]


def test_a_checksum_is_optional() -> None:
    checksum = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    for entry in GOLDEN.values():
        without = {name: value for name, value in entry.items() if name != "checksum"}
        reader = RecordReader()
        assert reader.read(without | {"checksum": checksum}) == reader.read(without)._replace(checksum=checksum)


def test_a_record_becomes_a_data_file() -> None:
    file = RecordReader().read(file_record())
    assert file.uri.endswith("/state=CA/date=2024-01-15/data.parquet")
    assert (file.size_bytes, file.rows, file.etag) == (12345, 321, '"9b2c"')
    assert file.layout.file == pa.schema({"npi": pa.int64(), "name": pa.string()})
    assert file.layout.partition == pa.schema({"state": pa.string(), "date": pa.date32()})
    assert file.partition == ["CA", "2024-01-15"]
    assert json.loads(file.columns)["npi"] == {"min": 1, "max": 9, "nulls": 0}


def test_a_checksum_is_read_where_there_is_one() -> None:
    reader = RecordReader()
    assert reader.read(file_record(checksum=f"sha256:{'0f' * 32}")).checksum == f"sha256:{'0f' * 32}"
    assert reader.read(file_record(checksum=None)).checksum is None
    assert reader.read(file_record()).checksum is None


def test_a_partition_column_in_the_file_is_left_to_the_event() -> None:
    schema = {"fingerprint": "f", "fields": [NPI, {"name": "date", "type": "string", "nullable": True}]}
    file = RecordReader().read(file_record(schema=schema))
    assert file.layout.file.names == ["npi"]
    assert file.layout.partition.field("date").type == pa.date32()


def test_layouts_are_shared() -> None:
    reader = RecordReader()
    layouts = {id(reader.read(file_record(state)).layout) for state in ("CA", "NY", "TX")}
    assert len(layouts) == 1
    other = reader.read(file_record(partition=[])).layout
    assert len(other.partition) == 0
    assert other.file.names == ["npi", "name"]


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
def test_an_unknown_version_is_refused(version: object) -> None:
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
def test_a_malformed_record_is_refused_by_the_name_of_its_field(field: str, value: object, says: str) -> None:
    with pytest.raises(MalformedRecordError, match=says):
        RecordReader().read(file_record() | {field: value})


@pytest.mark.parametrize("field", ["uri", "size_bytes", "modified", "etag", "rows", "partition", "schema", "columns"])
def test_a_missing_field_is_named(field: str) -> None:
    record = file_record()
    del record[field]
    with pytest.raises(MalformedRecordError, match=rf"dagfusion/file\.{field} must be"):
        RecordReader().read(record)


@pytest.mark.parametrize("record", [None, [], "x", 1])
def test_a_record_that_is_no_object_is_refused(record: object) -> None:
    with pytest.raises(MalformedRecordError, match="must be a JSON object"):
        RecordReader().read(record)


def test_unknown_fields_of_a_known_version_are_ignored() -> None:
    assert RecordReader().read(file_record(compression="zstd")).rows == 321


@pytest.mark.parametrize("bound", [float("nan"), float("inf")])
def test_statistics_that_json_cannot_have_are_refused(bound: float) -> None:
    record = file_record(columns={"npi": {"min": bound, "max": bound, "nulls": 0}})
    with pytest.raises(MalformedRecordError, match=r"columns must hold JSON values"):
        RecordReader().read(record)


def test_a_bucket_is_the_only_place_of_files() -> None:
    reader = RecordReader("bucket")
    assert reader.read(file_record()).rows == 321
    with pytest.raises(MalformedRecordError, match=r"uri must start with one of s3://bucket/; got 'file:///lake/x'"):
        reader.read(file_record(uri="file:///lake/x"))


def test_another_encoder_gets_the_statistics() -> None:
    seen: list[Any] = []

    def encode(columns: object) -> bytes:
        seen.append(columns)
        return b"encoded"

    record = file_record()
    assert RecordReader(encode=encode).read(record).columns == b"encoded"
    assert seen == [record["columns"]]


def test_what_is_written_is_read() -> None:
    schema = pa.schema([pa.field("npi", pa.int64()), pa.field("tags", pa.list_(pa.string()))])
    columns = {"npi": {"min": 1, "max": 9, "nulls": 0}, "tags": {"nulls": 2}}
    state, day = partition_entry("state", pa.scalar("CA")), partition_entry("date", pa.scalar(dt.date(2024, 1, 15)))
    checksum = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    at = dt.datetime(2024, 1, 15, 13, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    entry = file_entry(WrittenFile("s3://b/k", 7, None, at, 3, [state, day], schema_entry(schema), columns, checksum))
    file = RecordReader().read(json.loads(json.dumps(entry)))
    assert (file.uri, file.size_bytes, file.etag, file.rows) == ("s3://b/k", 7, None, 3)
    assert (file.modified, file.checksum) == ("2024-01-15T12:00:00.000000Z", checksum)
    assert list(file.partition) == ["CA", "2024-01-15"]
    assert file.layout.file == schema
    assert file.layout.partition == pa.schema({"state": pa.string(), "date": pa.date32()})
    assert json.loads(file.columns) == columns
