"""The object layout: what DESIGN's table says, and that nothing a value contains can change it."""

import posixpath

import obstore
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from dagfusion_contract.errors import LayoutError
from dagfusion_contract.layout import (
    HIVE_NULL,
    MAX_KEY_BYTES,
    escape,
    file_key,
    hive_key,
    hive_segment,
    parse_hive_key,
    parse_hive_segment,
    unescape,
)

unicode_texts = st.text(st.characters(exclude_categories=["Cs"]))
nasty_texts = st.one_of(
    unicode_texts,
    st.sampled_from(["", ".", "..", "/", "../..", "a/b", "a=b", "100%", "%2F", "\0", "ü/日本", "x" * 900]),
)
names = unicode_texts.filter(bool)


def test_keys_of_unpartitioned_assets() -> None:
    assert file_key("datafusion_test", ["Silver", "TaxID", "raw_organizations"], None, None) == (
        "datafusion_test/Silver/TaxID/raw_organizations.parquet"
    )
    assert hive_key("", ["Silver", "orgs"], [], None) == "Silver/orgs/data.parquet"


def test_keys_of_partitions() -> None:
    assert file_key("p", ["Gold", "daily"], ("date", "2024-01-15"), None) == "p/Gold/daily/2024-01-15.parquet"
    assert file_key("p", ["hourly"], ("hour", "2024-01-15-03:00"), None) == "p/hourly/2024-01-15-03%3A00.parquet"
    assert hive_key("p", ["Silver", "orgs"], [("state", "CA"), ("date", "2024-01-15")], None) == (
        "p/Silver/orgs/state=CA/date=2024-01-15/data.parquet"
    )


def test_keys_of_a_run() -> None:
    assert file_key("p", ["a"], None, "r1") == "p/a-r1.parquet"
    assert file_key("p", ["a"], ("k", "x"), "r1") == "p/a/x-r1.parquet"
    assert hive_key("p", ["a"], [("k", "x")], "r1") == "p/a/k=x/data-r1.parquet"


def test_escapes_what_hive_escapes() -> None:
    assert escape("\"#%'*/:=?\\{[]^\x7f\x01\n") == "%22%23%25%27%2A%2F%3A%3D%3F%5C%7B%5B%5D%5E%7F%01%0A"
    assert escape("A-z 0_9.~!$&()+,;<>@`|}üé日本") == "A-z 0_9.~!$&()+,;<>@`|}üé日本"


def test_unescape_leaves_what_is_no_escape() -> None:
    assert unescape("100%") == "100%"
    assert unescape("%zz%4") == "%zz%4"
    assert unescape("%2f") == "/"


@given(st.text())
@example("%2F")
@example("\0")
def test_unescape_inverts_escape(text: str) -> None:
    assert unescape(escape(text)) == text


@given(names, nasty_texts)
def test_segment_comes_back_and_null_and_empty_are_one(column: str, value: str) -> None:
    assert parse_hive_segment(hive_segment(column, value)) == (column, None if value in {"", HIVE_NULL} else value)


def test_null_segment() -> None:
    assert hive_segment("k", None) == hive_segment("k", "") == f"k={HIVE_NULL}"
    assert parse_hive_segment(f"k={HIVE_NULL}") == ("k", None)


@pytest.mark.parametrize("segment", ["data.parquet", "=x", ""])
def test_segment_without_column_is_refused(segment: str) -> None:
    with pytest.raises(LayoutError, match=r"must be column=value; got"):
        parse_hive_segment(segment)


@given(st.lists(names, min_size=1, max_size=3), st.lists(st.tuples(names, nasty_texts), max_size=3))
def test_no_value_leaves_its_folder(asset_key: list[str], partition: list[tuple[str, str]]) -> None:
    try:
        key = hive_key("root", asset_key, partition, None)
    except LayoutError as error:
        assert "makes an object key of" in str(error)  # noqa: PT017 - the one reason that is left
        return
    assert len(key.encode()) <= MAX_KEY_BYTES
    assert posixpath.normpath(key) == key
    parts = key.split("/")
    assert parts[0] == "root"
    assert len(parts) == 1 + len(asset_key) + len(partition) + 1
    assert parse_hive_key("root", asset_key, key) == [(c, None if v in {"", HIVE_NULL} else v) for c, v in partition]


@given(st.lists(names, min_size=1, max_size=3), nasty_texts)
def test_no_file_leaves_its_folder(asset_key: list[str], value: str) -> None:
    try:
        key = file_key("root", asset_key, ("k", value), None)
    except LayoutError as error:
        assert "makes an object key of" in str(error)  # noqa: PT017 - the one reason that is left
        return
    assert posixpath.normpath(key) == key
    assert len(key.split("/")) == 1 + len(asset_key) + 1


@given(st.lists(names, min_size=1, max_size=3), st.lists(st.tuples(names, nasty_texts), max_size=3))
def test_the_store_takes_every_key_as_it_is(asset_key: list[str], partition: list[tuple[str, str]]) -> None:
    try:
        key = hive_key("root", asset_key, partition, None)
    except LayoutError:
        return
    memory = MemoryStore()
    obstore.put(memory, key, b"x")
    assert [meta["path"] for meta in obstore.list(memory).collect()] == [key]


def test_long_value_is_refused_with_its_names() -> None:
    with pytest.raises(LayoutError) as refused:
        hive_key("p", ["Silver", "orgs"], [("state", "CA"), ("city", "x" * 1100)], None)
    assert str(refused.value) == (
        f"asset 'Silver/orgs', partition column 'city', value '{'x' * 60}...' makes an object key of 1141 bytes;"
        " S3 allows 1024: use a shorter value"
    )


def test_longest_key_is_counted_in_bytes() -> None:
    rest = len("p/a/k=/data.parquet")
    assert len(hive_key("p", ["a"], [("k", "é" * ((MAX_KEY_BYTES - rest) // 2))], None).encode()) >= MAX_KEY_BYTES - 1
    with pytest.raises(LayoutError, match=r"column 'k'"):
        hive_key("p", ["a"], [("k", "é" * ((MAX_KEY_BYTES - rest) // 2 + 1))], None)


def test_long_asset_key_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"the key of asset 'aaa.* makes an object key of"):
        file_key("p", ["a" * 1100], None, None)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"partition column 'k', value .* must be valid Unicode"):
        hive_key("p", ["a"], [("j", "fine and longer"), ("k", "\ud800")], None)


@pytest.mark.parametrize("asset_key", [[], [""], ["a", ""]])
def test_empty_asset_key_is_refused(asset_key: list[str]) -> None:
    with pytest.raises(LayoutError, match=r"must have components and none of them empty"):
        file_key("p", asset_key, None, None)


def test_dots_are_no_folders() -> None:
    assert file_key("p", ["..", ".", "a"], None, None) == "p/%2E%2E/%2E/a.parquet"


def test_object_of_another_asset_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"must be under p/a/; got 'p/b/k=1/data.parquet'"):
        parse_hive_key("p", ["a"], "p/b/k=1/data.parquet")
