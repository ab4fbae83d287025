"""Where the commands' values go: a table for people, or rows of a format for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa
import typer

from dagfusion_query.answers import Explanation, Result, TableInfo
from dagfusion_query.cli.formats import WRITERS, Writer, write_arrow_file
from dagfusion_query.cli.options import OutputFormat
from dagfusion_query.cli.screen import cost

_ARROW_FILES = (".arrow", ".feather")  # Arrow's file format; a stream is `.arrows`


class Output(Protocol):
    """Where the commands' values go."""

    def tables(self, tables: Sequence[TableInfo], *, every_asset: bool = False) -> None:
        """Show the catalog."""

    def table(self, table: TableInfo) -> None:
        """Show all that is known of a table."""

    def result(self, result: Result) -> None:
        """Show the rows of a query."""

    def explanation(self, explanation: Explanation) -> None:
        """Show how a query would run."""


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
        """Write a row for each table, and for each asset that is none: `problem_code` tells them apart."""
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
    }
)
