"""The heads of the frames between the service and a worker, as values; `documents.codec` writes and reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from dagfusion_query.documents.failures import Failure
from dagfusion_query.documents.queries import ExplanationDocument, ScanStats
from dagfusion_query.formats.result_format import Format
from dagfusion_query.settings import Settings


class Mode(StrEnum):
    """What is wanted of a statement."""

    run = "run"
    describe = "describe"  # the columns of its result
    explain = "explain"


@dataclass(frozen=True, kw_only=True)
class EnvironmentSource:
    """Where a worker finds the catalog of one environment.

    Attributes:
        folder: Of its snapshots.
        generation: To be seen.
        problem: Why there is none.
    """

    folder: str = ""
    generation: int = 0
    problem: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a worker is told before its first statement.

    Attributes:
        folders: Of the service's machine, which no caller may see.
        memory_bytes: That the process may have.
        settings: Of each environment, without the event log's location.
        environments: The catalogs as they are, so that the worker has mapped them by then.
    """

    folders: Sequence[str]
    memory_bytes: int
    settings: Mapping[str, Settings]
    environments: Mapping[str, EnvironmentSource]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement to run; the frame's body has its parameters as an Arrow IPC stream.

    Attributes:
        id: The query's.
        wanted_rows: Rows after which the result is cut, without an error; None for all.
        limit_rows: Rows that a result may have.
        limit_bytes: Bytes that an encoded result may have.
        environments: Those that the caller may know of.
        grants: The caller's.
    """

    id: str
    sql: str
    environments: Mapping[str, EnvironmentSource]
    grants: Sequence[str]
    limit_rows: int
    limit_bytes: int
    wanted_rows: int | None = None
    mode: Mode = Mode.run
    format: Format = Format.arrow


@dataclass(frozen=True)
class Cancel:
    """Give a statement up, if it is the one that runs."""

    id: str


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a statement reads; the frame's body has the serialized schema of its result.

    Attributes:
        planning_s: Seconds since the worker took it.
        generations: The catalog generation of each environment that it sees.
        cached: Whether its plan was there already.
        path: `splice`, `staged` or `catalog`.
    """

    planning_s: float
    generations: Mapping[str, int]
    cached: bool
    scans: Sequence[ScanStats]
    path: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a result cost; names and meaning are those of `Stats`."""

    first_batch_s: float
    files_read: int
    bytes_read: int
    requests: int | None
    rows: int
    result_bytes: int
    truncated: bool


@dataclass(frozen=True)
class End:
    """All of an answer was sent.

    Attributes:
        cost: Of a result.
        explanation: Of a statement that was to be explained.
    """

    cost: Cost | None = None
    explanation: ExplanationDocument | None = None


def encode_parameters(row: pa.RecordBatch | None) -> bytes:
    """Return a statement's parameters as its frame's body has them: one row, as an Arrow IPC stream."""
    if row is None or not row.num_columns:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode_parameters(body: memoryview | bytes) -> dict[str, pa.Scalar] | None:
    """Return the parameters by name; None if there are none."""
    if not len(body):
        return None
    row = pa.ipc.open_stream(pa.py_buffer(body)).read_next_batch()
    return {name: column[0] for name, column in zip(row.schema.names, row.columns, strict=True)}
