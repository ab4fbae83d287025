"""One worker as the service sees it: its states with the transitions between them, and the statement that it runs."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum, auto

from dagfusion_client.documents.query_documents import Failure
from dagfusion_client.errors import InternalError, QueryError, RemoteEngineError, WorkerDiedError
from dagfusion_query.redact import for_clients
from dagfusion_server.service.worker_process import WorkerProcess, exit_text
from dagfusion_server.worker.limits import EXIT_CODE, memory_bytes, out_of_memory
from dagfusion_server.worker.messages import Cancel, Configuration, Kind, Message, Mode, Phase, ProtocolError, Statement

_log = logging.getLogger(__name__)

TOO_MUCH_MEMORY = "memory"
STOPPED = "stopped"
_MALFORMED = "it sent a malformed message"
_REFERENCE = re.compile(r"\berror [0-9a-f]{8}\b")  # of an error whose reason is for operators only
_EXIT_S = 1.0  # from the end of a socket to the end of its process


class WorkerState(Enum):
    """The state of a worker, as the service sees it. `Phase` is what the process itself reports."""

    starting = auto()  # the process is not ready yet
    idle = auto()  # in the pool; no other state can be leased
    leased = auto()  # a query has it, and has sent nothing
    sending = auto()  # its socket may hold half a statement: it runs the statement, or it is killed
    running = auto()  # it has a statement
    stopping = auto()  # it has been sent the cancellation of its statement, and is killed after the grace
    lost = auto()  # killed or exited; its query still reads what it has sent
    gone = auto()  # killed or exited, and not leased


class Transition(Enum):
    """The transitions between the states of a worker."""

    ready = auto()
    lease = auto()
    send = auto()
    sent = auto()
    stop = auto()
    release = auto()
    die = auto()  # the process is killed, or exits


_IN_USE = (WorkerState.leased, WorkerState.sending, WorkerState.running, WorkerState.stopping)
_DEAD = (WorkerState.lost, WorkerState.gone)
_NEXT: Mapping[Transition, Mapping[WorkerState, WorkerState]] = {
    Transition.ready: {WorkerState.starting: WorkerState.idle},
    Transition.lease: {WorkerState.idle: WorkerState.leased},
    Transition.send: {WorkerState.leased: WorkerState.sending},
    Transition.sent: {WorkerState.sending: WorkerState.running},
    Transition.stop: {WorkerState.running: WorkerState.stopping},
    Transition.release: {
        WorkerState.leased: WorkerState.idle,
        WorkerState.running: WorkerState.idle,
        WorkerState.stopping: WorkerState.idle,
        WorkerState.lost: WorkerState.gone,
    },
    Transition.die: {
        WorkerState.starting: WorkerState.gone,
        WorkerState.idle: WorkerState.gone,
        **dict.fromkeys(_IN_USE, WorkerState.lost),
    },
}


class Lifecycle:
    """The state of one worker, which only `move` changes. Pure.

    - A worker is leased only when it is idle.
    - A worker that is released is idle again, unless it is dead. Half a statement makes it useless: it is killed first.
    - It can be killed in any state. A dead worker stays dead. Its query learns of that when it reads, so every
      transition but `lease` is allowed until then, and only `release` has an effect.

    Attributes:
        state: The state now.
        was_ready: Whether the process has come up.
        kill_reason: Why the service killed it first, "" if it did not or gave no reason.
        exit_code: That of the process; None until it has exited.
    """

    def __init__(self) -> None:
        self.state = WorkerState.starting
        self.was_ready = False
        self.kill_reason = ""
        self.exit_code: int | None = None

    @property
    def is_idle(self) -> bool:
        """True if it can be leased."""
        return self.state is WorkerState.idle

    @property
    def is_leased(self) -> bool:
        """True if a query has it, dead or alive."""
        return self.state in _IN_USE or self.state is WorkerState.lost

    @property
    def is_over(self) -> bool:
        """True if the process has exited and no query reads its messages."""
        return self.state is WorkerState.gone and self.exit_code is not None

    def move(self, transition: Transition) -> WorkerState:
        """Change the state, and return it.

        Raises:
            RuntimeError: The transition is not allowed in this state, which is a fault of this program.
        """
        following = _NEXT[transition].get(self.state)
        if following is None and (self.state not in _DEAD or transition is Transition.lease):
            raise RuntimeError(f"transition {transition.name} of a worker that is {self.state.name}")
        self.state = following or self.state
        self.was_ready = self.was_ready or transition is Transition.ready
        return self.state

    def kill(self, reason: str) -> None:
        """Record that the service kills it; the first reason counts."""
        self.kill_reason = self.kill_reason or reason
        self.move(Transition.die)

    def exit(self, code: int) -> None:
        """Record that the process has exited."""
        self.exit_code = code
        self.move(Transition.die)


class NeverStarted(Exception):  # noqa: N818
    """The worker was dead before it took the statement; another one can have it."""


class Handle:
    """A worker: its state, and the statement that it runs. All on one event loop.

    The pool leases it to a query, which calls `begin` and then `next` until the end, or `release` without a statement.
    `next` may be cancelled, and `stop` called, at any time. At the end of its statement the worker goes back to its
    pool by itself and may be leased again, so the query must not use it any more. It is killed if a stopped statement
    takes longer than the grace.

    Attributes:
        process: The process.
        life: The state, which only this class changes.
        rank: The order in which idle workers are leased, the highest first. The pool sets it.

    Args:
        released: Called when it is no longer leased, with True if its caches are warm and it has not to rest.
        ended: Called when the process has exited.
        grace_s: Seconds that it has to yield after `stop`.
        limit_bytes: The memory that statements may add to what it has when it is ready.
        secrets: Values of variables that the process must not have.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(
        self,
        released: Callable[["Handle", bool], None],
        ended: Callable[["Handle"], None],
        grace_s: float,
        limit_bytes: int,
        secrets: Collection[str] = (),
    ) -> None:
        self._released, self._ended = released, ended
        self._grace_s, self._limit_bytes = grace_s, limit_bytes
        self.life = Lifecycle()
        self.rank = 0
        self._ready_bytes = 0
        self._reset()
        self.process = WorkerProcess(self._exited, secrets)

    def _reset(self) -> None:
        self._statement = ""  # its id
        self._is_query = True
        self._error: QueryError | None = None  # that of `stop`
        self._has_begun = False  # whether the worker has sent a message
        self._reading = False
        self._drain: asyncio.Task[None] | None = None
        self._killer: asyncio.TimerHandle | None = None

    async def start(self, configuration: Configuration) -> bool:
        """Configure the worker, and wait until it is ready; return False when it ends instead."""
        try:
            await self.process.send(Kind.configure, configuration)
        except OSError:
            return False
        message = await self._receive()
        if message is None or message.kind is not Kind.ready:
            return False
        self._ready_bytes = memory_bytes(self.process.pid)
        self.life.move(Transition.ready)
        return True

    def lease(self) -> None:
        """Keep the worker for one query."""
        self.life.move(Transition.lease)
        self._reset()

    async def begin(self, statement: Statement, body: bytes) -> None:
        """Send the statement to the worker.

        Raises:
            NeverStarted: The worker is dead, and was before.
            QueryError: The statement was stopped.
        """
        self._statement, self._is_query = statement.id, statement.mode is not Mode.fetch
        self.life.move(Transition.send)
        try:
            await self.process.send(Kind.statement, statement, body)
            self.life.move(Transition.sent)
        except OSError:
            self.kill()  # it has closed its socket, so it is about to exit by itself
            self.release(is_warm=False)
            raise self._error or NeverStarted from None
        except asyncio.CancelledError:
            self.kill("cancelled")  # it may have got half of the message
            self.release(is_warm=False)
            raise

    async def next(self) -> Message:
        """Return the next message: planned, data or end.

        Those of a fetch are returned after `stop`, too, because they have what it cost.

        Raises:
            NeverStarted: The worker was dead before it took the statement.
            QueryError: The statement failed, its worker died, or it was stopped.
        """
        if self._error is not None and (self._is_query or self._drain is not None):
            raise self._error
        self._reading = True
        try:
            return await self._next()
        except asyncio.CancelledError:
            self._start_drain()  # of a stopped statement: the remaining messages are read all the same
            raise
        finally:
            self._reading = False

    def end(self) -> Message | None:
        """Return the end, if it has arrived and is the next message."""
        if self._error is not None:
            return None
        try:
            message = self.process.receive_now(Kind.end)
        except ProtocolError:
            self.kill(_MALFORMED)  # `next` finds out that the worker is dead
            return None
        if message is not None:
            self.release()
        return message

    def release(self, *, is_warm: bool = True) -> None:
        """Return the worker to its pool."""
        if not self.life.is_leased:
            return
        if self._killer is not None:
            self._killer.cancel()
        self.life.move(Transition.release)
        self._released(self, is_warm)

    def stop(self, error: QueryError) -> None:
        """End the statement; `next` raises this error, also where it waits already."""
        if self._error is not None or not self.life.is_leased:
            return
        self._error = error
        if self.life.state is WorkerState.leased:  # without a statement
            self.release()
            return
        if self.life.state is WorkerState.sending:
            self.kill("cancelled")
        self.life.move(Transition.stop)
        self.process.send_now(Kind.cancel, Cancel(self._statement))
        self._killer = asyncio.get_running_loop().call_later(self._grace_s, self.kill, "cancelled")
        if not self._reading:
            self._start_drain()

    def kill(self, reason: str = "") -> None:
        """Kill the worker, in whatever state it is."""
        self.life.kill(reason)
        if self.life.exit_code is None:
            self.process.kill()

    @property
    def grown_bytes(self) -> int:
        """The memory that statements have added."""
        return memory_bytes(self.process.pid) - self._ready_bytes

    @property
    def end_reason(self) -> str:
        """The reason why the process has ended, in a word or two."""
        if self._ran_out_of_memory():
            return TOO_MUCH_MEMORY
        return "did not yield" if self.life.exit_code == EXIT_CODE else self.life.kill_reason or "died"

    def _exited(self, code: int) -> None:
        self.life.exit(code)
        self._ended(self)

    async def _next(self) -> Message:
        while True:
            message = await self._receive()
            if message is None:
                raise await self._death()
            is_first, self._has_begun = not self._has_begun, True
            if is_first and self._is_query and message.kind in (Kind.data, Kind.end):  # its plan is missing
                self.kill(_MALFORMED)
                raise await self._death()
            if message.kind is Kind.failed:
                error = self._error or message.read(Failure).error()
                if isinstance(error, InternalError):  # a fault of this program, which the worker's log describes
                    log = self.process.log().strip()
                    _log.error("a statement failed in worker %d: %s", self.process.pid, log)
                elif isinstance(error, RemoteEngineError) and (reference := _REFERENCE.search(str(error))):
                    _log.warning("worker %d: %s", self.process.pid, self.process.log_from(reference[0]))
                self.release(is_warm=False)
                raise for_clients(error)
            if message.kind is Kind.end:
                self.release(is_warm=self._error is None and self._is_query)
                if self._error is not None:
                    raise self._error
                return message
            if self._error is None or not self._is_query:
                return message

    async def _receive(self) -> Message | None:
        try:
            return await self.process.receive()
        except ProtocolError:
            self.kill(_MALFORMED)
            return None

    def _start_drain(self) -> None:
        if self._error is not None and self._drain is None and self.life.is_leased:
            self._drain = asyncio.create_task(self._drained())

    async def _drained(self) -> None:
        """Read the remaining messages and drop them, so that the worker can finish."""
        with contextlib.suppress(QueryError, NeverStarted):
            while True:  # the last one raises
                await self._next()

    async def _death(self) -> Exception:
        """Release the worker, and return what ended it."""
        try:
            async with asyncio.timeout(_EXIT_S):
                await asyncio.shield(self.process.exited)
        except TimeoutError:
            self.kill("it closed its socket")
            await asyncio.shield(self.process.exited)
        phase = self.process.phase
        cause = self._error or (self._cause(phase) if phase.is_statement or self._has_begun else NeverStarted())
        self.release(is_warm=False)
        return cause

    def _cause(self, phase: Phase) -> QueryError:
        if self._ran_out_of_memory():
            return out_of_memory(self._limit_bytes)
        if self.life.kill_reason == STOPPED:
            return WorkerDiedError(
                "the process that ran the statement was stopped (SIGSTOP), and was replaced: run the statement again"
            )
        return WorkerDiedError(
            f"the worker crashed during this statement, while {phase.name} ({exit_text(self.life.exit_code)}): "
            "simplify it; other queries are not affected"
        )

    def _ran_out_of_memory(self) -> bool:
        return self.life.kill_reason == TOO_MUCH_MEMORY or self.process.lacks_memory
