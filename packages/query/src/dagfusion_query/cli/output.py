"""How results look: a table for people, JSON, CSV or an Arrow stream for programs."""

import base64
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, BinaryIO, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import typer
from pyarrow import csv
from rich.console import Console
from rich.table import Table

from dagfusion_query.answers import Explanation, QueryStats, Result, ScanExplanation, TableInfo

SHOWN_PARTITIONS = 8
PIPE_WIDTH = 100_000


class Output(Protocol):
    """Where the commands' values go."""

    def tables(self, tables: Sequence[TableInfo]) -> None:
        """Show the catalog."""

    def result(self, result: Result) -> None:
        """Show the rows of a query."""

    def explanation(self, explanation: Explanation) -> None:
        """Show how a query would run."""


def output(form: str, max_rows: int) -> Output:
    """Return the output of a format: table, json, csv or arrow."""
    if form == "table":
        return TableOutput(max_rows)
    return RowsOutput({"json": write_json, "csv": write_csv, "arrow": write_arrow}[form])


class TableOutput:
    """For people: tables on stdout, what they cost on stderr."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        # A pipe has no width: nothing is cut or folded there.
        self._out = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
        self._err = Console(stderr=True, highlight=False)

    def tables(self, tables: Sequence[TableInfo]) -> None:
        """Show the catalog, a table a row."""
        shown = _table(["table", "partitioned by", "partitions", "rows", "size", "last materialized"])
        for column in shown.columns[2:5]:
            column.justify = "right"
        for table in tables:
            last = "" if table.materialized_at is None else f"{table.materialized_at:%Y-%m-%d %H:%M:%S}"
            numbers = (f"{table.partitions:,}", f"{table.rows:,}", size(table.bytes))
            shown.add_row(table.name, ", ".join(table.partition_columns), *numbers, table.problem or last)
        self._out.print(shown)
        for warning in (text for table in tables for text in table.warnings if text != table.problem):
            self._err.print(f"warning: {warning}", markup=False)

    def result(self, result: Result) -> None:
        """Show the first rows; all are read, so that the figures are those of the whole query."""
        shown = _table(result.schema.names)
        for column, field in zip(shown.columns, result.schema, strict=True):
            column.justify = "right" if _is_number(field.type) else "left"
        total = 0
        for batch in result:
            room = batch.num_rows if not self._max_rows else max(0, self._max_rows - total)
            for row in _rows(batch.slice(0, room)):
                shown.add_row(*map(_cell, row))
            total += batch.num_rows
        self._out.print(shown)
        if self._max_rows and total > self._max_rows:
            self._err.print(f"{total - self._max_rows:,} more rows: --max-rows 0 shows all, --format csv writes all")
        self._err.print(cost(result.stats), style="dim")

    def explanation(self, explanation: Explanation) -> None:
        """Show what is read and why, then DataFusion's plan."""
        for scan in explanation.scans:
            self._out.print(_scan_text(scan), markup=False)
        self._out.print(f"\nlogical plan\n{explanation.logical}", markup=False)
        self._out.print(f"\nphysical plan ({explanation.path})\n{explanation.physical.rstrip()}", markup=False)


class RowsOutput:
    """For programs: rows on stdout, and nothing else."""

    def __init__(self, write: "Writer") -> None:
        self._write = write

    def tables(self, tables: Sequence[TableInfo]) -> None:
        """Write a row for each table."""
        rows = [asdict(table) | {"columns": [*table.columns.items()]} for table in tables]
        self._table(pa.Table.from_pylist(rows, _TABLES))

    def result(self, result: Result) -> None:
        """Write the rows as they come."""
        self._write(result.schema, result, sys.stdout.buffer)

    def explanation(self, explanation: Explanation) -> None:
        """Write one row: what is read, and the plans."""
        self._table(pa.Table.from_pylist([asdict(explanation)]))

    def _table(self, table: pa.Table) -> None:
        self._write(table.schema, table.to_batches(), sys.stdout.buffer)


class Writer(Protocol):
    """Writes batches of one schema to a stream."""

    def __call__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: BinaryIO) -> None:
        """Write all batches."""


def write_json(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: BinaryIO) -> None:
    """Write one JSON array, an object a row: decimals and times as text, bytes as base64."""
    names = _unique(schema.names)
    separator = b"["
    for batch in batches:
        for values in _rows(batch):
            row = dict(zip(names, values, strict=True))
            out.write(separator + orjson.dumps(row, default=_json, option=orjson.OPT_NON_STR_KEYS))
            separator = b",\n "
    out.write(b"[]\n" if separator == b"[" else b"]\n")
    out.flush()


def write_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: BinaryIO) -> None:
    """Write CSV with a header; nested values as JSON, intervals as ISO 8601."""
    flat = pa.schema([pa.field(f.name, pa.string() if _is_text_in_csv(f.type) else f.type) for f in schema])
    with csv.CSVWriter(out, flat) as writer:
        for batch in batches:
            columns = [_json_texts(c) if _is_text_in_csv(c.type) else c for c in batch.columns]
            writer.write_batch(pa.record_batch(columns, schema=flat))
    out.flush()


def write_arrow(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: BinaryIO) -> None:
    """Write an Arrow IPC stream."""
    if out.isatty():
        raise typer.BadParameter("an Arrow stream is binary: send it to a file or a program")
    with pa.ipc.new_stream(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    out.flush()


def cost(stats: QueryStats) -> str:
    """Say in one line what a query read."""
    files = f"{stats.files_read:,} of {stats.files_total:,} files read, " if stats.files_total else ""
    requests = f" in {_counted(stats.requests, 'request')}" if stats.requests else ""
    return f"{_counted(stats.rows, 'row')}; {files}{size(stats.bytes_read)}{requests}, {stats.seconds * 1000:,.1f} ms"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Write a number of bytes as a person does: `741 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _table(names: Sequence[str]) -> Table:
    """Return an empty table that folds what is too wide for the terminal, and never cuts it."""
    table = Table()
    for name in names:
        table.add_column(_escape(name), overflow="fold")
    return table


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


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Yield rows of Python values, by position: two columns may have one name."""
    return zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: pa.Array) -> list[Any]:
    """Return Python values; nanoseconds and intervals, which Python's own types do not have, as ISO 8601 text."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1)
    if pa.types.is_interval(column.type):
        return [None if value is None else _interval(*value) for value in column.to_pylist()]
    return list(column.to_pylist())


def _interval(months: int, days: int, nanoseconds: int) -> str:
    seconds = Decimal(nanoseconds).scaleb(-9).normalize()
    return f"P{months}M{days}DT{seconds:f}S"


def _unique(names: Sequence[str]) -> list[str]:
    """Tell columns of one name apart, as JSON's objects need it: `state`, `state_2`."""
    unique: list[str] = []
    for name in names:
        other, number = name, 1
        while other in unique:
            number += 1
            other = f"{name}_{number}"
        unique.append(other)
    return unique


def _json_texts(column: pa.Array) -> pa.Array:
    if pa.types.is_interval(column.type):
        return pa.array(_values(column), pa.string())
    values = column.to_pylist()
    texts = (
        None if value is None else orjson.dumps(value, default=_json, option=orjson.OPT_NON_STR_KEYS)
        for value in values
    )
    return pa.array([None if text is None else text.decode() for text in texts], pa.string())


def _is_text_in_csv(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_interval(kind))


def _json(value: Any) -> Any:
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "[dim]NULL[/dim]"
    if isinstance(value, datetime | date | time):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return _escape(str(value))


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


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
