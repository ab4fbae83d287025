"""The process of a worker: its start, the service's end of its socket, its log, and its exit."""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from dagfusion_contract.environments import StoreSettings
from dagfusion_contract.setting_declarations import declared
from dagfusion_server.worker.messages import Decoder, Kind, Message, Phase, encode

_BUFFER_BYTES = 4 << 20  # in the socket; the system may give less
_TAIL_BYTES = 4096  # of a dead worker's log
_LOG_BYTES = 1 << 20
_NO_MEMORY = ("memory allocation of", "MemoryError", "Cannot allocate memory", "bad_alloc")  # in a log
# Each environment has its own in the configuration that a worker gets.
_STORE = frozenset(
    each.metadata["variable"] for each in declared(StoreSettings) if each.name == "endpoint_url" or not each.repr
)
_SCRATCH = "dagfusion-worker-"  # and the service's process id
_PRIVATE = ("DAGFUSION_", "DAGSTER_", "PG")


class WorkerProcess:
    """A worker's process, and the service's end of its socket. All on one event loop.

    Attributes:
        exited: A future of the exit code.

    Args:
        ended: Called on the loop with the exit code.
        secrets: Values of variables that the process must not have.
    """

    def __init__(self, ended: Callable[[int], None], secrets: Collection[str] = ()) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._decoder = Decoder()
        self._left: Message | None = None  # by `receive_now`
        self._waiter: asyncio.Future[None] | None = None
        self._is_watched = False  # whether the loop calls `_arrived` when there is something to read
        with ExitStack() as opened:  # which a full disk closes again
            self._log = opened.enter_context(tempfile.TemporaryFile())
            fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)
            self._phase = opened.enter_context(tempfile.TemporaryFile(buffering=0))
            self._phase.write(Phase.idle.value)
            self._scratch = tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-")  # removed also after a killed process
            opened.pop_all()  # all of it lives as long as the process
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._last_phase = Phase.idle
        self._lock_file = os.open(self._scratch, os.O_RDONLY)
        fcntl.flock(self._lock_file, fcntl.LOCK_SH)  # so that what clears old temporary files (systemd) leaves it alone
        self._socket, theirs = socket.socketpair()
        with theirs:
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            self._socket.settimeout(0)
            passed = (theirs.fileno(), self._phase.fileno())
            try:
                self._process = subprocess.Popen(  # noqa: S603  # this interpreter, and numbers
                    [sys.executable, "-P", "-m", "dagfusion_server.worker", *map(str, (*passed, os.getpid()))],
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    env={**_environment(os.environ, secrets), "TMPDIR": self._scratch},
                    start_new_session=True,  # an interrupt at the terminal is the service's to handle
                )
            except OSError:
                self._clear()
                raise
        threading.Thread(target=self._wait, name=f"dagfusion-worker-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def send(self, kind: Kind, head: object, body: bytes = b"") -> None:
        """Send a message.

        Raises:
            ConnectionError: The process has ended.
        """
        await self._loop.sock_sendall(self._socket, b"".join(encode(kind, head, [body])))

    def send_now(self, kind: Kind, head: object) -> None:
        """Send a short message without waiting; it is lost if the process takes nothing."""
        try:
            self._socket.send(b"".join(encode(kind, head)))
        except OSError:
            return

    async def receive(self) -> Message | None:
        """Return the next message, or None when the process has closed its end.

        May be cancelled at any time; nothing that came is lost.

        Raises:
            ProtocolError: The process has sent something that is no message.
        """
        while True:
            try:
                return self._arrived_message()
            except BlockingIOError:
                await self._readable()

    def receive_now(self, kind: Kind) -> Message | None:
        """Return the next message if it has arrived and is of this kind; otherwise it is left for `receive`.

        Raises:
            ProtocolError: As `receive`.
        """
        try:
            message = self._arrived_message()
        except BlockingIOError:
            return None
        if message is not None and message.kind is not kind:
            self._left, message = message, None
        return message

    def _arrived_message(self) -> Message | None:
        """Return the next message if all of it has arrived, or None when the process has closed its end.

        Raises:
            BlockingIOError: More of it has to arrive.
            ProtocolError: As `receive`.
        """
        message, self._left = self._left, None
        while message is None and (message := self._decoder.next()) is None:
            try:
                count = self._socket.recv_into(self._decoder.room())
            except BlockingIOError:
                raise
            except OSError:
                return None
            if not count:
                return None
            self._decoder.received(count)
        return message

    async def _readable(self) -> None:
        """Wait until there is something to read, and read nothing: so a cancellation loses nothing."""
        waiter = self._waiter = self._loop.create_future()
        if not self._is_watched:
            self._loop.add_reader(self._socket.fileno(), self._arrived)
            self._is_watched = True
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._waiter = None

    def _arrived(self) -> None:
        """Wake what waits, and else no longer watch the socket: the next wait begins again."""
        if self._waiter is None:
            self._unwatch()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._loop.remove_reader(self._socket.fileno())
            self._is_watched = False

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Close the socket, which ends the process when it is idle, and its files."""
        self._last_phase = self.phase
        self._unwatch()
        self._socket.close()
        self._log.close()
        self._phase.close()

    @property
    def phase(self) -> Phase:
        """The phase of the process, or its last one."""
        return self._last_phase if self._phase.closed else Phase(os.pread(self._phase.fileno(), 1, 0))

    def log(self) -> str:
        """Return the end of what the process has written to its log, until that is closed."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode("utf-8", "replace")

    def log_from(self, text: str) -> str:
        """Return the end of the process's log, from the last place that has `text` on; all of it if none has."""
        log = self.log()
        return log[max(0, log.rfind(text)) :].strip()

    @property
    def lacks_memory(self) -> bool:
        """True if the process's log says that there was not enough memory."""
        log = self.log()
        return any(word in log for word in _NO_MEMORY)

    def trim_log(self) -> None:
        """Keep the process's log short."""
        if os.fstat(self._log.fileno()).st_size > _LOG_BYTES:
            os.ftruncate(self._log.fileno(), 0)

    def _wait(self) -> None:
        code = self._process.wait()
        self._clear()
        try:
            self._loop.call_soon_threadsafe(self._exit, code)
        except RuntimeError:  # the event loop is closed: nothing waits for this any more
            return

    def _exit(self, code: int) -> None:
        self._ended(code)
        self.exited.set_result(code)

    def _clear(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.close(self._lock_file)


def exit_text(code: int | None) -> str:
    """Return how a process ended: its exit code, or the signal."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
    return f"{name}: {signal.strsignal(-code)}"


def remove_leftover_files() -> None:
    """Remove the temporary files of workers whose service was killed, which could not."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*-*"):
        pid = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _environment(variables: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """Return a worker's variables: the service's without its secrets, and with more threads than cores.

    A statement whose join does not yield would otherwise starve what else the engine has to do.
    """
    allowed = {k: v for k, v in variables.items() if k not in _STORE and not k.startswith(_PRIVATE)}
    passed = {k: v for k, v in allowed.items() if v not in secrets}
    threads = max(4, 2 * (os.cpu_count() or 1))
    return {**passed, "TOKIO_WORKER_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
