"""A pool of worker processes without a service around it, and short ways to use it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa

from dagfusion_query.service.worker_handle import Handle
from dagfusion_query.service.worker_pool import Pool
from dagfusion_query.settings import Settings
from dagfusion_query.worker.messages import Configuration, Kind, Message, Statement

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
