"""Content codings of a streamed body."""

import io

import pyarrow as pa


class Zstd:
    """One zstd frame, given as it grows: what was added can be read at once."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._sink, mode="w"), "zstd")

    def add(self, chunk: bytes | memoryview) -> bytes:
        """Return what is to be sent for a chunk."""
        self._stream.write(chunk)
        self._stream.flush()
        return self._taken()

    def finish(self) -> bytes:
        """Return the frame's end."""
        self._sink.close = lambda: None  # type: ignore[method-assign]  # Arrow closes it, and the end is still to be read
        self._stream.close()
        return self._taken()

    def _taken(self) -> bytes:
        taken = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return taken
