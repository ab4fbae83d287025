"""Worker process: its start.

`python -m dagfusion_query.worker <socket> <file of the phase> <service's process id>`
"""

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

from dagfusion_query.worker import limits
from dagfusion_query.worker.messages import Configuration, Kind, Message, Phase, encode
from dagfusion_query.worker.service_socket import ServiceSocket

if TYPE_CHECKING:
    from dagfusion_query.worker.statements import Statements


class _WithoutPandas(MetaPathFinder):
    """Hides pandas from pyarrow, which would import it where it is installed: 0.2 s and 30 MB for nothing."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002  # as called
        """Raise that pandas is missing, and find no other module."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def main(descriptor: int, phase_file: int, service_pid: int) -> None:
    """Run a worker.

    Args:
        descriptor: The socket.
        phase_file: A file whose first byte says what the worker is at.
        service_pid: The process that started this one.
    """
    limits.live_no_longer_than_the_service(service_pid)
    limits.go_first()
    limits.leave_no_core()
    connection = ServiceSocket(descriptor)
    messages = connection.messages()
    statements = _configured(next(messages), lambda phase: _mark(phase_file, phase))
    connection.send(encode(Kind.ready))
    serve = partial(statements.serve, messages, connection.send)
    threading.Thread(target=serve, name="dagfusion-serve", daemon=True).start()
    serve()


def _mark(phase_file: int, phase: Phase) -> None:
    os.pwrite(phase_file, phase.value, 0)


def _configured(message: Message, mark: Callable[[Phase], None]) -> "Statements":
    """Make the engine, and limit memory once it is there."""
    sys.meta_path.insert(0, _WithoutPandas())
    from dagfusion_query.worker.statements import Statements  # noqa: PLC0415  # imports DataFusion, which takes 0.2 s

    configuration = message.read(Configuration)
    statements = Statements(configuration, mark)
    statements.warm_up(configuration)
    limits.limit_memory(configuration.memory_bytes)
    return statements


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
