"""The first rows of a result, as text and as HTML, bounded in rows, columns and characters. Pure."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

ROWS, COLUMNS = 10, 20
_TEXT_WIDTH, _HTML_WIDTH = 32, 120
_NULL = "NULL"


@dataclass(frozen=True)
class Preview:
    """The first rows of a result, read without taking them.

    Attributes:
        schema: The result's columns.
        batches: The batches that have been read ahead.
        note: Why there are no rows, or no more of them.
        is_whole: Whether `batches` are all there are.
    """

    schema: pa.Schema
    batches: Sequence[pa.RecordBatch] = ()
    note: str | None = None
    is_whole: bool = False

    def text(self) -> str:
        """Return the first rows as a table of text under one line about them."""
        if not self._names:
            return self._title
        columns = [
            [_cut(name, _TEXT_WIDTH), _cut(kind, _TEXT_WIDTH), *cells]
            for name, kind, cells in zip(self._names, self._types, self._cells(_TEXT_WIDTH), strict=True)
        ]
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in zip(*columns, strict=True)
        ]
        return "\n".join([self._title, *lines[:2], "  ".join("-" * width for width in widths), *lines[2:]])

    def html(self) -> str:
        """Return the same as an HTML table; every text is escaped."""
        heads = "".join(
            f"<th>{html.escape(_cut(name, _HTML_WIDTH))}<br><small>{html.escape(_cut(kind, _HTML_WIDTH))}</small></th>"
            for name, kind in zip(self._names, self._types, strict=True)
        )
        rows = zip(*self._cells(_HTML_WIDTH), strict=True)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return (
            f"<div><p>{html.escape(self._title)}</p><table><thead><tr>{heads}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>"
        )

    @property
    def _names(self) -> list[str]:
        return list(self.schema.names[:COLUMNS])

    @property
    def _types(self) -> list[str]:
        return [str(field.type) for field in list(self.schema)[:COLUMNS]]

    @property
    def _title(self) -> str:
        rows, count = sum(batch.num_rows for batch in self.batches), len(self.schema)
        columns = counted(count, "column") + (f", of which the first {COLUMNS} are shown" if count > COLUMNS else "")
        if self.note is not None:
            return f"Result: {columns}; {self.note}"
        if self.is_whole:
            return f"Result: {columns}; {counted(rows, 'row')}" + (f", the first {ROWS}:" if rows > ROWS else "")
        return f"Result: {columns}; the first rows:"

    def _cells(self, width: int) -> list[list[str]]:
        """Return the texts of the first rows, by column."""
        columns: list[list[str]] = [[] for _ in self._names]
        for batch in self.batches:
            room = ROWS - len(columns[0]) if columns else 0
            for cells, column in zip(columns, batch.columns, strict=False):
                cells.extend(_texts(column.slice(0, room), width))
        return columns


def counted(count: int, noun: str) -> str:
    """Write a number of things: `1 row`, `1,200 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def is_moment(kind: pa.DataType) -> bool:
    """Return True for dates, times and timestamps."""
    return bool(pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind))


def moments(column: pa.Array) -> pa.Array:
    """Return dates, times or timestamps as a string array, in UTC if they have a zone, without a fraction of zeros."""
    import pyarrow.compute as pc  # noqa: PLC0415  # takes a while; a client that shows no rows needs none of it

    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    return pc.replace_substring_regex(column.cast(pa.string()), r"\.0+(Z?)$", r"\1")


def _texts(column: pa.Array, width: int) -> list[str]:
    """Return a text for each value; none is made longer than what is shown of it, where Arrow can help that."""
    import pyarrow.compute as pc  # noqa: PLC0415  # likewise

    kind = column.type
    if _is_text(kind):
        shown = pc.utf8_slice_codeunits(column.cast(pa.large_string()), 0, width + 1)
    elif is_moment(kind):
        shown = moments(column)
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or _is_real(kind):
        shown = column.cast(pa.string())
    else:
        shown = pa.array([_described(column.slice(row, 1), width) for row in range(len(column))], pa.string())
    return [_NULL if value is None else _cut(value, width) for value in shown.to_pylist()]


def _described(value: pa.Array, width: int) -> str | None:
    """Return Arrow's own short text of a nested or binary value, or of another without a plain one."""
    if value.null_count:
        return None
    if pa.types.is_struct(value.type):  # Arrow shows the children below each other
        fields = zip(value.type, value.flatten(), strict=True)
        return "{" + ", ".join(f"{field.name}: {_texts(child, width)[0]}" for field, child in fields) + "}"
    text: str = value.to_string(skip_new_lines=True, window=5, container_window=2, element_size_limit=width)
    return text.removeprefix("[").removesuffix("]")


def _cut(text: str, width: int) -> str:
    """Return a text on one line, no longer than a width."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: width + 1])
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_real(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_float64(kind) or pa.types.is_float32(kind))
