"""Both processes: limits of a worker process that the operating system enforces, and counters that it has.

The worker process limits its memory, waits for its threads and counts its requests to object stores. The service reads
the memory and the state of a worker process, and has the errors of its limits.

The memory limit is for statements: it counts from the memory of a worker that is ready. Catalog snapshots are mapped
read-only, and mapped files do not count.

DataFusion does not count requests. But a worker has no other TCP connections, an S3 client speaks HTTP/1.1 without
pipelining, and a request for an object has no body. So each request is one segment with data, and Linux counts those
for each connection.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dagfusion_client.errors import ResourcesError

_PAGE = resource.getpagesize()
_PR_SET_PDEATHSIG = 1
_FIRST_TO_KILL = 800  # of 1000, by Linux's out-of-memory killer: a worker is replaced, the service is not
_TASKS = Path("/proc/self/task")
_LOOKS = 3  # in a row that have to agree: a thread sleeps now and then
_LOOK_S = 0.005
EXIT_CODE = 75  # of a worker that ends because it cannot come to rest
_TLS_SEGMENTS = 2  # of a client's handshake: its hello, and its end
_HTTP_PORT = 80
# Of struct tcp_info in linux/tcp.h: segments sent again, segments sent with data, bytes sent, bytes sent again.
_TCP_INFO = struct.Struct("=100xI52xI40xQQ")


def live_no_longer_than_the_service(service_pid: int) -> None:
    """Kill this process when the thread that started it ends; except on Linux, only its socket ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != service_pid:  # it ended before it was asked for
            os._exit(1)


def raise_oom_score() -> None:
    """Make the kernel kill this process before others when the machine is out of memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_FIRST_TO_KILL))


def leave_no_core() -> None:
    """Leave no core dump: it would hold credentials and data.

    Linux ignores a limit of 0 where it pipes core dumps to a program, but not a limit of 1 byte.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except ValueError:  # this process may not raise a limit of 0
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_memory(limit_bytes: int) -> None:
    """Limit this process to so much more memory than it has now; further allocations fail."""
    if sys.platform == "linux":
        limit = _status_bytes("VmData") + limit_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def memory_bytes(pid: int) -> int:
    """Return the memory of a process that is its own: resident and not of a mapped file; 0 when it is unknown."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE


def is_stopped(pid: int) -> bool:
    """Return True if a process is stopped (SIGSTOP). On systems other than Linux, return False."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False


def out_of_memory(limit_bytes: int) -> ResourcesError:
    """Return the error of a statement that wants more than its worker may have."""
    return ResourcesError(
        f"the statement needs more memory than a worker may use ({limit_bytes:,} bytes): filter or aggregate earlier, "
        "or raise DAGFUSION_WORKER_MEMORY_BYTES"
    )


def no_room_to_start() -> ResourcesError:
    """Return the error of a service whose workers cannot be started because nothing can be written."""
    return ResourcesError(
        "no worker can be started because the folder for temporary files (TMPDIR) of the service is full: make room in "
        "it; the service retries automatically"
    )


def comes_to_rest(within_s: float) -> bool:
    """Wait until no other thread runs; return whether that was so in time.

    The execution of a cancelled statement should stop, but some joins of DataFusion ignore that and run for minutes. A
    process in which one does cannot be used again.
    """
    deadline = time.monotonic() + within_s
    looks = 0
    while looks < _LOOKS:
        looks = looks + 1 if _is_at_rest() else 0
        if looks == 0 and time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


class SentRequests:
    """Counts requests from one moment to another.

    What was sent on connections that were closed meanwhile is not counted: the store closes some, and now and then the
    client closes one after its first request. A request counts twice where it is
    larger than a network's segments, which takes a session token of more than about 1 KB and no jumbo frames.

    Args:
        endpoints: The stores' own endpoints; None for AWS, which is asked over TLS.
    """

    def __init__(self, endpoints: Iterable[str | None]) -> None:
        self._http_ports = frozenset(_http_ports(endpoints))
        self._others = frozenset[int]()  # inodes of open sockets that are not of TCP
        self._before = self._counted = self._segments()

    def restart(self) -> None:
        """Count from now on."""
        self._before = self._segments()

    def restart_after_count(self) -> None:
        """Count from the last `count` on."""
        self._before = self._counted

    def count(self) -> int | None:
        """Return the requests sent since; None on systems that do not tell."""
        before, now = self._before, self._segments()
        self._counted = now
        if before is None or now is None:
            return None
        return sum(max(0, sent - before.get(connection, 0)) for connection, sent in now.items())

    def _segments(self) -> dict[int, int] | None:
        """Return the segments with data that each connection has sent, without those of TLS handshakes.

        Returns:
            Numbers by the inodes of the sockets; None if they are unknown.
        """
        try:
            descriptors = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208  # it is asked at each query's end
        except OSError:
            return None
        sent, others = dict[int, int](), set[int]()
        for descriptor in descriptors:
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISSOCK(status.st_mode):
                    continue
                number = None if status.st_ino in self._others else _sent(descriptor, self._http_ports)
            except OSError:
                continue  # closed meanwhile, or without a peer
            if number is None:
                others.add(status.st_ino)
            else:
                sent[status.st_ino] = number
        self._others = frozenset(others)
        return sent


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def _is_at_rest() -> bool:
    """Return True if no other thread runs or waits for a processor."""
    if not _TASKS.exists():  # not Linux
        before = time.process_time()
        time.sleep(4 * _LOOK_S)
        return time.process_time() - before < _LOOK_S
    own = str(threading.get_native_id())
    return not any(_is_running(task) for task in _TASKS.iterdir() if task.name != own)


def _is_running(task: Path) -> bool:
    try:
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has ended
        return False
    return state == "R"


def _http_ports(endpoints: Iterable[str | None]) -> Iterator[int]:
    """Yield the ports of the stores that are used without TLS."""
    for endpoint in endpoints:
        if endpoint is not None and endpoint.startswith("http://"):
            yield urlsplit(endpoint).port or _HTTP_PORT


def _sent(descriptor: int, http_ports: frozenset[int]) -> int | None:
    """Return the segments that one connection has sent; None for a socket that is not of TCP.

    Raises:
        OSError: The descriptor is not a connected socket.
    """
    borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)  # whatever its real family is
    try:
        try:
            tcp_info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return None
        is_http = borrowed.getpeername()[1] in http_ports
    finally:
        borrowed.detach()
    again, with_data, bytes_sent, bytes_again = _TCP_INFO.unpack(tcp_info.ljust(_TCP_INFO.size, b"\0"))
    return _sent_once(again, with_data, bytes_sent, bytes_again) - (0 if is_http else _TLS_SEGMENTS)


def _sent_once(again: int, with_data: int, bytes_sent: int, bytes_again: int) -> int:
    """Return the segments with data without those sent again.

    A store that accepts connections slowly has their first segments sent again too. Those are among `again` but have no
    data, so the bytes tell how many of `again` had: a connection's requests are about equally long.
    """
    if bytes_again == 0:
        return with_data
    return with_data - min(again, round(with_data * bytes_again / bytes_sent))
