"""Streams the result of a query from the service's event loop to a Flight client, as fast as the client reads it."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyarrow import flight

from dagfusion_client.commands_and_tickets import STATS_TRAILER
from dagfusion_client.documents.codec import encode
from dagfusion_client.errors import BrokenStreamError
from dagfusion_query.access.grants import Caller
from dagfusion_server.doors.flight.flight_calls import LOOK_S, Bridge, Context, failure
from dagfusion_server.service.query_registry import Query
from dagfusion_server.service.running_query import ActiveQuery
from dagfusion_server.service.service import Service

# Clients refuse larger messages: 16 MiB is ADBC's default, and a few bytes of it are not the batch's.
_MESSAGE_BYTES = 8 << 20
_MERGED_BYTES = 1 << 20
_READ_AHEAD_BYTES = 4 << 20


class Buffer:
    """A queue that is bounded in bytes. Filled on the loop that it was made on, emptied by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[Any] = deque()
        self._size_bytes = 0
        self._is_over = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()

    def put(self, chunk: Any) -> None:
        """Add a chunk, whether there is room for it or not."""
        with self._changed:
            self._chunks.append(chunk)
            self._size_bytes += len(chunk)
            if self._size_bytes >= _READ_AHEAD_BYTES:
                self._room.clear()
            else:
                self._room.set()
            self._changed.notify()

    async def room(self) -> None:
        """Return when there is room for another chunk."""
        await self._room.wait()

    def end(self, error: BaseException | None = None) -> None:
        """End the stream, with an error if it failed. Called on the loop."""
        with self._changed:
            self._is_over, self._error = True, error
            self._changed.notify()

    def take_all(self, limit_bytes: int) -> Any:
        """Return everything, if it is there, whole and within the limit; None otherwise. From the thread."""
        with self._changed:
            if not self._is_over or self._error is not None or self._size_bytes > limit_bytes:
                return None
            chunks = list(self._chunks)
            self._chunks.clear()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def take(self, bridge: Bridge, context: Context) -> Any:
        """Return the next chunk, or None at the end. From the thread.

        Raises:
            QueryError: The query fails on the way, its client went away, or the door is closing.
        """
        with self._changed:
            while not self._chunks and not self._is_over:
                if not self._changed.wait(LOOK_S):
                    bridge.check(context)
            if not self._chunks:
                if self._error is not None:
                    raise self._error
                return None
            chunk = self._chunks.popleft()
            was_full = self._size_bytes >= _READ_AHEAD_BYTES
            self._size_bytes -= len(chunk)
        if was_full and self._size_bytes < _READ_AHEAD_BYTES:
            self._loop.call_soon_threadsafe(self._room.set)
        return chunk


class Rows:
    """The result of one query: a few MiB of it are read ahead, and with that a small one is done.

    Args:
        service: Runs the query.
        query: To be run, with its result as Arrow.
        caller: The user with its grants.
        bridge: To the service's loop.
    """

    def __init__(self, service: Service, query: Query, caller: Caller, bridge: Bridge) -> None:
        self._service, self._query, self._caller, self._bridge = service, query, caller, bridge
        self._buffer: Buffer
        self._schema = pa.schema([])
        self._stream: ActiveQuery | None = None
        self._filling: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self, context: Context, hold_s: float = 0.0, release: Callable[[], None] | None = None) -> pa.Schema:
        """Run the query up to its first rows and return the result's columns.

        Args:
            context: The call's.
            hold_s: Seconds after which `release` is called on the loop.
            release: Called then.

        Raises:
            QueryError: What can go wrong mostly goes wrong here.
        """
        try:
            self._schema = self._bridge.call(self._start(hold_s, release), context).schema
        except BaseException:
            self.close()
            raise
        return self._schema

    async def _start(self, hold_s: float, release: Callable[[], None] | None) -> ActiveQuery:
        stream = self._stream = await self._service.run(self._query, self._caller)
        self._buffer = Buffer()
        if stream.is_complete:  # nothing is waited for
            await self._fill(stream)
        else:
            self._filling = asyncio.create_task(self._fill(stream))
        if release is not None:
            asyncio.get_running_loop().call_later(hold_s, release)
        if self._is_closed:
            await self._close()
        return stream

    async def _fill(self, stream: ActiveQuery) -> None:
        try:
            async for chunk in stream:
                self._buffer.put(chunk)
                if not stream.is_complete:
                    await self._buffer.room()
            await stream.close()
            self._buffer.end()
        except Exception as error:  # noqa: BLE001  # the thread that sends raises it
            self._buffer.end(error)
        except asyncio.CancelledError:
            self._buffer.end(BrokenStreamError("the result was closed before its end"))
            raise

    @property
    def id(self) -> str:
        """The query's id; empty before it has started."""
        return "" if self._stream is None else self._stream.id

    def send(self, context: Context) -> flight.FlightDataStream:
        """Return the stream that Flight takes the rows from. Only once, and after `start`."""
        has_dictionaries = any(map(_has_dictionary, self._schema.types))
        if not has_dictionaries and (everything := self._buffer.take_all(_MERGED_BYTES)) is not None:
            self._is_closed = True  # nothing is left to be given up
            self._send_stats(context)
            return flight.RecordBatchStream(pa.ipc.open_stream(everything).read_all().combine_chunks())
        return flight.GeneratorStream(self._schema, self._messages(context, has_dictionaries=has_dictionaries))

    def _messages(self, context: Context, *, has_dictionaries: bool) -> Iterator[Any]:
        try:
            chunks = _Chunks(lambda: self._buffer.take(self._bridge, context))
            reader = pa.ipc.open_stream(pa.PythonFile(chunks, "r"))
            for batch in reader if has_dictionaries else _merged(reader, chunks):
                for piece in _pieces(batch):
                    # A stream of its own brings its dictionaries along; a batch brings nothing but itself.
                    yield _as_stream(piece) if has_dictionaries else piece
            self._send_stats(context)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is, it must not leave as it is
            raise failure(error, context) from None
        finally:
            self.close()

    def _send_stats(self, context: Context) -> None:
        """Send what a finished query has cost behind its rows."""
        if self._stream is not None:
            context.add_trailer(STATS_TRAILER, encode(self._stream.stats.short()))

    def close(self) -> None:
        """Cancel unfinished work. May be called from any thread, any number of times."""
        if not self._is_closed:
            self._is_closed = True
            self._bridge.post(self._close())

    async def _close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
        if self._stream is not None:
            await self._stream.close()


class _Chunks:
    """Chunks as the file that Arrow's reader wants.

    Args:
        take: Returns the next chunk, or None at the end.
    """

    closed = False

    def __init__(self, take: Callable[[], Any]) -> None:
        self._take_chunk = take
        self._left = memoryview(b"")

    def read(self, size: int) -> memoryview | bytes:
        """Return so many bytes, without a copy when one chunk has them all; fewer at the end only.

        Raises:
            BrokenStreamError: The chunks end in the middle of a message.
        """
        pieces: list[memoryview] = []
        missing = size
        while missing and (self._left or self._refill()):
            pieces.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(pieces[-1])
        if missing and pieces:
            raise BrokenStreamError("the result broke off in the middle of a message")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def is_between(self) -> bool:
        """True if all received chunks are used up."""
        return not self._left

    def _refill(self) -> bool:
        chunk = self._take_chunk()
        if chunk is None:
            return False
        self._left = memoryview(chunk)
        return True

    def close(self) -> None:
        """Do nothing: who made this closes the rows."""


def _merged(reader: pa.RecordBatchReader, chunks: _Chunks) -> Iterator[pa.RecordBatch]:
    """Read batches, as one what has come together: each message costs more than its copy does."""
    together: list[pa.RecordBatch] = []
    for batch in reader:
        together.append(batch)
        if chunks.is_between or sum(some.nbytes for some in together) >= _MERGED_BYTES:
            yield batch if len(together) == 1 else pa.concat_batches(together)
            together = []
    if together:
        yield pa.concat_batches(together)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into what fits a message; a single row that does not is the client's to take or refuse."""
    if batch.nbytes <= _MESSAGE_BYTES or batch.num_rows <= 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))


def _as_stream(batch: pa.RecordBatch) -> flight.RecordBatchStream:
    return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(batch.schema, [batch]))


def _has_dictionary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return any(_has_dictionary(kind.field(number).type) for number in range(kind.num_fields))
