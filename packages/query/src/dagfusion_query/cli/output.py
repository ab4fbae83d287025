"""Writes the values that commands return: as a table for people, or as rows of a format for programs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson
import pyarrow as pa
import typer

from dagfusion_query.answers import Explanation, Result, TableInfo
from dagfusion_query.cli.options import OutputFormat
from dagfusion_query.cli.screen import cost

Batches = Iterable[pa.RecordBatch]
Writer = Callable[[pa.Schema, Batches, BinaryIO], None]

_ARROW_FILES = (".arrow", ".feather")  # Arrow's file format; a stream is `.arrows`


class Output(Protocol):
    """The destination of the values that commands return."""

    def tables(self, tables: Sequence[TableInfo], *, every_asset: bool = False) -> None:
        """Show the catalog."""

    def table(self, table: TableInfo) -> None:
        """Show all that is known of a table."""

    def result(self, result: Result) -> None:
        """Show the rows of a query."""

    def explanation(self, explanation: Explanation) -> None:
        """Show how a query would run."""

    def rows(self, rows: pa.Table, note: str = "") -> None:
        """Show rows, and a note about them."""


def output(form: OutputFormat, out: BinaryIO, max_rows: int = 0, *, file: Path | None = None) -> Output:
    """Return the output of a format.

    Args:
        form: How rows are written.
        out: Where they are written to.
        max_rows: How many rows a table shows; 0 for all.
        file: The file that `out` is, if it is one.
    """
    if form == OutputFormat.table:
        from dagfusion_query.cli.screen import TableOutput  # noqa: PLC0415  # only people need rich

        return TableOutput(0 if file else max_rows, out if file else None)
    is_arrow_file = file is not None and form == OutputFormat.arrow and file.suffix.lower() in _ARROW_FILES
    return RowsOutput(write_arrow_file if is_arrow_file else WRITERS[form], out, file)


class RowsOutput:
    """For programs: rows, and nothing else; of a file, its name and what it cost on stderr.

    Args:
        write: Writes the format.
        out: Where it is written to.
        file: The name of the file that `out` is, if it is one.
    """

    def __init__(self, write: Writer, out: BinaryIO, file: Path | None = None) -> None:
        self._write, self._out, self._file = write, out, file

    def tables(self, tables: Sequence[TableInfo], *, every_asset: bool = True) -> None:
        """Write a row for each table, and for each asset that is not Parquet, which has a `problem_code`."""
        del every_asset
        rows = [asdict(table) | {"columns": [*table.columns.items()]} for table in tables]
        self._table(pa.Table.from_pylist(rows, _TABLES))

    def table(self, table: TableInfo) -> None:
        """Write one row."""
        self.tables([table])

    def result(self, result: Result) -> None:
        """Write the rows as they come."""
        self._write(result.schema, result, self._out)
        self._out.flush()
        if self._file is not None:
            typer.echo(f"{self._file}: {cost(result.stats)}", err=True)

    def explanation(self, explanation: Explanation) -> None:
        """Write one row: what is read, and the plans."""
        self._table(pa.Table.from_pylist([asdict(explanation)]))

    def rows(self, rows: pa.Table, note: str = "") -> None:
        """Write the rows; the note is for people."""
        del note
        self._table(rows)

    def _table(self, table: pa.Table) -> None:
        self._write(table.schema, table.to_batches(), self._out)
        self._out.flush()


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
        "problem_code": pa.string(),
        "files": pa.int64(),
        "location": pa.string(),
        "required": pa.list_(pa.string()),
        "view": pa.string(),
        "consolidated": pa.int64(),
        "would_gain": pa.bool_(),
    }
)


def write_json(schema: pa.Schema, batches: Batches, out: BinaryIO) -> None:
    """Write one JSON array, an object a row."""
    separator = b"["
    for row in _rows(schema, batches):
        out.write(separator + row)
        separator = b",\n "
    out.write(b"[]\n" if separator == b"[" else b"]\n")


def write_jsonl(schema: pa.Schema, batches: Batches, out: BinaryIO) -> None:
    """Write an object a line."""
    out.writelines(row + b"\n" for row in _rows(schema, batches))


def write_csv(schema: pa.Schema, batches: Batches, out: BinaryIO) -> None:
    """Write CSV with a header; nested values as JSON, intervals as ISO 8601."""
    from pyarrow import csv  # noqa: PLC0415  # each format imports what only it needs

    flat = pa.schema([pa.field(f.name, pa.string() if _is_text_in_csv(f.type) else f.type) for f in schema])
    with csv.CSVWriter(out, flat) as writer:
        for batch in batches:
            columns = [_texts(c) if _is_text_in_csv(c.type) else c for c in batch.columns]
            writer.write_batch(pa.record_batch(columns, schema=flat))


def write_arrow_stream(schema: pa.Schema, batches: Batches, out: BinaryIO) -> None:
    """Write an Arrow IPC stream."""
    _refuse_terminal(out)
    with pa.ipc.new_stream(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_arrow_file(schema: pa.Schema, batches: Batches, out: BinaryIO) -> None:
    """Write an Arrow IPC file, also known as Feather."""
    _refuse_terminal(out)
    with pa.ipc.new_file(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_parquet(schema: pa.Schema, batches: Batches, out: BinaryIO) -> None:
    """Write a Parquet file in row groups of bounded size."""
    from dagfusion_query.formats.encoders import ParquetEncoder  # noqa: PLC0415

    _refuse_terminal(out)
    renamed = pa.schema([f.with_name(name) for f, name in zip(schema, unique_names(schema.names), strict=True)])
    encoder = ParquetEncoder(renamed)
    for batch in batches:
        out.writelines(encoder.write(batch))
    out.writelines(encoder.finish())


WRITERS: Mapping[str, Writer] = {
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "arrow": write_arrow_stream,
    "parquet": write_parquet,
}


def unique_names(names: Sequence[str]) -> list[str]:
    """Make the names of columns unique, as objects and Parquet need it: `state`, `state_2`."""
    taken: set[str] = set()
    unique: list[str] = []
    for name in names:
        other, number = name, 1
        while other in taken or (number > 1 and other in names):
            number += 1
            other = f"{name}_{number}"
        taken.add(other)
        unique.append(other)
    return unique


def _rows(schema: pa.Schema, batches: Batches) -> Iterator[bytes]:
    """Yield each row as a JSON object."""
    from dagfusion_query.formats.text_values import json_values  # noqa: PLC0415

    names = unique_names(schema.names)
    for batch in batches:
        columns = [json_values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield orjson.dumps(dict(zip(names, values, strict=True)))


def _texts(column: pa.Array) -> pa.Array:
    from dagfusion_query.formats.text_values import json_values  # noqa: PLC0415

    def text(value: Any) -> str | None:
        return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()

    return pa.array(map(text, json_values(column)), pa.string())


def _is_text_in_csv(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_interval(kind))


def _refuse_terminal(out: BinaryIO) -> None:
    if out.isatty():
        raise typer.BadParameter("this format is binary: send it to a program, or to a file with -o")
