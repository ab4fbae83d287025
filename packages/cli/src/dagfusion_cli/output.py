"""Writes the values that commands return: as a table for people, or as rows of a format for programs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import pyarrow as pa
import typer

from dagfusion_cli.options import OutputFormat
from dagfusion_cli.screen import cost, show_warnings
from dagfusion_client.abstract_connection import Result
from dagfusion_client.documents.query_documents import QueryInfo
from dagfusion_client.formats import Format
from dagfusion_client.returned_values import Explanation, TableDiff, TableGeneration, TableInfo

if TYPE_CHECKING:
    from dagfusion_client.formats.encoders import Encoder

_BINARY = (OutputFormat.arrow, OutputFormat.parquet)
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
        from dagfusion_cli.screen import TableOutput  # noqa: PLC0415  # only people need rich

        return TableOutput(0 if file else max_rows, out if file else None)
    if form in _BINARY:
        _refuse_terminal(out)
    return RowsOutput(encoder_of(form, file), out, file)


def encoder_of(form: OutputFormat, file: Path | None = None) -> "Callable[[pa.Schema], Encoder]":
    """Return what makes an encoder: JSON is an array of objects here, and a file `.arrow` has Arrow's file format."""
    from dagfusion_client.formats import encoders  # noqa: PLC0415  # a table needs none

    if form == OutputFormat.json:
        return encoders.JsonArrayEncoder
    if form == OutputFormat.arrow and file is not None and file.suffix.lower() in _ARROW_FILES:
        return encoders.ArrowFileEncoder
    return Format(form.value).encoder


class RowsOutput:
    """For programs: rows, and nothing else; of a file, its name and what it cost on stderr.

    Args:
        encoder: Makes an encoder for rows of a schema.
        out: Where it is written to.
        file: The name of the file that `out` is, if it is one.
    """

    def __init__(self, encoder: "Callable[[pa.Schema], Encoder]", out: BinaryIO, file: Path | None = None) -> None:
        self._encoder, self._out, self._file = encoder, out, file

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
        self._write(result.schema, result)
        if self._file is not None:
            typer.echo(f"{self._file}: {cost(result.stats)}", err=True)
        show_warnings(result)

    def explanation(self, explanation: Explanation) -> None:
        """Write one row: what is read, and the plans."""
        self._table(pa.Table.from_pylist([asdict(explanation)]))

    def rows(self, rows: pa.Table, note: str = "") -> None:
        """Write the rows; the note is for people."""
        del note
        self._table(rows)

    def _table(self, table: pa.Table) -> None:
        self._write(table.schema, table.to_batches())

    def _write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        encoder = self._encoder(schema)
        for batch in batches:
            self._out.writelines(encoder.write(batch))
        self._out.writelines(encoder.finish())
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
_REVISIONS = pa.schema(
    {
        "event_id": pa.int64(),
        "at": pa.timestamp("us", "UTC"),
        "run_id": pa.string(),
        "partitions": pa.int64(),
        "rows": pa.int64(),
        "is_wipe": pa.bool_(),
    }
)
_CHANGES = pa.schema(
    {"change": pa.string(), "partition_key": pa.string(), "rows_before": pa.int64(), "rows_after": pa.int64()}
)
_QUERIES = pa.schema(
    {
        "submitted_at": pa.timestamp("ms", "UTC"),
        "user": pa.string(),
        "door": pa.string(),
        "state": pa.string(),
        "error": pa.string(),
        "seconds": pa.float64(),
        "rows": pa.int64(),
        "files": pa.int64(),
        "requests": pa.int64(),
        "bytes": pa.int64(),
        "requests_usd": pa.float64(),
        "worker_usd": pa.float64(),
        "id": pa.string(),
        "sql": pa.string(),
    }
)


def query_rows(queries: Sequence[QueryInfo]) -> pa.Table:
    """Return a row for each query."""
    return pa.Table.from_pylist([_query_row(info) for info in queries], _QUERIES)


def _query_row(info: QueryInfo) -> dict[str, object]:
    stats, price = info.stats, info.cost
    return {
        "submitted_at": info.submitted_at,
        "user": info.user,
        "door": info.door,
        "state": info.state.value,
        "error": None if info.error is None else info.error.code,
        "seconds": round(stats.total_s, 3),
        "rows": stats.rows,
        "files": stats.files_read,
        "requests": stats.requests,
        "bytes": stats.bytes_read,
        "requests_usd": None if price is None else price.requests_usd,
        "worker_usd": None if price is None else float(f"{price.worker_usd:.2g}"),
        "id": info.id,
        "sql": info.sql,
    }


def revision_rows(revisions: Sequence[TableGeneration]) -> pa.Table:
    """Return a row for each revision."""
    return pa.Table.from_pylist([asdict(found) for found in revisions], _REVISIONS)


def diff_rows(diff: TableDiff) -> tuple[pa.Table, str]:
    """Return a row for each partition that differs, and a line that sums them up."""
    changed = diff.added + diff.rewritten + diff.gone
    more = f"; the first {len(diff.changes):,} are shown" if changed > len(diff.changes) else ""
    note = (
        f"{diff.table}, event {diff.before} to {diff.after}: {diff.added:,} partitions added, {diff.rewritten:,} "
        f"rewritten, {diff.gone:,} gone, {diff.unchanged:,} unchanged; {diff.rows_before:,} rows to "
        f"{diff.rows_after:,}{more}"
    )
    return pa.Table.from_pylist([asdict(change) for change in diff.changes], _CHANGES), note


def _refuse_terminal(out: BinaryIO) -> None:
    if out.isatty():
        raise typer.BadParameter("this format is binary: send it to a program, or to a file with -o")
