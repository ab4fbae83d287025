"""Worker process: a result as messages, encoded in chunks and held to the limits of its statement."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pyarrow as pa

from dagfusion_client.errors import ResultTooLargeError
from dagfusion_client.formats.encoders import Piece
from dagfusion_query.engine.plan_execution import Batches
from dagfusion_server.worker.messages import Cost, End, Kind, Statement, encode

Encoded: TypeAlias = list[bytes | memoryview]
Send: TypeAlias = Callable[..., None]
CHUNK_BYTES = 1 << 20


class ResultChunks:
    """Takes a result's batches and sends them.

    Args:
        statement: Its format and limits.
        schema: The result's columns.
        planned: The message that goes before everything else.
        send: Sends encoded messages.
    """

    def __init__(self, statement: Statement, schema: pa.Schema, planned: Encoded, send: Send) -> None:
        self._encoder = statement.format.encoder(schema)
        self._send = send
        self._limit_rows, self._limit_bytes = statement.limit_rows, statement.limit_bytes
        self._wanted = statement.wanted_rows
        self._planned: list[Encoded] = [planned]  # until it was sent
        self._pieces: list[Piece] = []
        self._waiting = self._bytes = self._rows = 0
        self._truncated = False

    def write(self, batch: pa.RecordBatch) -> bool:
        """Send a batch; return True if more is wanted."""
        if self._wanted is not None and self._rows + batch.num_rows > self._wanted:
            batch, self._truncated = batch.slice(0, self._wanted - self._rows), True
        self._rows += batch.num_rows
        if self._rows > self._limit_rows:
            raise ResultTooLargeError(
                f"the result has more than {self._limit_rows:,} rows: aggregate, filter or LIMIT it, "
                "or raise DAGFUSION_RESULT_LIMIT_ROWS"
            )
        for part in _parts(batch):
            self._take(self._encoder.write(part))
            if self._waiting >= CHUNK_BYTES:
                self.flush()
        return not self._truncated

    def flush(self) -> None:
        """Send the messages and the bytes that wait."""
        messages, self._planned = self._planned, []
        if self._pieces:
            messages.append(self._data())
        if messages:
            self._send(*messages)

    def finish(self, *, first_batch_s: float, batches: Batches, requests: int | None) -> Cost:
        """Send the rest, and what the result cost; return the latter."""
        self._take(self._encoder.finish())
        cost = Cost(
            first_batch_s=first_batch_s,
            files_read=batches.files_read,
            bytes_read=batches.bytes_read,
            requests=requests,
            requests_s=batches.requests_s,
            copies_found=batches.copies.found,
            copies_fetched=batches.copies.fetched,
            rows=self._rows,
            result_bytes=self._bytes,
            truncated=self._truncated,
        )
        self._send(*self._planned, self._data(), encode(Kind.end, End(cost, fetches=batches.fetches)))
        return cost

    def _take(self, pieces: list[Piece]) -> None:
        size = sum(len(piece) for piece in pieces)
        self._bytes += size
        if self._bytes > self._limit_bytes:
            raise ResultTooLargeError(
                f"the result has more than {self._limit_bytes:,} bytes: select fewer columns or rows, "
                "or raise DAGFUSION_RESULT_LIMIT_BYTES"
            )
        self._pieces += pieces
        self._waiting += size

    def _data(self) -> Encoded:
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        return encode(Kind.data, None, pieces)


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch that is large into some of about a chunk each."""
    size = batch.nbytes
    if size <= CHUNK_BYTES:
        return iter((batch,))
    step = max(1, batch.num_rows * CHUNK_BYTES // size)
    return (batch.slice(start, step) for start in range(0, batch.num_rows, step))
