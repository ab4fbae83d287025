"""One statement on one worker process, from its start to its end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from dagfusion_query.documents.queries import Failure
from dagfusion_query.errors import QueryError, WorkerDiedError
from dagfusion_query.service.worker_handle import STOPPED, Handle
from dagfusion_query.service.worker_lifecycle import Transition, WorkerState
from dagfusion_query.worker.limits import out_of_memory
from dagfusion_query.worker.messages import Cancel, Kind, Message, Phase, ProtocolError, Statement

_log = logging.getLogger(__name__)

_EXIT_S = 1.0  # from the end of a socket to the end of its process


class NeverStarted(Exception):  # noqa: N818
    """The worker was dead before it took the statement; another one can have it."""


class Lease:
    """One statement on one worker.

    `next` may be cancelled, and `stop` called, at any time; the worker goes back to its pool by itself, as soon as it
    has come to its end, or is killed when that takes longer than the grace. The state is the worker's, in `Lifecycle`;
    the lease changes it until it is over, and never after.

    Attributes:
        worker: The process. It may run another statement when the lease is over.
        is_over: Whether the worker has come to its end with this statement, and was given back.

    Args:
        worker: Leased from a pool.
        give_back: Called once with the worker, and whether it comes first: one that was interrupted may have to rest.
        grace_s: Seconds that it has to yield after `stop`.
        limit_bytes: The memory it may have, for what is said when that is not enough.
    """

    def __init__(
        self, worker: Handle, give_back: Callable[[Handle, bool], None], grace_s: float, limit_bytes: int
    ) -> None:
        self.worker, self._give_back = worker, give_back
        self._grace_s, self._limit_bytes = grace_s, limit_bytes
        self.is_over = False
        self._statement = ""
        self._error: QueryError | None = None  # that of `stop`
        self._has_begun = False  # whether the worker has sent a message
        self._reading = False
        self._drain: asyncio.Task[None] | None = None
        self._killer: asyncio.TimerHandle | None = None

    async def begin(self, statement: Statement, body: bytes) -> None:
        """Give the worker the statement.

        Raises:
            NeverStarted: It is dead, and was before.
            QueryError: It was stopped already.
        """
        if self._error is not None:
            raise self._error
        self._statement = statement.id
        self.worker.life.move(Transition.send)
        try:
            await self.worker.send(Kind.statement, statement, body)
            self.worker.life.move(Transition.sent)
        except OSError:
            self.worker.kill()  # it has closed its socket, so it is about to exit by itself
            self._finish()
            raise self._error or NeverStarted from None
        except asyncio.CancelledError:
            self.worker.kill("cancelled")  # it may have got half of the message
            self._finish()
            raise

    async def next(self) -> Message:
        """Return the next message: planned, data or end.

        Raises:
            NeverStarted: The worker was dead before it took the statement.
            QueryError: The statement failed, its worker died, or it was stopped.
        """
        if self._error is not None:
            raise self._error
        self._reading = True
        try:
            return await self._next()
        except asyncio.CancelledError:
            self._start_drain()  # if it was stopped, somebody has to read on
            raise
        finally:
            self._reading = False

    def end(self) -> Message | None:
        """Return the end, if the worker has come to it already."""
        if self._error is not None or self.is_over:
            return None
        try:
            message = self.worker.peek()
        except ProtocolError:  # `next` finds out that the worker is dead
            return None
        if message is None or message.kind is not Kind.end:
            return None
        self.worker.received()
        self._finish(is_warm=True)
        return message

    def release(self) -> None:
        """Give back a worker that was given no statement."""
        self._finish(is_warm=True)

    def stop(self, error: QueryError) -> None:
        """End the statement; who waits for a message gets this error."""
        if self.is_over or self._error is not None:
            return
        self._error = error
        if not self._statement:
            self._finish()
            return
        if self.worker.life.state is WorkerState.sending:
            self.worker.kill("cancelled")
        self.worker.life.move(Transition.stop)
        self.worker.send_now(Kind.cancel, Cancel(self._statement))
        self._killer = asyncio.get_running_loop().call_later(self._grace_s, self.worker.kill, "cancelled")
        if not self._reading:
            self._start_drain()

    async def ended(self) -> None:
        """Wait until a stopped statement has come to its end."""
        if self._drain is not None:
            await asyncio.shield(self._drain)

    async def _next(self) -> Message:
        while True:
            message = None
            with contextlib.suppress(OSError, ProtocolError):
                message = await self.worker.receive()
            if message is None:
                raise await self._death()
            self._has_begun = True
            if message.kind is Kind.failed:
                error = self._error or message.read(Failure).error()
                if type(error) is QueryError:  # a fault of this program, which the worker's log describes
                    _log.error("a statement failed in worker %d: %s", self.worker.pid, self.worker.log().strip())
                self._finish()
                raise error
            if message.kind is Kind.end:
                self._finish(is_warm=self._error is None)
                if self._error is not None:
                    raise self._error
                return message
            if self._error is None:
                return message

    def _start_drain(self) -> None:
        if self._error is not None and self._drain is None and not self.is_over:
            self._drain = asyncio.create_task(self._drained())

    async def _drained(self) -> None:
        """Read the remaining messages and drop them, so that the worker can finish."""
        try:
            await self._next()
        except (QueryError, NeverStarted):
            return

    async def _death(self) -> Exception:
        """Find out what ended the worker."""
        try:
            async with asyncio.timeout(_EXIT_S):
                await asyncio.shield(self.worker.exited)
        except TimeoutError:
            self.worker.kill("it closed its socket")
            await asyncio.shield(self.worker.exited)
        if self.is_over:  # `begin` has met the closed socket first, and the files of the worker are closed
            return self._error or NeverStarted()
        phase = self.worker.phase
        cause = self._error or (self._cause(phase) if phase.is_statement or self._has_begun else NeverStarted())
        self._finish()
        return cause

    def _cause(self, phase: Phase) -> QueryError:
        worker = self.worker
        if worker.ran_out_of_memory:
            return out_of_memory(self._limit_bytes)
        if worker.life.kill_reason == STOPPED:
            return WorkerDiedError(
                "the process that ran the statement was stopped (SIGSTOP), and was replaced: run the statement again"
            )
        return WorkerDiedError(
            f"the statement ended the process that ran it, while {phase.name} ({worker.life.exit_text}): "
            "simplify it; other queries are not affected"
        )

    def _finish(self, *, is_warm: bool = False) -> None:
        if not self.is_over:
            self.is_over = True
            if self._killer is not None:
                self._killer.cancel()
            self._give_back(self.worker, is_warm)
