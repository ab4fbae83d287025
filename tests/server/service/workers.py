"""A pool of worker processes without a service around it, short ways to use it, and a process that tests write."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa

from dagfusion_query.settings import Settings
from dagfusion_server.service.worker_handle import Handle
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Configuration, Kind, Message, Phase, ProtocolError, Statement

MEMORY = 1 << 30
CONFIGURATION = Configuration(memory_bytes=MEMORY, settings={"local": Settings()}, environments={}, folders=[])
ENDLESS = "SELECT sum(x * y) FROM generate_series(1, 10000000) a(x) CROSS JOIN generate_series(1, 1000000) b(y)"
ENDLESS_ROWS = "SELECT x, y FROM generate_series(1, 10000000) a(x) CROSS JOIN generate_series(1, 100000) b(y)"


def statement(sql: str) -> Statement:
    return Statement(id="1", sql=sql, limit_rows=10**9, limit_bytes=10**12, environments={}, grants=["*"])


@asynccontextmanager
async def pool(limit_bytes: int = MEMORY, grace_s: float = 0.3) -> AsyncIterator[Pool]:
    made = Pool(1, lambda: CONFIGURATION, limit_bytes, grace_s)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def run(test: Callable[[Pool], Coroutine[Any, Any, None]], grace_s: float = 0.3) -> None:
    async def within() -> None:
        async with asyncio.timeout(180), pool(grace_s=grace_s) as made:
            await test(made)

    asyncio.run(within())


async def begin(workers: Pool, sql: str) -> Handle:
    worker = await workers.lease()
    await worker.begin(statement(sql), b"")
    return worker


async def rows(workers: Pool, sql: str = "SELECT 1 AS a") -> int:
    worker, received = await begin(workers, sql), b""
    async for message in messages(worker):
        received += bytes(message.body) if message.kind is Kind.data else b""
    count: int = pa.ipc.open_stream(received).read_all().num_rows
    return count


async def messages(worker: Handle) -> AsyncIterator[Message]:
    """Yield the messages of the statement that a worker runs, to its end."""
    kind = None
    while kind is not Kind.end:
        message = await worker.next()
        kind = message.kind
        yield message


async def rest(worker: Handle) -> None:
    async for _ in messages(worker):
        pass


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # of any kind
        await asyncio.sleep(0.01)


class FakeProcess:
    """A process that sends what a test lets it send."""

    is_ready = False  # as soon as it has started

    def __init__(self, ended: Callable[[int], None], _secrets: object) -> None:
        self._ended, self._queue = ended, asyncio.Queue[Message | None]()
        self.pid, self.phase, self.lacks_memory = os.getpid(), Phase.idle, False
        self.exited = asyncio.get_running_loop().create_future()
        self.told: list[Kind] = []
        self.is_closed = self.is_malformed = False
        if self.is_ready:
            self.say(Message(Kind.ready))

    def say(self, *messages: Message | None) -> None:
        for message in messages:
            self._queue.put_nowait(message)

    async def send(self, kind: Kind, *_: object) -> None:
        if self.is_closed:
            raise BrokenPipeError
        self.told.append(kind)

    def send_now(self, kind: Kind, _: object) -> None:
        self.told.append(kind)

    async def receive(self) -> Message | None:
        if self.is_malformed:
            raise ProtocolError
        return await self._queue.get()

    def receive_now(self, kind: Kind) -> Message | None:
        waiting = self._queue._queue  # type: ignore[attr-defined]
        return self._queue.get_nowait() if waiting and waiting[0].kind is kind else None

    def kill(self) -> None:
        self.exit(-signal.SIGKILL)

    def exit(self, code: int) -> None:
        if not self.exited.done():
            self._ended(code)
            self.exited.set_result(code)
            self.say(None)

    def log(self) -> str:
        return ""

    def close(self) -> None:
        self.is_closed = True
