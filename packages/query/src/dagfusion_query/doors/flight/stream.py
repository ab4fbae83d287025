"""A query's result on its way to a client: the service's chunks, read by gRPC's thread as it can send them."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pyarrow as pa
from pyarrow import flight

from dagfusion_query.access.caller import Caller
from dagfusion_query.doors.flight.bridge import Bridge, Call
from dagfusion_query.doors.flight.failures import failure
from dagfusion_query.errors import BrokenStreamError
from dagfusion_query.service.query import Query
from dagfusion_query.service.service import Service
from dagfusion_query.service.stream import ResultStream

# Clients refuse larger messages: 16 MiB is ADBC's default, and a few bytes of it are not the batch's.
_MESSAGE_BYTES = 8 << 20
_END = b""


class Rows:
    """The result of one query. Begun, read and closed on the service's loop; used from one gRPC thread at a time.

    Nothing more than two chunks is held here, however slowly the client takes them.

    Args:
        service: Runs the query.
        query: To be run, with its result as Arrow.
        caller: Who asks.
        bridge: To the service's loop.
    """

    def __init__(self, service: Service, query: Query, caller: Caller, bridge: Bridge) -> None:
        self._service, self._query, self._caller, self._bridge = service, query, caller, bridge
        self._stream: ResultStream | None = None
        self._chunks: AsyncIterator[Any] | None = None
        self._is_closed = False

    def start(self, call: Call) -> pa.Schema:
        """Run the query up to its first rows and return the result's columns.

        Raises:
            QueryError: What can go wrong mostly goes wrong here.
        """
        return self._bridge.call(self._start(), call)

    async def _start(self) -> pa.Schema:
        self._stream = await self._service.run(self._query, self._caller)
        self._chunks = aiter(self._stream)
        if self._is_closed:
            await self._stream.close()
        return self._stream.schema

    @property
    def id(self) -> str:
        """The query's id; empty before it has started."""
        return "" if self._stream is None else self._stream.id

    def send(self, context: flight.ServerCallContext) -> flight.GeneratorStream:
        """Return the stream that Flight takes the rows from, as fast as the client takes them."""
        assert self._stream is not None  # noqa: S101  # `start` comes first
        return flight.GeneratorStream(self._stream.schema, self._messages(self._stream.schema, context))

    def _messages(self, schema: pa.Schema, context: flight.ServerCallContext) -> Iterator[Any]:
        has_dictionaries = any(map(_has_dictionary, schema.types))
        try:
            reader = pa.ipc.open_stream(pa.PythonFile(_Chunks(self, context), "r"))
            for batch in reader:
                for piece in _pieces(batch):
                    # A stream of its own brings its dictionaries along; a batch brings nothing but itself.
                    yield _as_stream(piece) if has_dictionaries else piece
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is, it must not leave as it is
            raise failure(error, context) from None
        finally:
            self.close()

    def begin_chunk(self) -> Future[Any]:
        """Ask for the next chunk without waiting for it."""
        return self._bridge.begin(self._next())

    def wait(self, chunk: Future[Any], call: Call) -> Any:
        """Return a chunk that was asked for; empty at the end."""
        return self._bridge.wait(chunk, call)

    async def _next(self) -> Any:
        if self._is_closed or self._chunks is None:
            return _END
        return await anext(self._chunks, _END)

    def close(self) -> None:
        """Give up what is not finished. From any thread, any number of times."""
        if not self._is_closed:
            self._is_closed = True
            self._bridge.post(self._close())

    async def _close(self) -> None:
        if self._stream is not None:
            await self._stream.close()


class _Chunks:
    """The chunks as the file that Arrow's reader wants; the next one is asked for before the last one is used."""

    closed = False

    def __init__(self, rows: Rows, call: Call) -> None:
        self._rows, self._call = rows, call
        self._next = rows.begin_chunk()
        self._left = memoryview(_END)

    def read(self, size: int) -> memoryview | bytes:
        """Return so many bytes, without a copy when one chunk has them all.

        Raises:
            BrokenStreamError: The chunks end in the middle of a message.
        """
        if len(self._left) >= size:
            return self._take(size)
        pieces: list[memoryview] = []
        missing = size
        while missing:
            if not self._left and not self._refill():
                break
            pieces.append(self._take(missing))
            missing -= len(pieces[-1])
        if missing and pieces:
            raise BrokenStreamError("the result broke off in the middle of a message")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take(self, size: int) -> memoryview:
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def _refill(self) -> bool:
        chunk = self._rows.wait(self._next, self._call)
        if not len(chunk):
            return False
        self._left = memoryview(chunk)
        self._next = self._rows.begin_chunk()
        return True

    def close(self) -> None:
        """Do nothing: who made this closes the rows."""


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
