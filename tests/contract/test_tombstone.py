"""The record of a wiped partition: what is written is read again, and what breaks the contract is refused."""

import json
from importlib.resources import files

import pytest

from dagfusion_contract.errors import MalformedRecordError, RecordVersionError
from dagfusion_contract.tombstone import MAX_REASON, Tombstone, read_tombstone, tombstone_entry

GOLDEN = json.loads(files("dagfusion_contract").joinpath("golden", "tombstone_v1.json").read_text())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_golden_entry_is_read_and_written(name: str) -> None:
    assert json.loads(json.dumps(tombstone_entry(read_tombstone(GOLDEN[name])))) == GOLDEN[name]


def test_a_long_reason_is_cut_to_what_readers_take() -> None:
    entry = tombstone_entry(Tombstone("x" * (MAX_REASON + 1)))
    assert read_tombstone(entry) == Tombstone("x" * MAX_REASON)


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_an_unknown_version_is_refused(version: object) -> None:
    with pytest.raises(RecordVersionError, match=r"dagfusion/tombstone\.version must be 1"):
        read_tombstone({"version": version, "reason": "wiped"})


@pytest.mark.parametrize("record", [{"version": 1}, {"version": 1, "reason": 3}, {"version": 1, "reason": "x" * 1001}])
def test_a_reason_is_text(record: object) -> None:
    with pytest.raises(MalformedRecordError, match=r"dagfusion/tombstone\.reason must be text"):
        read_tombstone(record)


@pytest.mark.parametrize("record", [None, [], "wiped"])
def test_an_entry_is_an_object(record: object) -> None:
    with pytest.raises(MalformedRecordError, match="dagfusion/tombstone must be a JSON object"):
        read_tombstone(record)
