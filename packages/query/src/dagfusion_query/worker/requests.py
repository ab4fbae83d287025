"""How many requests this process has sent to object stores, as Linux counts them.

DataFusion does not tell. But a worker has no other TCP connections, an S3 client speaks HTTP/1.1 without pipelining,
and a request for an object has no body: each is one segment with data, and the kernel counts those per connection.
"""

import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

_TLS_SEGMENTS = 2  # of a client's handshake: its hello, and its end
_HTTP_PORT = 80
# Of struct tcp_info in linux/tcp.h: segments sent again, segments sent with data, bytes sent again.
_TCP_INFO = struct.Struct("=100xI52xI48xQ")


class SentRequests:
    """Counts requests from one moment to another.

    What was sent on connections that the store has closed meanwhile is not counted. A request counts twice where it is
    larger than a network's segments, which takes a session token of more than about 1 KB and no jumbo frames.

    Args:
        endpoints: The stores' own endpoints; None for AWS, which is asked over TLS.
    """

    def __init__(self, endpoints: Iterable[str | None]) -> None:
        self._plain_ports = frozenset(_plain_ports(endpoints))
        self._before = _segments(self._plain_ports)

    def restart(self) -> None:
        """Count from now on."""
        self._before = _segments(self._plain_ports)

    def count(self) -> int | None:
        """Return the requests sent since; None on systems that do not tell."""
        before, now = self._before, _segments(self._plain_ports)
        if before is None or now is None:
            return None
        return sum(max(0, sent - before.get(connection, 0)) for connection, sent in now.items())


def _plain_ports(endpoints: Iterable[str | None]) -> Iterator[int]:
    """Yield the ports at which stores are asked without TLS."""
    for endpoint in endpoints:
        if endpoint is not None and endpoint.startswith("http://"):
            yield urlsplit(endpoint).port or _HTTP_PORT


def _segments(plain_ports: frozenset[int]) -> dict[int, int] | None:
    """Return the segments with data that each connection has sent, without those of TLS handshakes; None if unknown."""
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208  # it is asked at each query's end
    except OSError:
        return None
    sent = {}
    for descriptor in descriptors:
        try:
            status = os.fstat(descriptor)
            if stat.S_ISSOCK(status.st_mode):
                sent[status.st_ino] = _sent(descriptor, plain_ports)
        except OSError:
            continue  # closed meanwhile, not of TCP, or without a peer
    return sent


def _sent(descriptor: int, plain_ports: frozenset[int]) -> int:
    """Return the segments that one connection has sent.

    Raises:
        OSError: It is none.
    """
    borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)  # whatever its real family is
    try:
        told = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        is_plain = borrowed.getpeername()[1] in plain_ports
    finally:
        borrowed.detach()
    again, with_data, bytes_again = _TCP_INFO.unpack(told.ljust(_TCP_INFO.size, b"\0"))
    is_of_data = bytes_again > 0  # and not of the connection's first segment, which has none
    return int(with_data - (again if is_of_data else 0) - (0 if is_plain else _TLS_SEGMENTS))
