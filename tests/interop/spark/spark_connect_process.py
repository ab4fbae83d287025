"""Serves the calls of Spark Connect that the product makes, over a session of Spark 3.5.

The package of Spark 3.5 has no Spark Connect server, and Iceberg's runtime for Spark 4, whose package has one, is in no
package. So the statements are run by Spark itself, and the protocol around them is this module's.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pyarrow as pa

from dagfusion_query.wire import children, message, uint
from tests.interop.spark.spark_process import configured

_SERVICE = "spark.connect.SparkConnectService"


class Server:
    """The calls.

    Args:
        session: The session of Spark.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._running: set[str] = set()
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def config(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        """Set what is told of the session."""
        for operation in children(request, 3):
            for setting in children(operation, 1):
                for pair in children(setting, 1):
                    key, value = (children(pair, number)[0].decode() for number in (1, 2))
                    self._session.conf.set(key, value)
        return message(1, children(request, 1)[0])

    def execute(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Run a statement, and yield the batches of its result and its end."""
        operation = children(request, 6)[0].decode()
        [plan] = children(request, 3)
        sql = children(children(children(plan, 1)[0], 10)[0], 1)[0].decode()
        with self._lock:
            if operation in self._ended:
                context.abort(grpc.StatusCode.INTERNAL, "interrupted")
            self._running.add(operation)
        spark = self._session.sparkContext
        try:
            spark.addJobTag(operation)
            batches = self._session.sql(sql)._collect_as_arrow()
        except Exception as error:  # noqa: BLE001  # the client raises it
            context.abort(grpc.StatusCode.INTERNAL, str(error)[:4000])
        finally:
            spark.removeJobTag(operation)
            self._running.discard(operation)
        for batch in batches:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            yield message(2, uint(1, batch.num_rows) + message(2, sink.getvalue().to_pybytes()))
        yield message(14, b"")

    def interrupt(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        """Cancel the jobs of a statement."""
        operation = children(request, 6)[0].decode()
        with self._lock:
            self._ended.add(operation)
            is_running = operation in self._running
        self._session.sparkContext.cancelJobsWithTag(operation)
        return message(1, children(request, 1)[0]) + (message(2, operation.encode()) if is_running else b"")

    def release(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        """Return the session, because nothing is kept."""
        return message(1, children(request, 1)[0])


def main(port: int, settings: dict[str, str]) -> None:
    """Serve until standard input ends."""
    server = Server(configured(None, settings))
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {
        "Config": unary(server.config),
        "ExecutePlan": stream(server.execute),
        "Interrupt": unary(server.interrupt),
        "ReleaseExecute": unary(server.release),
    }
    running = grpc.server(ThreadPoolExecutor(16))
    running.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])
    running.add_insecure_port(f"127.0.0.1:{port}")
    running.start()
    sys.stdin.read()
    os._exit(0)  # a statement may still run


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
