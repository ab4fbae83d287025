"""Results as the door sends them, cut into pieces."""

import pyarrow as pa

from tests.server.fake_service import Piece


def pieces(batches: int, rows: int = 1000) -> list[Piece]:
    """An Arrow stream, a batch a piece, and the end by itself."""
    batch = pa.record_batch({"n": list(range(rows))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    whole = bytes(sink.getvalue().to_pybytes())
    schema = pa.BufferOutputStream()
    with pa.ipc.new_stream(schema, batch.schema):
        pass
    head = len(schema.getvalue()) - 8
    each = (len(whole) - head - 8) // batches
    return [whole[:head], *(whole[head + i * each : head + (i + 1) * each] for i in range(batches)), whole[-8:]]
