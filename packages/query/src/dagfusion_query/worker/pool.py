"""Service: its workers, as many as it may use at once, and a spare one that is ready when one of them dies."""

import asyncio
import logging
import signal
from collections import Counter, deque
from collections.abc import Callable, Collection

from dagfusion_query.engine.statement import is_full_disk, says_no_room
from dagfusion_query.errors import QueryError, ResourcesError, ServiceUnavailableError
from dagfusion_query.worker.frames import Configuration, Kind, Phase, ProtocolError
from dagfusion_query.worker.handle import STOPPED, TOO_MUCH_MEMORY, Handle, Transition, WorkerState, sweep
from dagfusion_query.worker.limits import EXIT_CODE, is_stopped, memory_bytes, no_room_to_start

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 30.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 10.0
_WATCH_S = 0.1
_CLOSE_S = 2.0


class Pool:
    """Worker processes, each of which runs one statement at a time. All on one event loop.

    Args:
        size: How many statements run at once; there is one process more.
        configure: What a worker is told before its first statement.
        limit_bytes: The memory that statements may add to what a worker has when it is ready.
        secrets: Values that no variable of a worker's may have.
    """

    def __init__(
        self,
        size: int,
        configure: Callable[[], Configuration],
        limit_bytes: int,
        secrets: Collection[str] = (),
    ) -> None:
        self._processes = size + 1
        self._configure, self._limit_bytes, self._secrets = configure, limit_bytes, secrets
        self._all: set[Handle] = set()
        # The one used last is at the end: its caches are the warmest. One that is killed stays until it has exited.
        self._idle: list[Handle] = []
        self._busy: set[Handle] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._problem: QueryError = ServiceUnavailableError("no worker is ready: none has started yet")
        self._closing = False
        self.restarts: Counter[str] = Counter()

    @property
    def live(self) -> int:
        """Workers that take statements, or run one."""
        return len(self._idle) + len(self._busy)

    @property
    def busy(self) -> int:
        """Workers that run a statement."""
        return len(self._busy)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that take statements, or run one."""
        return [handle.pid for handle in (*self._idle, *self._busy)]

    def problem(self) -> QueryError | None:
        """Return why no statement can run, if none can; for the operator."""
        return None if self.live else self._problem

    @property
    def _is_down(self) -> bool:
        """Whether workers have failed to start so often that statements do not wait for one."""
        return not self.live and self._failures > self._processes

    async def start(self) -> None:
        """Start the workers, and wait for the first.

        Raises:
            ServiceUnavailableError: None comes up.
        """
        await asyncio.to_thread(sweep)
        for _ in range(self._processes):
            self._spawn(0.0)
        self._keep(asyncio.create_task(self._watch()))
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
        while not self.live and not self._is_down:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        if (problem := self.problem()) is not None:
            await self.close()
            raise problem

    async def close(self) -> None:
        """End all workers."""
        self._closing = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(ServiceUnavailableError("the service is stopping"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        handles = list(self._all)
        for handle in handles:
            handle.kill("the service is stopping")
        if handles:
            await asyncio.wait([handle.exited for handle in handles], timeout=_CLOSE_S)
        for handle in handles:
            handle.close()

    async def lease(self) -> Handle:
        """Return a worker that is the caller's alone, as soon as there is one. To be given back.

        Raises:
            QueryError: No worker can be started, and why.
        """
        while True:
            if idle := [handle for handle in self._idle if handle.life.state is WorkerState.idle]:
                # One that rests would let the statement wait.
                rested = (handle for handle in reversed(idle) if handle.phase is not Phase.resting)
                handle = next(rested, idle[-1])
                handle.life.move(Transition.lease)
                self._idle.remove(handle)
                self._busy.add(handle)
                return handle
            if self._is_down:
                raise self._refusal()
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._wake()  # this turn is another's
                raise
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)

    def give_back(self, handle: Handle, *, is_warm: bool) -> None:
        """Return a worker whose statement is over.

        Args:
            handle: The worker.
            is_warm: Whether it comes first; one that was interrupted may have to come to rest.
        """
        state = handle.life.move(Transition.release)
        self._busy.discard(handle)
        if state is WorkerState.idle and not self._closing:
            self._idle.insert(len(self._idle) if is_warm else 0, handle)
            self._wake()
        elif handle.life.exit_code is not None:
            handle.close()

    def _wake(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def _spawn(self, delay_s: float) -> None:
        self._keep(asyncio.create_task(self._bring_up(delay_s)))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("a task of the workers' pool ended by a fault of this program", exc_info=fault)

    async def _bring_up(self, delay_s: float) -> None:
        """Start a worker and make it ready; `_ended` takes it from there when it does not come up."""
        await asyncio.sleep(delay_s)
        try:
            handle = Handle(self._ended, self._secrets)
        except OSError as error:
            self._failed(f"it cannot be started: {error}", is_no_room=is_full_disk(error))
            self._spawn(self._retry_s())
            return
        self._all.add(handle)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                if not await self._is_ready(handle):
                    await asyncio.shield(handle.exited)
                    return
        except TimeoutError:
            handle.kill("it did not come up")
            return
        except Exception:
            handle.kill("it could not be told its work")  # `_ended` starts another
            raise
        self._failures = 0
        handle.ready_bytes = memory_bytes(handle.pid)
        if handle.life.move(Transition.ready) is WorkerState.idle:
            self._idle.insert(0, handle)
            self._wake()

    async def _is_ready(self, handle: Handle) -> bool:
        """Configure a worker, and wait until it is ready; False when it ends instead."""
        try:
            await handle.send(Kind.configure, self._configure())
            frame = await handle.receive()
        except (OSError, ProtocolError):
            return False
        return frame is not None and frame.kind is Kind.ready

    def _failed(self, why: str, *, is_no_room: bool) -> None:
        """Note that a worker did not start; when none does, the statements that wait for one fail."""
        self._failures += 1
        unready = ServiceUnavailableError(f"no worker is ready: {why}; it is tried again")
        self._problem = no_room_to_start() if is_no_room else unready
        _log.error("a worker did not come up: %s", why)
        for waiting in self._waiting if self._is_down else ():
            if not waiting.done():
                waiting.set_exception(self._refusal())

    def _refusal(self) -> QueryError:
        """Return what a caller may know of the reason why no worker can be started."""
        if isinstance(self._problem, ResourcesError):
            return no_room_to_start()
        return ServiceUnavailableError("no worker can be started, and the service's log says why: try again later")

    def _retry_s(self) -> float:
        return min(_LAST_RETRY_S, _FIRST_RETRY_S * 2 ** min(self._failures, 10)) if self._failures else 0.0

    def _ended(self, handle: Handle) -> None:
        """Replace a worker that is no more."""
        self._all.discard(handle)
        if handle in self._idle:
            self._idle.remove(handle)
        said = handle.log().strip()
        reason = _reason(handle)
        if handle.life.state is WorkerState.gone:
            handle.close()
        if self._closing:
            return
        how = handle.life.kill_reason or _how(handle.life.exit_code)
        if handle.life.was_ready:
            self.restarts[reason] += 1
            _log.warning("worker %d has ended (%s) and is replaced: %s", handle.pid, how, said or "no output")
        else:
            self._failed(f"{how}: {said[-300:]}", is_no_room=says_no_room(said))
        self._spawn(self._retry_s())

    async def _watch(self) -> None:
        """Kill what is stopped or takes more memory than it may; replace what kept half of that after its statement."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for handle in tuple(self._all):
                if is_stopped(handle.pid):
                    handle.kill(STOPPED)
            for handle in self._busy:
                if _grown_bytes(handle) > self._limit_bytes:
                    handle.kill(TOO_MUCH_MEMORY)
            for handle in tuple(self._idle):
                handle.trim_log()
                if _grown_bytes(handle) > self._limit_bytes // 2:
                    self._idle.remove(handle)
                    handle.kill("bloat")


def _grown_bytes(handle: Handle) -> int:
    """Return the memory that statements have added."""
    return memory_bytes(handle.pid) - handle.ready_bytes


def _reason(handle: Handle) -> str:
    if handle.ran_out_of_memory:
        return TOO_MUCH_MEMORY
    return "did not yield" if handle.life.exit_code == EXIT_CODE else handle.life.kill_reason or "died"


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
