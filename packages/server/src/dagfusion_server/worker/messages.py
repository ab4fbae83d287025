"""Both processes: the messages that they send each other over the socket. Pure, without any I/O.

message    kind: 1 byte | length of head: u32 | length of body: u64 | head: JSON | body

to a worker      configure, statement, cancel
from a worker    ready, planned, data ..., then end or failed

The heads are dataclasses, which `documents.codec` writes and reads.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, TypeVar

import orjson
import pyarrow as pa

from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import ExplanationDocument, Failure, ScanStats
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.formats import Format
from dagfusion_client.parameters import Values
from dagfusion_interop.spark import SparkServer
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_query.settings import Settings

HEADER = struct.Struct(">cIQ")
LONGEST = 1 << 36  # a body that says it is longer is none: the stream is out of step
AT_ONCE_S = 0.02  # a first batch that comes within it is sent with the plan: the service wakes up once
_BUFFER_BYTES = 1 << 16
T = TypeVar("T")


class ProtocolError(Exception):
    """The bytes are not messages; the process at the other end cannot be trusted any more."""


class SocketClosedError(Exception):
    """The other end of the socket is gone."""


class Kind(Enum):
    """The kind of a message; the value is its first byte."""

    configure = b"C"  # environments' settings and the limits: once, and when they change
    statement = b"S"  # one statement to run; the body holds its parameters as an Arrow IPC stream
    cancel = b"X"  # give a statement up, by its id
    ready = b"R"  # the worker takes statements
    planned = b"P"  # what it reads; the body holds the result's serialized Arrow schema
    data = b"D"  # the next bytes of the encoded result; in the mode `fetch`, what was fetched
    end = b"E"  # all of the result was sent: what it cost
    failed = b"F"  # it ended with an error


class Phase(Enum):
    """The phase of a worker, as it marks it in its file; the value is the mark."""

    idle = b"-"
    resting = b"z"  # it waits for the end of what a statement has left behind
    planning = b"p"  # it has taken the statement: what goes wrong from here on is the statement's doing
    running = b"r"

    @property
    def is_statement(self) -> bool:
        """True if a statement has been taken and has not ended."""
        return self in (Phase.planning, Phase.running)


@dataclass(frozen=True)
class Message:
    """One message. Its head is one of the dataclasses below, as JSON."""

    kind: Kind
    head: Mapping[str, Any] = field(default_factory=dict)
    body: memoryview | bytes = b""

    def read(self, kind: type[T]) -> T:
        """Return the head as a value.

        Raises:
            DocumentError: The head does not match the dataclass.
        """
        return codec.read(kind, self.head)


def encode(kind: Kind, head: object = None, body: Sequence[bytes | memoryview] = ()) -> list[bytes | memoryview]:
    """Return a message as pieces to be sent one after another; those of the body are not copied."""
    encoded = b"" if head is None else codec.encode(head)
    views = [memoryview(piece).cast("B") for piece in body]
    return [HEADER.pack(kind.value, len(encoded), sum(len(view) for view in views)) + encoded, *views]


class Decoder:
    """Makes messages of bytes as they come. What is long is received where it stays.

    Ask for `room`, put bytes there, say how many with `received`, then take messages with `next` until there is none.
    """

    def __init__(self) -> None:
        self._received = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0
        self._header: tuple[Kind, int] | None = None  # of the message whose content is on its way
        self._content = memoryview(b"")
        self._filled = 0

    def room(self) -> memoryview:
        """Return where the next bytes go; never empty once `next` has returned None."""
        if self._header is not None:
            return self._content[self._filled :]
        if self._start:
            left = self._end - self._start
            self._received[:left] = bytes(self._received[self._start : self._end])
            self._start, self._end = 0, left
        return self._received[self._end :]

    def received(self, count: int) -> None:
        """Report the number of bytes written into the room."""
        if self._header is not None:
            self._filled += count
        else:
            self._end += count

    def next(self) -> Message | None:
        """Return the next message, or None when more bytes are needed.

        Raises:
            ProtocolError: The bytes are no message.
        """
        if self._header is None and not self._begin():
            return None
        if self._header is None or self._filled < len(self._content):
            return None
        (kind, split), content = self._header, self._content
        self._header, self._content = None, memoryview(b"")
        try:
            head = orjson.loads(content[:split]) if split else {}
        except orjson.JSONDecodeError as error:
            raise ProtocolError(f"a {kind.name} message's head is not JSON") from error
        return Message(kind, head, content[split:])

    def _begin(self) -> bool:
        """Start on the message whose header is there, with as much of its content as came along."""
        if self._end - self._start < HEADER.size:
            return False
        code, head, body = HEADER.unpack_from(self._received, self._start)
        try:
            kind = Kind(code)
        except ValueError:
            raise ProtocolError(f"there are no messages of kind {code!r}") from None
        if head + body > LONGEST:
            raise ProtocolError(f"a {kind.name} message says that it has {head + body} bytes")
        start = self._start + HEADER.size
        received = min(self._end - start, head + body)
        self._content = memoryview(bytearray(head + body))
        self._content[:received] = self._received[start : start + received]
        self._header, self._filled, self._start = (kind, head), received, start + received
        return True


class Mode(StrEnum):
    """The mode of a statement: run it, explain it, or fetch what such statements will read."""

    run = "run"
    describe = "describe"  # the columns of its result
    explain = "explain"
    fetch = "fetch"  # make local copies of `new_objects`; there is no text


@dataclass(frozen=True, kw_only=True)
class EnvironmentSource:
    """The place of the catalog of one environment.

    Attributes:
        folder: The folder of its snapshots.
        generation: To be seen.
        problem: Why there is none.
    """

    folder: str = ""
    generation: int = 0
    problem: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class PastSource:
    """The place of a table as of a past event.

    Attributes:
        folder: The folder of its snapshot; no other table ever has it.
        event_id: The event, which is the generation of the snapshot.
    """

    environment: str
    folder: str
    event_id: int


@dataclass(frozen=True, kw_only=True)
class NewObjects:
    """The objects of a table to be copied before a query asks for them.

    Attributes:
        table: `schema.table`.
        after_event: The last event whose objects are too old.
        limit_bytes: The most bytes together.
    """

    table: str
    after_event: int
    limit_bytes: int


@dataclass(frozen=True, kw_only=True)
class SparkRun:
    """One execution of a statement on the Spark Connect server.

    Attributes:
        operation: Its id, a UUID.
        pins: The version of the Iceberg metadata of each table that the statement names, by name.
    """

    operation: str
    pins: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The configuration that a worker gets before its first statement.

    Attributes:
        folders: The folders of the service's machine, which no caller may see.
        memory_bytes: That the process may have.
        settings: The settings of each environment, without the event log's location.
        environments: The catalogs as they are, so that the worker has mapped them by then.
        spark: The Spark Connect server; None if there is none.
    """

    folders: Sequence[str]
    memory_bytes: int
    settings: Mapping[str, Settings]
    environments: Mapping[str, EnvironmentSource]
    spark: SparkServer | None = None


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement to run; the message's body has its parameters as an Arrow IPC stream.

    Attributes:
        id: The query's.
        wanted_rows: Rows after which the result is cut, without an error; None for all.
        result_cache: Whether the result may be one that was kept, and be kept.
        limit_rows: Rows that a result may have.
        limit_bytes: Bytes that an encoded result may have.
        environments: The environments that the caller may know of.
        grants: The caller's.
        past: The tables of a statement as of the past; None for one over the current tables.
        new_objects: What is fetched in the mode `fetch`.
        engine: The engine that was chosen. A statement that may run on Spark is described first.
        spark: How Spark runs it; None for a statement that this worker runs.
    """

    id: str
    sql: str
    environments: Mapping[str, EnvironmentSource]
    grants: Sequence[str]
    limit_rows: int
    limit_bytes: int
    wanted_rows: int | None = None
    result_cache: bool = True
    mode: Mode = Mode.run
    format: Format = Format.arrow
    past: Sequence[PastSource] | None = None
    new_objects: NewObjects | None = None
    engine: EngineChoice = EngineChoice.local
    spark: SparkRun | None = None


@dataclass(frozen=True)
class Cancel:
    """Cancels a statement, if it is the one that runs."""

    id: str


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The tables that a statement reads; the message's body has the serialized schema of its result.

    Attributes:
        planning_s: Seconds since the worker took it.
        generations: The catalog generation of each environment that it sees.
        cached: Whether its plan was there already.
        path: `splice`, `staged`, `catalog`, `cache` or `spark`.
        runs: Dagster runs that wrote the first files that it reads.
        warnings: What its result leaves out.
        tables: All tables that it names, also through views; None if it cannot run on Spark, or was not meant to.
    """

    planning_s: float
    generations: Mapping[str, int]
    cached: bool
    scans: Sequence[ScanStats]
    path: str
    runs: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a result; names and meaning are those of `Stats`."""

    first_batch_s: float
    files_read: int
    bytes_read: int
    requests: int | None
    requests_s: float
    copies_found: int
    copies_fetched: int
    rows: int
    result_bytes: int
    truncated: bool


@dataclass(frozen=True)
class End:
    """All of a result was sent.

    Attributes:
        cost: The cost of a result.
        explanation: The explanation of a statement that was to be explained.
        fetches: The requests that made local copies.
    """

    cost: Cost | None = None
    explanation: ExplanationDocument | None = None
    fetches: Sequence[TableFetch] = ()


@dataclass(frozen=True)
class Fetched:
    """Some new objects were fetched, or will be; a `data` message has it.

    Attributes:
        fetches: The requests for them.
        skipped: Why others cannot be copied: they are gone, replaced, archived or damaged.
        coming_bytes: The bytes of the objects that are fetched before the next message.
    """

    fetches: Sequence[TableFetch] = ()
    skipped: Sequence[str] = ()
    coming_bytes: int = 0


def encode_parameters(row: pa.RecordBatch | None) -> bytes:
    """Return a statement's parameters as its message's body has them: one row, as an Arrow IPC stream."""
    if row is None or not row.num_columns:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode_parameters(body: memoryview | bytes) -> Values:
    """Return the parameters by name."""
    if not len(body):
        return {}
    row = pa.ipc.open_stream(pa.py_buffer(body)).read_next_batch()
    return {name: column[0] for name, column in zip(row.schema.names, row.columns, strict=True)}
