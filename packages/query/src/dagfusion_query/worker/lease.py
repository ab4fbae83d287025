"""Service: one statement on one worker, from its start to its end, whatever ends it."""

import asyncio
import contextlib
import logging
import signal

from dagfusion_query.documents.failures import Failure
from dagfusion_query.errors import QueryError, WorkerDiedError
from dagfusion_query.worker.frames import Cancel, Frame, Kind, Phase, ProtocolError, Statement
from dagfusion_query.worker.handle import STOPPED, Handle, Transition, WorkerState
from dagfusion_query.worker.limits import out_of_memory
from dagfusion_query.worker.pool import Pool

_log = logging.getLogger(__name__)

_EXIT_S = 1.0  # from the end of a socket to the end of its process


class NeverStarted(Exception):  # noqa: N818
    """The worker was dead before it took the statement; another one can have it."""


class Lease:
    """One statement on one worker.

    `next` may be cancelled, and `stop` called, at any time; the worker goes back to its pool by itself, as soon as it
    has come to its end, or is killed when that takes longer than the grace. `Lifecycle` has the worker's state; the
    lease changes it until it is over, and never after.

    Args:
        pool: Where the worker is from.
        handle: The worker.
        grace_s: Seconds that it has to yield after `stop`.
        limit_bytes: The memory it may have, for what is said when that is not enough.
    """

    def __init__(self, pool: Pool, handle: Handle, grace_s: float, limit_bytes: int) -> None:
        self._pool, self._handle = pool, handle
        self._grace_s, self._limit_bytes = grace_s, limit_bytes
        self._loop = asyncio.get_running_loop()
        self._statement = ""
        self._error: QueryError | None = None
        self._ahead: Frame | None = None  # was read, and not taken
        self._over = self._is_warm = self._has_begun = False
        self._reading = False
        self._drain: asyncio.Task[None] | None = None
        self._killer: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Whether the worker has come to its end with this statement."""
        return self._over

    async def begin(self, statement: Statement, body: bytes) -> None:
        """Give the worker the statement.

        Raises:
            NeverStarted: It is dead, and was before.
            QueryError: It was stopped already.
        """
        if self._error is not None:
            raise self._error
        self._statement = statement.id
        self._handle.life.move(Transition.send)
        try:
            await self._handle.send(Kind.statement, statement, body)
            self._handle.life.move(Transition.sent)
        except OSError:
            self._handle.kill()  # it has closed its socket, so it is about to exit by itself
            self._finish()
            raise self._error or NeverStarted from None
        except asyncio.CancelledError:
            self._handle.kill("cancelled")  # it may have got half of the frame
            self._finish()
            raise

    async def next(self) -> Frame:
        """Return the next frame: planned, data or end.

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

    def end(self) -> Frame | None:
        """Return the end, if the worker has come to it already."""
        if self._error is not None or self._over:
            return None
        if self._ahead is None:
            with contextlib.suppress(ProtocolError):  # `next` finds out that the worker is dead
                self._ahead = self._handle.peek()
        if self._ahead is None or self._ahead.kind is not Kind.end:
            return None
        self._is_warm = True
        self._finish()
        return self._ahead

    def stop(self, error: QueryError) -> None:
        """End the statement; who waits for a frame gets this error."""
        if self._over or self._error is not None:
            return
        self._error = error
        if not self._statement:
            self._finish()
            return
        if self._handle.life.state is WorkerState.sending:
            self._handle.kill("cancelled")
        self._handle.life.move(Transition.stop)
        self._handle.send_now(Kind.cancel, Cancel(self._statement))
        self._killer = self._loop.call_later(self._grace_s, self._handle.kill, "cancelled")
        if not self._reading:
            self._start_drain()

    async def ended(self) -> None:
        """Wait until a stopped statement has come to its end."""
        if self._drain is not None:
            await asyncio.shield(self._drain)

    async def _next(self) -> Frame:
        while True:
            frame, self._ahead = self._ahead, None
            if frame is None:
                with contextlib.suppress(OSError, ProtocolError):
                    frame = await self._handle.receive()
            if frame is None:
                raise await self._death()
            self._has_begun = True
            if frame.kind is Kind.failed:
                error = self._error or frame.read(Failure).error()
                if type(error) is QueryError:  # a fault of this program, which the worker's log describes
                    _log.error("a statement failed in worker %d: %s", self._handle.pid, self._handle.log().strip())
                self._finish()
                raise error
            if frame.kind is Kind.end:
                self._is_warm = self._error is None
                self._finish()
                if self._error is not None:
                    raise self._error
                return frame
            if self._error is None:
                return frame

    def _start_drain(self) -> None:
        if self._error is not None and self._drain is None and not self._over:
            self._drain = asyncio.create_task(self._drained())

    async def _drained(self) -> None:
        """Read to the end what nobody wants, so that the worker gets there."""
        try:
            await self._next()
        except (QueryError, NeverStarted):
            return

    async def _death(self) -> Exception:
        """Find out what ended the worker."""
        try:
            async with asyncio.timeout(_EXIT_S):
                await asyncio.shield(self._handle.exited)
        except TimeoutError:
            self._handle.kill("it closed its socket")
            await asyncio.shield(self._handle.exited)
        if self._over:  # `begin` has met the closed socket first, and the files of the worker are closed
            return self._error or NeverStarted()
        phase = self._handle.phase
        cause = self._error or (self._cause(phase) if phase.is_statement or self._has_begun else NeverStarted())
        self._finish()
        return cause

    def _cause(self, phase: Phase) -> QueryError:
        handle = self._handle
        if handle.ran_out_of_memory:
            return out_of_memory(self._limit_bytes)
        if handle.life.kill_reason == STOPPED:
            return WorkerDiedError(
                "somebody stopped the process that ran the statement (SIGSTOP), and it was replaced: run it again"
            )
        code = handle.life.exit_code or 0
        how = f"exit code {code}" if code >= 0 else _signal(-code)
        return WorkerDiedError(
            f"the statement ended the process that ran it, while {phase.name} ({how}): "
            "simplify it; other queries are not affected"
        )

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            if self._killer is not None:
                self._killer.cancel()
            self._pool.give_back(self._handle, is_warm=self._is_warm)


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name}: {signal.strsignal(number)}"
