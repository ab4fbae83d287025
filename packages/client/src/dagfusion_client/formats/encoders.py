"""A result's batches as bytes of a format, in the worker or the command line; the service only relays them.

Values in JSON and CSV are as `text_values` says.
"""

import csv
import io
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv

from dagfusion_client.errors import UnsupportedTypeError
from dagfusion_client.formats import ResultColumn, RowsDocument
from dagfusion_client.formats.text_values import csv_column, json_values, unique_names

Piece: TypeAlias = bytes | memoryview  # or a pyarrow.Buffer, which has no type that mypy knows
_COPIED_BYTES = 64 << 10
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_END_OF_ROWS = b"]}"
_GROUP_BYTES, _GROUP_ROWS = 32 << 20, 1 << 20  # of Arrow's memory, in a Parquet row group


class Encoder(Protocol):
    """Turns batches into bytes. What it returns, put together, is the document.

    All batches of a result have one schema; a batch may have any number of rows, none too.
    """

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return the bytes that are ready with this batch."""

    def finish(self) -> list[Piece]:
        """Return the rest, with the document's end."""


class _Sink:
    """Takes what Arrow writes, without a copy."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._position = 0

    def write(self, piece: Piece) -> int:
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing: everything is there."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces


class _ArrowWriter:
    """Arrow's writer of a stream or file.

    Args:
        open_writer: Makes it for a sink and a schema.
    """

    def __init__(self, schema: pa.Schema, open_writer: Callable[[pa.NativeFile, pa.Schema], Any]) -> None:
        self._sink = _Sink()
        self._open: Callable[[], Any] = lambda: open_writer(pa.PythonFile(self._sink, "w"), schema)

    @cached_property
    def _writer(self) -> Any:
        return self._open()  # at its first use: small results are encoded without it

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return the batch as messages, the schema's before the first."""
        self._writer.write_batch(batch)
        return self._sink.take()

    def finish(self) -> list[Piece]:
        """Return the end of the file or stream."""
        self._writer.close()
        return self._sink.take()


class ArrowFileEncoder(_ArrowWriter):
    """An Arrow IPC file, also known as Feather; the command line writes it to files that end in `.arrow`."""

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema, pa.ipc.new_file)


class ArrowEncoder(_ArrowWriter):
    """An Arrow IPC stream; each call's bytes are whole messages.

    Arrow's writer gives each buffer of each column to the sink, in Python. That takes ten times as long as a copy of a
    small batch. So the first batches are copied while they are small.
    """

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema, pa.ipc.new_stream)
        self._schema = schema
        self._is_copying = not any(map(_has_parts, schema.types))
        self._has_begun = False

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return the batch as messages, the schema's before the first."""
        if self._is_copying and batch.nbytes <= _COPIED_BYTES and batch.schema == self._schema:
            schema = [] if self._has_begun else [self._schema.serialize()]
            self._has_begun = True
            return [*schema, batch.serialize()]
        if self._is_copying and self._has_begun:
            super().write(batch.slice(0, 0))  # drops the schema that it writes before its first batch
        self._is_copying = False
        return super().write(batch)

    def finish(self) -> list[Piece]:
        """Return the end-of-stream marker, after the schema if there was no batch."""
        return [_END_OF_STREAM] if self._is_copying and self._has_begun else super().finish()


def _has_parts(kind: pa.DataType) -> bool:
    """Return True for a type that may have dictionaries, which have messages of their own."""
    return kind.num_fields > 0 or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType)


class ParquetEncoder:
    """A Parquet file in row groups of bounded size; a column whose name is taken is called `name:1`."""

    def __init__(self, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  # takes 0.1 s, which only this format needs

        self._sink = _Sink()
        fields = [field.with_name(name) for field, name in zip(schema, unique_names(schema.names), strict=True)]
        self._schema = pa.schema(fields)
        try:
            self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, "w"), self._schema, compression="zstd")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise UnsupportedTypeError(
                f"the result has a type that Parquet does not have: cast it ({error})"
            ) from error
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = self._rows = 0

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return a row group, when there are rows enough for one."""
        self._waiting.append(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))
        self._bytes, self._rows = self._bytes + batch.nbytes, self._rows + batch.num_rows
        if self._bytes >= _GROUP_BYTES or self._rows >= _GROUP_ROWS:
            self._write_group()
        return self._sink.take()

    def finish(self) -> list[Piece]:
        """Return the last row group and the footer."""
        if self._rows:
            self._write_group()
        self._writer.close()
        return self._sink.take()

    def _write_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema), row_group_size=self._rows)
        self._waiting, self._bytes, self._rows = [], 0, 0


class JsonEncoder:
    """One `RowsDocument`: `{"columns": [{"name", "type"}], "rows": [[...]]}`."""

    def __init__(self, schema: pa.Schema) -> None:
        columns = [ResultColumn(field.name, str(field.type)) for field in schema]
        self._head = orjson.dumps(RowsDocument(columns, ())).removesuffix(_END_OF_ROWS)

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return the rows as arrays."""
        if not batch.num_rows:
            return []
        columns = [json_values(column) for column in batch.columns]
        rows = list(zip(*columns, strict=True)) if columns else [()] * batch.num_rows
        start, self._head = self._head or b",", b""
        return [start, orjson.dumps(rows)[1:-1]]

    def finish(self) -> list[Piece]:
        """Return the end of the document."""
        start, self._head = self._head, b""
        return [start, _END_OF_ROWS]


class JsonLinesEncoder:
    """One object on each line; a column whose name is taken is called `name:1`."""

    def __init__(self, schema: pa.Schema) -> None:
        self._names = unique_names(schema.names)

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return a line for each row."""
        columns = [json_values(column) for column in batch.columns]
        rows = zip(*columns, strict=True) if columns else [()] * batch.num_rows
        names = self._names
        return [b"".join(orjson.dumps(dict(zip(names, row)), option=orjson.OPT_APPEND_NEWLINE) for row in rows)]  # noqa: B905  # for speed

    def finish(self) -> list[Piece]:
        """Return nothing: lines have no end but their own."""
        return []


class JsonArrayEncoder:
    """One JSON array with one object for each row, as the command line writes it; objects are those of JSON lines."""

    def __init__(self, schema: pa.Schema) -> None:
        self._lines = JsonLinesEncoder(schema)
        self._start = b"["

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return the batch's objects, each on its line."""
        if not batch.num_rows:
            return []
        (lines,) = self._lines.write(batch)
        start, self._start = self._start, b",\n "
        return [start, bytes(lines)[:-1].replace(b"\n", b",\n ")]

    def finish(self) -> list[Piece]:
        """Return the end of the array."""
        return [b"[]\n" if self._start == b"[" else b"]\n"]


class CsvEncoder:
    """Comma-separated values as RFC 4180 has them, with a header line; text is in quotes, NULL is nothing."""

    def __init__(self, schema: pa.Schema) -> None:
        line = io.StringIO()
        csv.writer(line).writerow(schema.names)
        self._head = line.getvalue().encode()
        self._options = pa_csv.WriteOptions(include_header=False, eol="\r\n")

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return a line for each row, the header's before the first."""
        columns = [csv_column(column) for column in batch.columns]
        sink = pa.BufferOutputStream()
        if columns:
            names = [str(number) for number in range(len(columns))]
            pa_csv.write_csv(pa.RecordBatch.from_arrays(columns, names), sink, self._options)
        return [*self.finish(), sink.getvalue()]

    def finish(self) -> list[Piece]:
        """Return the header, if no row was written."""
        head, self._head = self._head, b""
        return [head] if head else []
