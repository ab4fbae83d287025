"""A result on its way to a client: the service's chunks as they are, for as long as somebody takes them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive, Scope, Send

from dagfusion_query.documents.codec import encode
from dagfusion_query.documents.queries import Stats
from dagfusion_query.doors.http.negotiate import Zstd
from dagfusion_query.doors.http.problems import problem
from dagfusion_query.errors import QueryError
from dagfusion_query.service.running import Running

_log = logging.getLogger(__name__)

AHEAD_S = 0.01  # so long the first chunk waits for the news that it was the last
Chunk = memoryview | bytes


async def departure(receive: Receive) -> None:
    """Return when the client has left. The request's body must have been taken before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Relay:
    """The answer that carries a result. An ASGI application.

    A result that breaks after its first chunk lacks the end of its chunked encoding, so that nobody takes it for whole.

    Args:
        stream: The result; closed when the answer is over, however it ends.
        leaving: Ends when the client leaves.
        content_type: What the client is told that the bytes are.
        stall_s: Seconds that the client may take nothing.
        zstd: Whether to compress.
    """

    def __init__(
        self,
        stream: Running,
        leaving: asyncio.Task[None],
        *,
        content_type: str,
        stall_s: float,
        zstd: bool = False,
    ) -> None:
        self._stream, self._leaving = stream, leaving
        self._content_type, self._stall_s = content_type, stall_s
        self._zstd = Zstd() if zstd else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the result until it or the client is gone."""
        abort: Callable[[], None] | None = scope.get("state", {}).get("abort")
        sending = asyncio.create_task(self._send(scope, receive, send))
        try:
            await asyncio.wait({sending, self._leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        except TimeoutError:
            _log.info("query %s: its client took nothing for %g s", self._stream.id, self._stall_s)
            if abort is not None:
                abort()
        finally:
            sending.cancel()
            self._leaving.cancel()
            await asyncio.gather(sending, self._leaving, return_exceptions=True)
            await self._stream.close()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        chunks = aiter(self._stream)
        try:
            first = await _next(chunks)
            ahead = asyncio.create_task(_next(chunks))
            try:
                await asyncio.wait({ahead}, timeout=AHEAD_S)
                if ahead.done() and ahead.result() is None:
                    await self._send_whole(first, send)
                    return
            except BaseException:
                _forget(ahead)
                raise
        except QueryError as error:
            await problem(error, self._stream.id)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._headers()})
        try:
            await self._send_chunk(first, send)
            while (chunk := await ahead) is not None:
                await self._send_chunk(chunk, send)
                ahead = asyncio.ensure_future(_next(chunks))
        except QueryError as error:  # the client sees that there is no end, and asks for the query's error
            _log.info("query %s broke on its way: %s", self._stream.id, error.code)
            return
        finally:
            _forget(ahead)
        await send({"type": "http.response.body", "body": self._zstd.finish() if self._zstd else b""})

    async def _send_whole(self, only: Chunk | None, send: Send) -> None:
        """Send a result that is there already, with what it cost."""
        body = b"" if only is None else only
        if self._zstd:
            body = self._zstd.add(body) + self._zstd.finish()
        headers = [*self._headers(), _stats(self._stream.stats), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _send_chunk(self, chunk: Chunk | None, send: Send) -> None:
        body = chunk
        if self._zstd and body is not None:
            body = await asyncio.to_thread(self._zstd.add, body)
        if body:
            async with asyncio.timeout(self._stall_s):
                await send({"type": "http.response.body", "body": body, "more_body": True})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"content-type", self._content_type.encode()),
            (b"dagfusion-query-id", self._stream.id.encode()),
            (b"vary", b"Accept, Accept-Encoding"),
        ]
        return [*headers, (b"content-encoding", b"zstd")] if self._zstd else headers


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)


def _forget(task: "asyncio.Future[Chunk | None]") -> None:
    """Give a piece up that nobody takes any more, whatever has come of it."""
    task.cancel()
    task.add_done_callback(lambda over: over.cancelled() or over.exception())


def _stats(stats: Stats) -> tuple[bytes, bytes]:
    """Return the header `DagFusion-Stats`; the scans, of which there may be many, are left to `/v1/queries/{id}`."""
    return b"dagfusion-stats", encode(stats.short())
