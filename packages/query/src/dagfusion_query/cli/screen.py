"""How results look to people: tables on stdout, what they cost on stderr."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, BinaryIO

import pyarrow as pa
import typer

from dagfusion_query.answers import Explanation, Result, ScanExplanation, TableInfo
from dagfusion_query.cli.cost import cost, counted, size
from dagfusion_query.cli.grid import Grid
from dagfusion_query.preview import is_moment, moments

SHOWN_PARTITIONS = 8


class TableOutput:
    """For people.

    Args:
        max_rows: How many rows are shown; 0 for all.
        file: Where tables go instead of stdout.
    """

    def __init__(self, max_rows: int, file: BinaryIO | None = None) -> None:
        self._max_rows, self._file = max_rows, file

    def tables(self, tables: Sequence[TableInfo], *, every_asset: bool = False) -> None:
        """Show the catalog, a table a row; assets that are no tables are counted."""
        listed = [table for table in tables if table.is_table or every_asset]
        shown = Grid(
            ["table", "partitioned by", "partitions", "rows", "size", "last materialized"],
            [False, False, True, True, True, False],
        )
        for table in listed:
            numbers = (f"{table.partitions:,}", f"{table.rows:,}", size(table.bytes))
            last = table.problem or _moment(table.materialized_at)
            shown.rows.append([table.name, ", ".join(table.partition_columns), *numbers, last])
        self._grid(shown)
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
            "location": table.location,
            "rows": f"{table.rows:,}",
            "partitions": f"{table.partitions:,}",
            "files": f"{counted(table.files, 'file')}, {size(table.bytes)}",
            "materialized": _moment(table.materialized_at),
            "problem": table.problem,
        }
        self._print(table.name)
        for name, fact in facts.items():
            if fact:
                self._print(f"  {name:<12}  {fact}")
        if table.columns:
            self._grid(_columns(table))
        for warning in table.warnings:
            if warning != table.problem:
                _say(f"warning: {warning}")

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


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _dim(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else typer.style(text, dim=True)


def _bold(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else typer.style(text, bold=True)


def _columns(table: TableInfo) -> Grid:
    shown = Grid(["column", "type", "nullable", "partition"], [False] * 4)
    for name, kind in table.columns.items():
        nullable = "no" if name in table.required else "yes"
        shown.rows.append([name, kind, nullable, "yes" if name in table.partition_columns else ""])
    return shown


def _scan_text(scan: ScanExplanation) -> str:
    files = f"{scan.files_read:,} of {scan.files_total:,} files"
    lines = [f"{scan.table}: reads {files}, {size(scan.bytes_kept)} of {size(scan.bytes_total)}"]
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


_TABLES = pa.schema(
    {
        "name": pa.string(),
        "asset_key": pa.list_(pa.string()),
        "partition_columns": pa.list_(pa.string()),
        "columns": pa.map_(pa.string(), pa.string()),
        "partitions": pa.int64(),
        "rows": pa.int64(),
        "bytes": pa.int64(),
        "materialized_at": pa.timestamp("us", "UTC"),
        "problem": pa.string(),
        "warnings": pa.list_(pa.string()),
    }
)
