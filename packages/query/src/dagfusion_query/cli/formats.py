"""Rows for programs: JSON, JSON lines, CSV, an Arrow stream or file, Parquet. Values are as in `text_values`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import typer

Batches = Iterable[pa.RecordBatch]
Writer = Callable[[pa.Schema, Batches, BinaryIO], None]


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
    """Tell columns of one name apart, as objects and Parquet need it: `state`, `state_2`."""
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
