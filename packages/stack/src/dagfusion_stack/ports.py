"""TCP ports on the loopback interface."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack

from dagfusion_stack.errors import PortBusyError

LOOPBACK = "127.0.0.1"
HIGHEST = 65_535


def is_free(port: int) -> bool:
    """Return True if a server can listen on `port` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free(port: int, server: str, setting: str) -> None:
    """Check that `port` can be listened on.

    Raises:
        PortBusyError: It cannot; the message names the server and the setting that chooses another.
    """
    if not is_free(port):
        raise PortBusyError(
            f"port {port} for {server} is busy: stop what listens there, or choose another with {setting}"
        )


def free_pair(offset: int) -> int:
    """Choose a free port of which the one `offset` above it is free, too."""
    while True:
        [port] = free_ports(1)
        if port + offset <= HIGHEST and is_free(port + offset):
            return port


def free_ports(count: int) -> Sequence[int]:
    """Choose `count` different free ports."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
