"""An HTTP server that passes each statement to a process with the embedded engine, and does nothing else.

It shows what any door costs whose statements run in another process: no access, admission, limits, cancellation, stats,
log or metrics. `python -m benchmarks.bare_door` prints its port, and serves until it is ended.
"""

import asyncio
import json
import socket
import struct
import subprocess
import sys

import pyarrow as pa
import uvicorn
from starlette.types import Receive, Scope, Send

import dagfusion_query

_LENGTH = struct.Struct("I")
_READ_BYTES = 1 << 16


class BareDoor:
    """The server, an ASGI application for one client: it passes one statement at a time.

    Args:
        worker: The server's end of the worker's socket.
    """

    def __init__(self, worker: socket.socket) -> None:
        self._worker = worker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST` with a JSON document that has a statement as `sql`: its rows as an Arrow IPC stream."""
        if scope["type"] != "http":
            return
        sql = json.loads((await receive())["body"])["sql"].encode()
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._worker, _LENGTH.pack(len(sql)) + sql)
        received, size = b"", None
        while size is None or len(received) < _LENGTH.size + size:
            more = await loop.sock_recv(self._worker, _READ_BYTES)
            if not more:
                raise ConnectionError("the worker has ended")
            received += more
            if size is None and len(received) >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(received)
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": received[_LENGTH.size :]})


def serve() -> None:
    """Start the worker, print the port, and serve."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    command = [sys.executable, "-m", "benchmarks.bare_door", str(theirs.fileno())]
    with theirs:
        subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603  # this interpreter; ends with its socket
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(BareDoor(ours), http="httptools", loop="uvloop", log_level="error", lifespan="off")
    uvicorn.Server(config).run([listening])


def work(service: socket.socket) -> None:
    """Run the statements that come, one after another."""
    with dagfusion_query.connect() as connection, service.makefile("rb") as messages:
        while head := messages.read(_LENGTH.size):
            rows = connection.sql(messages.read(*_LENGTH.unpack(head)).decode()).to_arrow()
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_table(rows)
            body = sink.getvalue().to_pybytes()
            service.sendall(_LENGTH.pack(len(body)) + body)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(socket.socket(fileno=int(sys.argv[1])))
    else:
        serve()
