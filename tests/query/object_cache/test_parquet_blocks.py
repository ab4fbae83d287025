"""Blocks of a Parquet file: a reader finds their row groups in a file with holes, and damaged pages are found."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.object_cache import parquet_blocks
from dagfusion_query.object_cache.parquet_blocks import EXTENTS, NoBlocksError, ParquetBlock, ParquetTail
from tests.tiers import examples

GROUPS = st.lists(st.integers(1, 60), min_size=1, max_size=20)


def written(groups: Sequence[int], **options: Any) -> bytes:
    """A file of two flat columns and a nested one, with so many rows in its row groups."""
    sink = pa.BufferOutputStream()
    rows = pa.table(
        {
            "x": pa.array(range(sum(groups)), pa.int64()),
            "s": [None if n % 7 == 0 else f"text {n % 5}" for n in range(sum(groups))],
            "l": [[{"a": float(n)}] * (n % 3) for n in range(sum(groups))],
        }
    )
    with pq.ParquetWriter(sink, rows.schema, **{"write_page_checksum": True, **options}) as writer:
        for number, count in enumerate(groups):
            writer.write_table(rows.slice(sum(groups[:number]), count), row_group_size=count)
    content: bytes = sink.getvalue().to_pybytes()
    return content


FILE = written([5] * 4, write_page_index=True)


BEGINS = {
    begin
    for group in range(4)
    for column in range(3)
    for chunk in [pq.read_metadata(pa.BufferReader(FILE)).row_group(group).column(column)]
    for begin in (chunk.dictionary_page_offset, chunk.data_page_offset)
}


def offsets(content: bytes) -> list[int]:
    metadata = pq.read_metadata(pa.BufferReader(content))
    columns = (metadata.row_group(number).column(0) for number in range(metadata.num_row_groups))
    return [c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in columns]


@settings(max_examples=examples(60), deadline=None)
@given(GROUPS, st.booleans(), st.sampled_from([True, False, ["s"]]), st.data())
def test_a_block_is_read_as_its_row_groups(
    groups: list[int],
    has_index: bool,  # noqa: FBT001
    dictionary: bool | list[str],  # noqa: FBT001
    data: st.DataObject,
) -> None:
    content = written(groups, write_page_index=has_index, use_dictionary=dictionary)
    starts = [*offsets(content), len(content)]
    first = data.draw(st.integers(0, len(groups) - 1))
    end = data.draw(st.integers(first + 1, len(groups)))

    block = ParquetTail(content, len(content)).block(starts[first], starts[end])
    pages = content[slice(*block.pages)]
    extents = block.extents(pages)
    file = bytearray(len(content))
    for start, part in extents:
        file[start : start + len(part)] = part

    assert block.is_intact(pages)
    assert len(extents) == (EXTENTS if has_index else EXTENTS - 2)
    assert all(content[start : start + len(part)] == part for start, part in extents[:-1]), "the last is the footer"
    read = pq.ParquetFile(pa.BufferReader(bytes(file)), page_checksum_verification=True)
    whole = pq.ParquetFile(pa.BufferReader(content))
    assert read.metadata.num_rows == sum(groups[first:end])
    assert read.read().equals(whole.read_row_groups(range(first, end)))
    damaged = bytearray(pages)
    _, chunk_end = data.draw(st.sampled_from(block.chunks)).place
    damaged[chunk_end - 1 - block.pages[0]] ^= 1 << data.draw(st.integers(0, 7))
    assert not block.is_intact(bytes(damaged))
    assert not block.is_intact(pages[:-1])


@settings(max_examples=examples(30))
@given(st.integers(1, 4000))
def test_more_of_the_end_is_asked_for_until_it_is_enough(count: int) -> None:
    size = len(FILE)
    start, more = max(0, size - max(count, 8)), 0
    while (tail := ParquetTail(FILE[start:], size)).start < start:
        start, more = tail.start, more + 1
    assert more <= 2
    assert tail.block(4, size) == ParquetTail(FILE, size).block(4, size)


def test_pages_without_checksums_are_not_intact() -> None:
    content = written([5], write_page_checksum=False)
    block = ParquetTail(content, len(content)).block(4, len(content))
    assert not block.is_intact(content[slice(*block.pages)])


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_another_number_or_type_of_values_is_not_intact(version: str) -> None:
    """In the header of a page, which has no checksum. A reader would return other rows."""
    content = written([20, 20], data_page_version=version, use_dictionary=["s"])
    block = ParquetTail(content, len(content)).block(4, len(content))
    pages = content[slice(*block.pages)]
    assert block.is_intact(pages)
    changed = 0
    for at, header, end in headers(block, pages):
        for place, bit in itertools.product(range(at, end), range(8)):
            damaged = bytearray(pages)
            damaged[place] ^= 1 << bit
            with contextlib.suppress(LookupError, TypeError, ValueError):
                other, other_end = parquet_blocks._struct(bytes(damaged), at)
                if other_end == end and facts(other) != facts(header):
                    changed += 1
                    assert not block.is_intact(bytes(damaged)), (header, other)
    assert changed > 100


def headers(block: ParquetBlock, pages: bytes) -> Iterator[tuple[int, Any, int]]:
    """Each header with its first byte, and the one after the last."""
    for (start, chunk_end), _ in block.chunks:
        at = start - block.pages[0]
        while at < chunk_end - block.pages[0]:
            header, end = parquet_blocks._struct(pages, at)
            yield at, header, end
            at = end + header[3]


def facts(header: Any) -> tuple[Any, ...]:
    """The type of a page, and the number of its values if it is no dictionary."""
    kind = header.get(1)
    own = [header.get(field) for field in (5, 8) if kind != 2]
    return kind, *(one.get(1) if isinstance(one, dict) else one for one in own)


def test_a_bloom_filter_is_refused() -> None:
    """It is outside of the pages, so a block would not have it."""
    meta_data = {5: 3, 7: 10, 9: 4}
    assert parquet_blocks._chunk(meta_data) == ((4, 14), 3)
    with pytest.raises(NoBlocksError, match="bloom filter"):
        parquet_blocks._chunk({**meta_data, 14: 100})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "does not end with"),
        (b"PAR1", "does not end with"),
        (b"x" * 40, "does not end with"),
        (b"x" * 40 + b"\xff\xff\xff\x7fPAR1", "does not end with"),
        (b"\x1c" * 2000 + (2000).to_bytes(4, "little") + b"PAR1", "cannot be read"),
        (b"\x49\x1c\x19\x0c\0\0" + (6).to_bytes(4, "little") + b"PAR1", "cannot be read"),
    ],
)
def test_what_is_not_parquet_is_refused(content: bytes, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ParquetTail(content, len(content))


@settings(max_examples=examples(100))
@given(st.data())
def test_a_damaged_footer_is_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(FILE)
    place = data.draw(st.integers(ParquetTail(FILE, len(FILE)).start, len(FILE) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        tail = ParquetTail(bytes(content), len(content))
        block = tail.block(0, len(content))
    except (ValueError, NoBlocksError):
        return
    first, last = block.pages
    assert 0 <= first < last <= tail.start
    extents = block.extents(bytes(content[first:last]))
    assert len(extents) <= EXTENTS
    assert all(0 <= start <= start + len(part) <= len(content) for start, part in extents)
    assert all(bytes(content[start : start + len(part)]) == part for start, part in extents[:-1])
    if block.is_intact(extents[0][1]):
        assert all(start in BEGINS for (start, end), _ in block.chunks if start < end), "no page begins elsewhere"
