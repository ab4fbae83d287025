"""What one side writes the other reads: the golden events, and the names of tables."""

import hashlib
import json
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_pipeline import naming as written
from dagfusion_pipeline.arrow_types import flat_type
from dagfusion_query.catalog import naming as read
from dagfusion_query.event_log.record import RecordReader

GOLDEN = json.loads((Path(__file__).parent / "event_v1.json").read_text())
texts = st.one_of(st.text(), st.sampled_from(sorted(read.RESERVED)), st.from_regex(r"[A-Za-z0-9_]+", fullmatch=True))


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_reader_reads_the_golden_event(name: str) -> None:
    entry = GOLDEN[name]
    file = RecordReader().read(orjson.loads(orjson.dumps(entry)))
    assert (file.uri, file.size_bytes, file.etag, file.rows) == tuple(
        entry[field] for field in ("uri", "size_bytes", "etag", "rows")
    )
    assert file.modified == entry["modified"]
    assert file.checksum == entry.get("checksum")
    assert list(file.partition) == [column["value"] for column in entry["partition"]]
    assert orjson.loads(file.columns) == entry["columns"]
    assert file.layout.partition == pa.schema(
        [pa.field(column["name"], flat_type(column["type"])) for column in entry["partition"]]
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


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_both_sides_name_a_table_alike(environment: str, asset_key: list[str]) -> None:
    assert str(written.table_name(environment, asset_key)) == str(read.table_name(environment, asset_key))


def test_both_sides_reserve_the_same_words() -> None:
    assert written.RESERVED == read.RESERVED
