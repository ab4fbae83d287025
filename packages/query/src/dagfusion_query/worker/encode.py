"""A result's batches as bytes of a format, in the worker; the service only relays them."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import pyarrow as pa

Piece: TypeAlias = bytes | memoryview  # or a pyarrow.Buffer, which has no type that mypy knows


class Encoder(Protocol):
    """Turns batches into bytes. What it returns, put together, is the document."""

    media_type: str

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return the bytes that are ready with this batch."""

    def finish(self) -> list[Piece]:
        """Return the rest, with the document's end."""


class _Sink:
    """Takes what Arrow writes, without a copy."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    def write(self, piece: Piece) -> int:
        self._pieces.append(piece)
        return len(piece)

    def flush(self) -> None:
        """Do nothing: everything is there."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces


class ArrowEncoder:
    """An Arrow IPC stream; each call's bytes are whole messages."""

    media_type = "application/vnd.apache.arrow.stream"

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _Sink()
        self._file = pa.PythonFile(self._sink, "w")
        self._writer = pa.ipc.new_stream(self._file, schema)

    def write(self, batch: pa.RecordBatch) -> list[Piece]:
        """Return the batch as messages, the schema's before the first."""
        self._writer.write_batch(batch)
        return self._sink.take()

    def finish(self) -> list[Piece]:
        """Return the end-of-stream marker."""
        self._writer.close()
        return self._sink.take()


ENCODERS: Mapping[str, Callable[[pa.Schema], Encoder]] = {"arrow": ArrowEncoder}
