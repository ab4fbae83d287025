"""The record of a consolidation: what is written is read again, and what breaks the contract is refused."""

import json
from copy import deepcopy
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.consolidation import consolidated_entry, events_text, read_consolidated, read_events
from dagfusion_contract.errors import MalformedRecordError, RecordVersionError
from dagfusion_contract.layout import consolidated_folder, consolidated_key

GOLDEN = json.loads(files("dagfusion_contract").joinpath("golden", "consolidated_v1.json").read_text())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_golden_entry_is_read_and_written(name: str) -> None:
    objects = read_consolidated(GOLDEN[name])
    assert json.loads(json.dumps(consolidated_entry(objects))) == GOLDEN[name]
    (one,), (entry,) = objects, GOLDEN[name]["objects"]
    assert (one.uri, one.size_bytes, one.etag) == (entry["uri"], entry["size_bytes"], entry["etag"])
    assert [group.offset for group in one.row_groups] == [group["offset"] for group in entry["row_groups"]]


def test_field_ids_are_said_only_where_they_are() -> None:
    (entry,) = GOLDEN["one_object"]["objects"]
    assert [one.has_field_ids for one in read_consolidated(GOLDEN["one_object"])] == [False]
    with_ids = {**GOLDEN["one_object"], "objects": [{**entry, "field_ids": True}]}
    (one,) = read_consolidated(with_ids)
    assert one.has_field_ids
    assert consolidated_entry([one]) == with_ids


def test_events_are_read_from_runs() -> None:
    (one,) = read_consolidated(GOLDEN["one_object"])
    assert one.row_groups[0].events == (17, *range(20, 65), 70)
    assert one.row_groups[1].events == (71,)


@given(st.sets(st.integers(0, (1 << 63) - 1) | st.integers(0, 50), min_size=1).map(sorted))
def test_every_list_of_ids_is_read_again(events: list[int]) -> None:
    assert read_events(events_text(events)) == tuple(events)


@pytest.mark.parametrize(
    "text", ["", "1,", "a", "2,1", "1,1", "3-2", "1-3,3", "-1", "1 2", "9223372036854775808", "0-99999999999", "1\n"]
)
def test_other_texts_are_no_ids(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is not|do not ascend"):
        read_events(text)


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_an_unknown_version_is_refused(version: object) -> None:
    with pytest.raises(RecordVersionError, match=r"dagfusion/consolidated\.version must be 1"):
        read_consolidated({**GOLDEN["one_object"], "version": version})


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["objects"], None, r"consolidated\.objects must be a list, got None"),
        (["objects", 0], "x", r"objects\[0\] must be an object"),
        (["objects", 0, "uri"], "https://x", r"objects\[0\]\.uri must start with"),
        (["objects", 0, "size_bytes"], -1, r"size_bytes must be a count"),
        (["objects", 0, "etag"], 17, r"etag must be a string or null"),
        (["objects", 0, "field_ids"], 1, r"field_ids must be true or false"),
        (["objects", 0, "checksum"], "sha256:ab", r"checksum must be sha256"),
        (["objects", 0, "modified"], "yesterday", r"modified must be a moment"),
        (["objects", 0, "modified"], "9999-01-01T00:00:00Z", r"modified must be a moment"),
        (["objects", 0, "modified"], "2024-01-01T00:00:00", r"modified must be a moment"),
        (["objects", 0, "partition"], {}, r"partition must be a list"),
        (["objects", 0, "schema"], [], r"schema must be an object"),
        (["objects", 0, "row_groups"], {}, r"row_groups must be a list"),
        (["objects", 0, "row_groups", 1, "events"], "2,1", r"row_groups\[1\]\.events must be ascending ids"),
        (["objects", 0, "row_groups", 0, "rows"], True, r"rows must be an integer"),
        (["objects", 0, "row_groups", 0, "offset"], 1 << 63, r"offset must be a count"),
        (["objects", 0, "row_groups", 0, "times"], None, r"times must be an integer"),
    ],
)
def test_a_field_that_breaks_the_contract_is_named(path: list[Any], value: object, says: str) -> None:
    record = deepcopy(GOLDEN["one_object"])
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(MalformedRecordError, match=says):
        read_consolidated(record)


def test_objects_of_other_buckets_are_refused() -> None:
    assert read_consolidated(GOLDEN["one_object"], "bucket")
    with pytest.raises(MalformedRecordError, match=r"must start with one of s3://other/"):
        read_consolidated(GOLDEN["one_object"], "other")


def test_the_folder_is_not_inside_of_the_table() -> None:
    key = consolidated_key("lake", ["Silver", "a/b"], "run", "0a1b2c3d", 3)
    assert key == "lake/_consolidated/Silver/a%2Fb/data-0a1b2c3d-run-3.parquet"
    assert consolidated_folder("", ["orders"]) == "_consolidated/orders"
