"""Blocks of a Parquet file: neighbouring row groups at their places in the file, and a footer of them alone.

A footer is a struct of Thrift's compact protocol. These fields are read:

    FileMetaData    {3: num_rows, 4: row_groups}
    RowGroup        {1: columns, 3: num_rows}
    ColumnChunk     {3: meta_data, 4: offset_index_offset, 5: its length, 6: column_index_offset, 7: its length}
    ColumnMetaData  {5: num_values, 7: total_compressed_size, 9: data_page_offset, 11: dictionary_page_offset,
                     14: bloom_filter_offset}
    PageHeader      {1: type, 3: compressed_page_size, 4: crc, 5: data_page_header, 8: data_page_header_v2}
    DataPageHeader  {1: num_values}, and DataPageHeaderV2 likewise
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from dagfusion_query.wire import read_varint, varint

_MAGIC = b"PAR1"
_LENGTH_BYTES = 4
_NUM_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS, _ROWS = 1, 3
_META_DATA, _OFFSET_INDEX, _COLUMN_INDEX = 3, 4, 6  # the length of an index is the next field
_CHUNK_VALUES, _CHUNK_BYTES, _DATA_PAGE, _DICTIONARY_PAGE, _BLOOM_FILTER = 5, 7, 9, 11, 14
_PAGE_TYPE, _PAGE_BYTES, _CRC = 1, 3, 4
_DICTIONARY = 2  # a type of pages
_DATA_HEADERS = {0: 5, 3: 8}  # of the types of pages with data, the field of their own header
_PAGE_VALUES = 1
_STOP = b"\0"
_MEMORY_FACTOR = 6  # what is read of a footer takes so many times its bytes
EXTENTS = 4  # of a block at the most: pages, two kinds of page indexes, and the footer
_MALFORMED = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
Range = tuple[int, int]  # the first byte, and the one after the last
Extent = tuple[int, bytes]  # bytes and their place in the file


class NoBlocksError(Exception):
    """A file is not damaged, and blocks of it would lack something that its footer names."""


class Chunk(NamedTuple):
    """A column chunk.

    Attributes:
        place: The range of its pages.
        values: The number of values in them, nulls and empty lists included.
    """

    place: Range
    values: int


class _RowGroup(NamedTuple):
    """A row group: its column chunks, the ranges of its page indexes, and its part of the footer."""

    rows: int
    chunks: Sequence[Chunk]
    column_indexes: Sequence[Range]
    offset_indexes: Sequence[Range]
    encoded: bytes


@dataclass(frozen=True)
class ParquetBlock:
    """Neighbouring row groups of a file.

    Attributes:
        pages: The range of their pages.
        chunks: The column chunks.
        others: The page indexes of the row groups, and the footer.
    """

    pages: Range
    chunks: Sequence[Chunk]
    others: Sequence[Extent]

    def extents(self, pages: bytes) -> Sequence[Extent]:
        """Return all that a reader of the block needs."""
        return [(self.pages[0], pages), *self.others]

    def is_intact(self, pages: bytes) -> bool:
        """Return True if each page has the checksum in its header, and each chunk the number of values in the footer.

        False if a page has no checksum.
        """
        first, end = self.pages
        try:
            return len(pages) == end - first and all(
                _is_intact(pages, chunk.place[0] - first, chunk.place[1] - first, chunk.values) for chunk in self.chunks
            )
        except _MALFORMED:  # no page begins where one should
            return False


class ParquetTail:
    """The end of a Parquet file.

    Args:
        content: The last bytes of the file.
        size_bytes: The size of the file.

    Attributes:
        start: Where the page indexes and the footer begin. If `content` begins later, more is needed of the file.
        memory_bytes: About the memory that it takes, once `content` is enough.

    Raises:
        NoBlocksError: The file has a bloom filter.
        ValueError: The file is not Parquet.
    """

    def __init__(self, content: bytes, size_bytes: int) -> None:
        trailer = _LENGTH_BYTES + len(_MAGIC)
        length = int.from_bytes(content[-trailer : -len(_MAGIC)], "little") + trailer
        if content[-len(_MAGIC) :] != _MAGIC or length > size_bytes:
            raise ValueError("the file does not end with a Parquet footer")
        self._size_bytes = size_bytes
        self.start = size_bytes - length
        if length > len(content):
            return
        self._footer = content[-length:-trailer]
        try:
            self._fields, self._row_groups = _footer(self._footer)
            indexes = (index for group in self._row_groups for index in (*group.column_indexes, *group.offset_indexes))
            self.start = min([self.start, *(start for start, _ in indexes)])
        except _MALFORMED as error:
            raise ValueError("the Parquet footer cannot be read") from error
        if self.start < 0:
            raise ValueError("the Parquet footer has a negative offset")
        self._content = content[-(size_bytes - self.start) :]
        self.memory_bytes = len(self._content) + _MEMORY_FACTOR * length

    def block(self, start: int, end: int) -> ParquetBlock:
        """Return the row groups that begin in a range.

        Raises:
            ValueError: There is none, or the footer is damaged.
        """
        try:
            groups = [group for group in self._row_groups if start <= group.chunks[0].place[0] < end]
            chunks = [*chain(*(group.chunks for group in groups))]
            pages = _hull([chunk.place for chunk in chunks])
            footer = self._footer_of(groups)
            indexes = ([group.column_indexes for group in groups], [group.offset_indexes for group in groups])
            others = [self._extent(_hull([*chain(*ranges)])) for ranges in indexes if any(ranges)]
        except _MALFORMED as error:
            raise ValueError(f"no row group begins in the bytes {start} to {end}") from error
        if not 0 <= pages[0] < pages[1] <= self.start:
            raise ValueError(f"the Parquet footer has pages in the bytes {pages[0]} to {pages[1]}")
        return ParquetBlock(pages, chunks, [*others, (self._size_bytes - len(footer), footer)])

    def _extent(self, place: Range) -> Extent:
        start, end = place
        if not self.start <= start <= end <= self._size_bytes:
            raise ValueError(f"the Parquet footer has a page index in the bytes {start} to {end}")
        return start, self._content[start - self.start : end - self.start]

    def _footer_of(self, groups: Sequence[_RowGroup]) -> bytes:
        """Return a footer with some of the row groups, and its length and the magic bytes behind it."""
        count = len(groups)
        changed = {
            _NUM_ROWS: varint(2 * sum(group.rows for group in groups)),  # zigzag
            _ROW_GROUPS: _list_head(count) + b"".join(group.encoded for group in groups),
        }
        footer = b"".join(
            self._footer[start:value] + changed.get(number, self._footer[value:end])
            for number, (start, value, end) in self._fields.items()
        )
        footer += _STOP
        return footer + len(footer).to_bytes(_LENGTH_BYTES, "little") + _MAGIC


def _footer(data: bytes) -> tuple[Mapping[int, tuple[int, int, int]], Sequence[_RowGroup]]:
    """Return where each field of a footer, its value and its end are, by number; and the row groups."""
    places: dict[int, tuple[int, int, int]] = {}
    groups: list[_RowGroup] = []
    number = at = 0
    while data[at]:
        start = at
        number, kind, value = _field(data, at, number)
        if number == _ROW_GROUPS:
            at = _read_row_groups(data, value, groups)
        else:
            _, at = _READ[kind](data, value)
        places[number] = (start, value, at)
    return places, groups


def _read_row_groups(data: bytes, at: int, groups: list[_RowGroup]) -> int:
    """Append the row groups of a list, and return its end."""
    count, _, at = _read_list_head(data, at)
    for _ in range(count):
        start = at
        group, at = _struct(data, at)
        columns = group[_COLUMNS]
        groups.append(
            _RowGroup(
                group[_ROWS],
                [_chunk(column[_META_DATA]) for column in columns],
                [*_indexes(columns, _COLUMN_INDEX)],
                [*_indexes(columns, _OFFSET_INDEX)],
                data[start:at],
            )
        )
    return at


def _chunk(meta_data: Mapping[int, int]) -> Chunk:
    if _BLOOM_FILTER in meta_data:
        raise NoBlocksError("has a bloom filter, which a block would not have")
    start = meta_data.get(_DICTIONARY_PAGE, meta_data[_DATA_PAGE])
    return Chunk((start, start + meta_data[_CHUNK_BYTES]), meta_data[_CHUNK_VALUES])


def _indexes(columns: Sequence[Mapping[int, int]], offset: int) -> Iterator[Range]:
    for column in columns:
        if offset in column:
            yield column[offset], column[offset] + column[offset + 1]


def _hull(ranges: Sequence[Range]) -> Range:
    return min(start for start, _ in ranges), max(end for _, end in ranges)


def _is_intact(data: bytes, at: int, end: int, values: int) -> bool:
    """Compare the pages of a column chunk with their checksums, and their values with the number in the footer.

    A header has no checksum, and a reader takes the number of values from there.
    """
    found = 0
    while at < end:
        header, at = _struct(data, at)
        size, crc = header[_PAGE_BYTES], header[_CRC]
        if size < 0 or zlib.crc32(data[at : at + size]) != crc & 0xFFFF_FFFF:
            return False
        if header[_PAGE_TYPE] != _DICTIONARY:
            found += header[_DATA_HEADERS[header[_PAGE_TYPE]]][_PAGE_VALUES]
        at += size
    return at == end and found == values


# Thrift's compact protocol. Each function returns what it read, and the place after it.


def _field(data: bytes, at: int, last: int) -> tuple[int, int, int]:
    """Read the head of a field: its number, which is relative to the last one's, and the kind of its value."""
    head = data[at]
    if head >> 4:
        return last + (head >> 4), head & 15, at + 1
    number, at = _integer(data, at + 1)
    return number, head & 15, at


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    values: dict[int, Any] = {}
    number = 0
    while data[at]:
        number, kind, at = _field(data, at, number)
        values[number], at = _READ[kind](data, at)
    return values, at + 1


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = read_varint(data, at)
    return data[at : at + size], at + size


def _list_head(count: int) -> bytes:
    """Encode the head of a list of structs."""
    short = 15
    return bytes([count << 4 | _STRUCT]) if count < short else bytes([short << 4 | _STRUCT]) + varint(count)


def _read_list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the number of elements of a list, and their kind."""
    head, at = data[at], at + 1
    count = head >> 4
    if count == 15:  # noqa: PLR2004
        count, at = read_varint(data, at)
    return count, head & 15, at


def _list(data: bytes, at: int) -> tuple[list[Any], int]:
    count, kind, at = _read_list_head(data, at)
    read = _byte if _READ[kind] is _boolean else _READ[kind]
    values = []
    for _ in range(count):
        value, at = read(data, at)
        values.append(value)
    return values, at


def _boolean(_: bytes, at: int) -> tuple[None, int]:
    """Read a field whose kind is its value."""
    return None, at


def _byte(data: bytes, at: int) -> tuple[int, int]:
    return data[at], at + 1


def _double(data: bytes, at: int) -> tuple[bytes, int]:
    return data[at : at + 8], at + 8


_STRUCT = 12
_READ: Mapping[int, Callable[[bytes, int], tuple[Any, int]]] = {
    1: _boolean,
    2: _boolean,
    3: _byte,
    4: _integer,
    5: _integer,
    6: _integer,
    7: _double,
    8: _binary,
    9: _list,
    10: _list,
    _STRUCT: _struct,
}
