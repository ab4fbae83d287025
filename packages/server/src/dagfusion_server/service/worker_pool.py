"""The pool of worker processes, with a spare one that replaces a worker that died."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection

from dagfusion_client.errors import QueryError, ResourcesError, ServiceUnavailableError
from dagfusion_query.engine.datafusion_errors import is_full_disk, says_no_room
from dagfusion_server.service.worker_handle import STOPPED, TOO_MUCH_MEMORY, Handle
from dagfusion_server.service.worker_process import exit_text, remove_leftover_files
from dagfusion_server.worker.limits import is_stopped, no_room_to_start
from dagfusion_server.worker.messages import Configuration, Phase

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 30.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 10.0
_WATCH_S = 0.1
_CLOSE_S = 2.0


class Pool:
    """Worker processes, each of which runs one statement at a time. All on one event loop.

    Args:
        size: How many statements run at once; there is one process more.
        configure: Returns what a worker receives before its first statement.
        limit_bytes: The memory that statements may add to what a worker has when it is ready.
        grace_s: Seconds that a worker has to yield after its statement was stopped.
        secrets: Values that no variable of a worker's may have.
    """

    def __init__(
        self,
        size: int,
        configure: Callable[[], Configuration],
        limit_bytes: int,
        grace_s: float,
        secrets: Collection[str] = (),
    ) -> None:
        self._processes = size + 1
        self._configure, self._secrets = configure, secrets
        self._limit_bytes, self._grace_s = limit_bytes, grace_s
        self._workers: set[Handle] = set()  # in any state, until they have exited and are not leased
        self._ranks = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._spares: dict[Handle, QueryError] = {}  # what runs there is stopped with this when a statement waits
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._problem: QueryError = ServiceUnavailableError("no worker is ready: none has started yet")
        self._closing = False
        self.restarts: Counter[str] = Counter()

    @property
    def live(self) -> int:
        """Workers that take statements, or run one."""
        return len(self.pids)

    @property
    def busy(self) -> int:
        """Workers that run a statement."""
        return sum(worker.life.is_leased for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that take statements, or run one."""
        return [worker.process.pid for worker in self._workers if worker.life.is_idle or worker.life.is_leased]

    def problem(self) -> QueryError | None:
        """Return why no statement can run, if none can; for the operator."""
        return None if self.live else self._problem

    @property
    def _is_down(self) -> bool:
        """True if workers have failed to start so often that statements do not wait for one."""
        return not self.live and self._failures > self._processes

    async def start(self) -> None:
        """Start the workers, and wait for the first.

        Raises:
            ServiceUnavailableError: None comes up.
        """
        await asyncio.to_thread(remove_leftover_files)
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
        workers = self._running()
        for worker in workers:
            worker.kill("the service is stopping")
        if workers:
            await asyncio.wait([worker.process.exited for worker in workers], timeout=_CLOSE_S)
        for worker in workers:
            worker.process.close()

    def lease_idle(self) -> Handle | None:
        """Lease a worker if one is idle; as `lease`."""
        idle = [worker for worker in self._workers if worker.life.is_idle]
        if not idle:
            return None
        # One that rests would let the statement wait.
        worker = max(idle, key=lambda worker: (worker.process.phase is not Phase.resting, worker.rank))
        worker.lease()
        return worker

    def lease_spare(self, error: QueryError) -> Handle | None:
        """Lease the idle worker that a statement would get last, until a statement has to wait.

        Args:
            error: Stops what the worker runs then.

        Returns:
            None if no worker is idle, or a statement waits.
        """
        idle = [worker for worker in self._workers if worker.life.is_idle]
        if not idle or self._waiting:
            return None
        worker = min(idle, key=lambda worker: worker.rank)
        worker.lease()
        self._spares[worker] = error
        return worker

    async def lease(self) -> Handle:
        """Lease a worker, as soon as there is an idle one. Its statement is begun, or it is released.

        Raises:
            QueryError: No worker can be started, and why.
        """
        while True:
            if (worker := self.lease_idle()) is not None:
                return worker
            if self._is_down:
                raise self._refusal()
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            for spare, error in [*self._spares.items()]:
                spare.stop(error)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._wake()  # this turn is another's
                raise
            finally:
                self._waiting.remove(waiting)

    def _take_back(self, worker: Handle, is_warm: bool) -> None:  # noqa: FBT001  # called by the worker
        self._spares.pop(worker, None)
        self._offer(worker, is_warm=is_warm)
        self._forget(worker)

    def _offer(self, worker: Handle, *, is_warm: bool) -> None:
        """Offer a worker for lease: next, as its caches are the warmest, or last; unless it is dead."""
        if worker.life.is_idle:
            self._ranks += 1
            worker.rank = self._ranks if is_warm else -self._ranks
            self._wake()

    def _forget(self, worker: Handle) -> None:
        """Close a worker that is over, and only such a one."""
        if worker.life.is_over:
            self._workers.discard(worker)
            worker.process.close()

    def _running(self) -> list[Handle]:
        """Return the workers whose processes have not exited."""
        return [worker for worker in self._workers if worker.life.exit_code is None]

    def _wake(self) -> None:
        """Wake the first statement that waits. It counts as waiting until it has leased its worker."""
        for waiting in self._waiting:
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
        """Start a worker and make it ready. If it does not start, `_ended` is called."""
        await asyncio.sleep(delay_s)
        try:
            worker = Handle(self._take_back, self._ended, self._grace_s, self._limit_bytes, self._secrets)
        except OSError as error:
            self._failed(f"it cannot be started: {error}", is_no_room=is_full_disk(error))
            self._spawn(self._retry_s())
            return
        self._workers.add(worker)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                if not await worker.start(self._configure()):
                    await asyncio.shield(worker.process.exited)
                    return
        except TimeoutError:
            worker.kill("it did not start")
            return
        except Exception:
            worker.kill("it could not be configured")  # `_ended` starts another
            raise
        self._failures = 0
        self._offer(worker, is_warm=False)

    def _failed(self, why: str, *, is_no_room: bool) -> None:
        """Record that a worker did not start; if none does, the statements that wait for one fail."""
        self._failures += 1
        unready = ServiceUnavailableError(f"no worker is ready: {why}; the service retries automatically")
        self._problem = no_room_to_start() if is_no_room else unready
        _log.error("a worker did not start: %s", why)
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

    def _ended(self, worker: Handle) -> None:
        """Replace a worker that is no more."""
        log, reason = worker.process.log().strip(), worker.end_reason  # before its log is closed
        self._forget(worker)
        if self._closing:
            return
        how = worker.life.kill_reason or exit_text(worker.life.exit_code)
        if worker.life.was_ready:
            self.restarts[reason] += 1
            _log.warning("worker %d has ended (%s) and is replaced: %s", worker.process.pid, how, log or "no output")
        else:
            self._failed(f"{how}: {log[-300:]}", is_no_room=says_no_room(log))
        self._spawn(self._retry_s())

    async def _watch(self) -> None:
        """Kill what is stopped or takes more memory than it may; replace what kept half of that after its statement."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for worker in self._running():
                if is_stopped(worker.process.pid):
                    worker.kill(STOPPED)
                elif worker.life.is_leased and worker.grown_bytes > self._limit_bytes:
                    worker.kill(TOO_MUCH_MEMORY)
                elif worker.life.is_idle:
                    worker.process.trim_log()
                    if worker.grown_bytes > self._limit_bytes // 2:
                        worker.kill("bloat")
