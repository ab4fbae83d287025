"""Output for people: tables on stdout, folded to the width of the terminal, and the cost of a query on stderr."""

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any, BinaryIO

import pyarrow as pa
import typer

from dagfusion_client.abstract_connection import Result
from dagfusion_client.preview import counted, is_moment, moments
from dagfusion_client.returned_values import Explanation, QueryStats, ScanExplanation, TableInfo

SHOWN_PARTITIONS = 8
_BOX = ("┏━┳┓", "┃", "┡━╇┩", "│", "└─┴┘")
_PLAIN_BOX = ("+-++", "|", "+-++", "|", "+-++")  # where the terminal knows no other signs
_LEAST = 4  # columns are not folded to less, whatever the width
Style = Callable[[str], str]


@dataclass
class Grid:
    """A table.

    Attributes:
        names: The names of the columns.
        right: Which columns stand to the right.
        rows: Texts by column; None is NULL.
    """

    names: Sequence[str]
    right: Sequence[bool]
    rows: list[Sequence[str | None]] = field(default_factory=list)

    def lines(
        self, width: int | None = None, *, is_plain: bool = False, null: Style = str, head: Style = str
    ) -> Iterator[str]:
        """Yield the table, line by line.

        Args:
            width: The width of the terminal; a table that is wider is folded. None folds nothing.
            is_plain: Whether only ASCII can be shown around the texts.
            null: Marks up what stands for NULL.
            head: Marks up names of columns.
        """
        top, head_bar, middle, bar, bottom = _PLAIN_BOX if is_plain else _BOX
        cells = [[_lines("NULL" if cell is None else cell) for cell in row] for row in self.rows]
        names = [_lines(name) for name in self.names]
        widths = _fitting(_widths([names, *cells], len(names)), width)
        yield _rule(top, widths)
        yield from self._row(names, widths, head_bar, [head] * len(names))
        yield _rule(middle, widths)
        for row, texts in zip(self.rows, cells, strict=True):
            yield from self._row(texts, widths, bar, [null if cell is None else str for cell in row])
        yield _rule(bottom, widths)

    def _row(
        self, cells: Sequence[Sequence[str]], widths: Sequence[int], bar: str, styles: Sequence[Style]
    ) -> Iterator[str]:
        folded = [
            [piece for line in cell for piece in _folded(line, width)]
            for cell, width in zip(cells, widths, strict=True)
        ]
        for pieces in zip_longest(*folded, fillvalue=""):
            texts = []
            for piece, width, right, style in zip(pieces, widths, self.right, styles, strict=True):
                room = " " * (width - _terminal_columns(piece))
                shown = style(piece) if piece else piece
                texts.append(f" {room}{shown} " if right else f" {shown}{room} ")
            yield f"{bar}{bar.join(texts)}{bar}"


class TableOutput:
    """For people.

    Args:
        max_rows: How many rows are shown; 0 for all.
        file: Where tables go instead of stdout.
    """

    def __init__(self, max_rows: int, file: BinaryIO | None = None) -> None:
        self._max_rows, self._file = max_rows, file

    def tables(self, tables: Sequence[TableInfo], *, every_asset: bool = False) -> None:
        """Show the catalog, one row for each table; assets that are no tables are counted."""
        listed = [table for table in tables if table.is_table or every_asset]
        shown = Grid(
            ["table", "partitioned by", "partitions", "rows", "size", "last materialized"],
            [False, False, True, True, True, False],
        )
        for table in listed:
            numbers = (f"{table.partitions:,}", f"{table.rows:,}", size(table.bytes))
            last = table.problem or _moment(table.materialized_at)
            partitioned = ", ".join(table.partition_columns)
            shown.rows.append(
                [table.name, *((partitioned, *numbers) if table.view is None else ("(view)", "", "", "")), last]
            )
        self._grid(shown)
        if gaining := [table.name for table in listed if table.would_gain]:
            _say(f"many small objects: `dagfusion consolidate TABLE` makes scans of {', '.join(gaining)} faster")
        for warning in (text for table in listed for text in table.warnings if text != table.problem):
            _say(f"warning: {warning}")
        if others := len(tables) - len(listed):
            what = (
                "1 asset is not Parquet, and no table"
                if others == 1
                else f"{others:,} assets are not Parquet, and no tables"
            )
            _say(f"{what}: `dagfusion tables --all` lists them, each with the reason")

    def table(self, table: TableInfo) -> None:
        """Show all that is known of a table."""
        facts = {
            "asset": "/".join(table.asset_key),
            "view": table.view,
            "location": table.location,
            "rows": f"{table.rows:,}" if table.view is None else None,
            "partitions": f"{table.partitions:,}" if table.view is None else None,
            "files": f"{counted(table.files, 'file')}, {size(table.bytes)}" if table.view is None else None,
            "consolidated": consolidation(table),
            "materialized": _moment(table.materialized_at),
            "problem": table.problem,
        }
        self._print(table.name)
        for name, fact in facts.items():
            if fact:
                self._print(f"  {name:<12}  {fact}")
        if table.columns:
            self._grid(_columns_of(table))
        for warning in table.warnings:
            if warning != table.problem:
                _say(f"warning: {warning}")

    def rows(self, rows: pa.Table, note: str = "") -> None:
        """Show all rows, and the note on stderr."""
        shown = Grid(rows.column_names, [_is_number(field.type) for field in rows.schema])
        for batch in rows.to_batches():
            shown.rows += _rows(batch)
        self._grid(shown)
        if note:
            _say(note)

    def result(self, result: Result) -> None:
        """Show the first rows; all are read, so that the figures are those of the whole query."""
        shown = Grid(result.schema.names, [_is_number(field.type) for field in result.schema])
        total = 0
        for batch in result:
            room = batch.num_rows if not self._max_rows else max(0, self._max_rows - total)
            shown.rows += _rows(batch.slice(0, room))
            total += batch.num_rows
        self._grid(shown)
        if self._max_rows and total > self._max_rows:
            _say(f"{total - self._max_rows:,} more rows: --max-rows 0 shows all, --format csv writes all")
        _say(typer.style(cost(result.stats), dim=True))
        show_warnings(result)

    def explanation(self, explanation: Explanation) -> None:
        """Show what is read and why, then DataFusion's plan."""
        for scan in explanation.scans:
            self._print(_scan_text(scan))
        self._print(f"\nlogical plan\n{explanation.logical}")
        self._print(f"\nphysical plan ({explanation.path})\n{explanation.physical.rstrip()}")

    def _grid(self, grid: Grid) -> None:
        if self._file is not None or not sys.stdout.isatty():  # neither has a width: nothing is folded
            lines = grid.lines()
        else:
            is_plain = not (sys.stdout.encoding or "").lower().startswith("utf")
            width = shutil.get_terminal_size().columns
            lines = grid.lines(width, is_plain=is_plain, null=_dim, head=_bold)
        self._print(*lines)

    def _print(self, *lines: str) -> None:
        if self._file is not None:
            self._file.writelines(f"{line}\n".encode() for line in lines)
            return
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()


def show_warnings(result: Result) -> None:
    """Write the warnings of a result on stderr; it has all of them after its last row."""
    for warning in result.warnings:
        _say(f"warning: {warning}")


def cost(stats: QueryStats) -> str:
    """Return the cost of a query in one line."""
    files = f"{stats.files_read:,} of {stats.files_total:,} files read, " if stats.files_total else ""
    requests = f" in {counted(stats.requests, 'request')}" if stats.requests else ""
    return f"{counted(stats.rows, 'row')}; {files}{size(stats.bytes_read)}{requests}, {stats.seconds * 1000:,.1f} ms"


def consolidation(table: TableInfo) -> str:
    """Write the share of a table's files that are consolidated: `97 %`; empty where none is, and none should be."""
    if not table.consolidated:
        return "no; it would make scans faster" if table.would_gain else ""
    share = f"{100 * table.consolidated // max(table.files, 1)} %"
    return f"{share}; the rest would make scans faster" if table.would_gain else share


def size(count: float) -> str:
    """Write a number of bytes as a person does: `741 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _dim(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else typer.style(text, dim=True)


def _bold(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else typer.style(text, bold=True)


def _columns_of(table: TableInfo) -> Grid:
    shown = Grid(["column", "type", "nullable", "partition"], [False] * 4)
    for name, kind in table.columns.items():
        nullable = "no" if name in table.required else "yes"
        shown.rows.append([name, kind, nullable, "yes" if name in table.partition_columns else ""])
    return shown


def _scan_text(scan: ScanExplanation) -> str:
    files = f"{scan.files_read:,} of {scan.files_total:,} files{scan.in_large}"
    lines = [f"{scan.table}: reads {files}, {size(scan.bytes_kept)} of {size(scan.bytes_total)}{scan.without_archive}"]
    if scan.sources:
        lines.append(f"  {scan.sources}")
    for effect in scan.filters:
        what = (
            f"skips {effect.skipped:,} files by its {effect.by}"
            if effect.by != "nothing"
            else "filters rows as they are read"
        )
        lines.append(f"  {effect.text}: {what}")
    for key, uri in list(zip(scan.partitions, scan.uris, strict=True))[:SHOWN_PARTITIONS]:
        lines.append(f"  + {key or 'unpartitioned'}  {uri}")
    if scan.files_read > SHOWN_PARTITIONS:
        lines.append(f"  + {scan.files_read - SHOWN_PARTITIONS:,} more")
    return "\n".join(lines)


def _rows(batch: pa.RecordBatch) -> Iterator[Sequence[str | None]]:
    """Yield rows of texts, by position: two columns may have one name."""
    columns = [[None if value is None else str(value) for value in _values(column)] for column in batch.columns]
    return zip(*columns, strict=True)


def _values(column: pa.Array) -> list[Any]:
    """Return Python values; dates and times, some of which Python's own types do not have, as text."""
    if is_moment(column.type):
        return list(moments(column).to_pylist())
    if pa.types.is_interval(column.type):
        return [None if value is None else _interval(*value) for value in column.to_pylist()]
    return list(column.to_pylist())


def _interval(months: int, days: int, nanoseconds: int) -> str:
    seconds = Decimal(nanoseconds).scaleb(-9).normalize()
    return f"P{months}M{days}DT{seconds:f}S"


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _rule(signs: Sequence[str], widths: Sequence[int]) -> str:
    left, line, cross, right = signs
    return f"{left}{cross.join(line * (width + 2) for width in widths)}{right}"


def _lines(text: str) -> list[str]:
    """Return a text's lines, with what a terminal would obey written out."""
    return [
        "".join(char if char.isprintable() else repr(char)[1:-1] for char in line.expandtabs(4))
        for line in text.split("\n")
    ]


def _widths(rows: Sequence[Sequence[Sequence[str]]], count: int) -> list[int]:
    return [max(_terminal_columns(line) for row in rows for line in row[number]) for number in range(count)]


def _fitting(widths: Sequence[int], room: int | None) -> list[int]:
    """Make the widest columns narrower until all fit, as far as that goes."""
    if room is None or not widths:
        return list(widths)
    room -= 3 * len(widths) + 1
    most = max(widths)
    while most > _LEAST and sum(min(width, most) for width in widths) > room:
        most -= 1
    return [min(width, most) for width in widths]


def _folded(line: str, width: int) -> Iterator[str]:
    start = taken = 0
    for at, char in enumerate(line):
        if taken + (own := _terminal_columns(char)) > width:
            yield line[start:at]
            start, taken = at, 0
        taken += own
    yield line[start:]


def _terminal_columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_sign(char) for char in text)


def _sign(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
