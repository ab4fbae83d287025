"""Endpoints of statements: run them and stream the result, explain, list and cancel them."""

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dagfusion_client.documents.codec import encode
from dagfusion_client.documents.query_documents import ExplainRequest, QueriesDocument, Stats
from dagfusion_client.errors import BadRequestError, QueryCancelledError, QueryError
from dagfusion_client.loopback import is_loopback
from dagfusion_query.service_settings import QUERIES, QUERIES_LIMIT, ServiceSettings
from dagfusion_server.doors.http.middleware import caller_of, client_of
from dagfusion_server.doors.http.requests_and_responses import (
    content_type,
    document,
    number,
    problem,
    read_query,
    takes,
)
from dagfusion_server.service.running_query import ActiveQuery
from dagfusion_server.service.service import Service

T = TypeVar("T")
_log = logging.getLogger(__name__)
LAST_CHUNK_WAIT_S = 0.01  # the first chunk waits this long, to be sent with its length if it is the last
ChunkBytes = memoryview | bytes


class StatementRoutes:
    """The endpoints that run and explain statements."""

    def __init__(self, service: Service, settings: ServiceSettings) -> None:
        self._service, self._settings = service, settings

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [
            Route("/v1/sql", self.run, methods=["POST"]),
            Route("/v1/explain", self.explain, methods=["POST"]),
        ]

    async def run(self, request: Request) -> ASGIApp:
        """Run a statement; its query is cancelled when the client leaves."""
        query = await read_query(request, self._settings)
        disconnect = asyncio.create_task(wait_for_disconnect(request.receive))
        try:
            stream = await run_while_connected(
                disconnect, self._service.run(query, caller_of(request)), ActiveQuery.close
            )
        except BaseException:
            disconnect.cancel()
            raise
        media_type = content_type(query.format, request.headers.get("accept", ""))
        zstd = not query.format.row.is_compressed and _wants_zstd(request)
        return ResultResponse(
            stream, disconnect, content_type=media_type, stall_s=self._settings.client_stall_s, zstd=zstd
        )

    async def explain(self, request: Request) -> Response:
        """Return the files that a statement would read, and why it skips the others."""
        query = await read_query(request, self._settings, ExplainRequest)
        disconnect = asyncio.create_task(wait_for_disconnect(request.receive))
        try:
            return document(await run_while_connected(disconnect, self._service.explain(query, caller_of(request))))
        finally:
            disconnect.cancel()


async def run_while_connected(
    disconnect: asyncio.Task[None], work: Awaitable[T], undo: Callable[[T], Awaitable[None]] | None = None
) -> T:
    """Return the result of some work. If the client disconnects before, the work is cancelled.

    Args:
        disconnect: Ends when the client disconnects.
        work: What the client waits for.
        undo: Takes back the result if the client disconnects at the moment in which it comes.

    Raises:
        QueryCancelledError: The client has disconnected.
    """
    waiting = _Waiting()
    disconnect.add_done_callback(waiting.on_disconnect)
    try:
        result = await work
    except asyncio.CancelledError:
        waiting.end()
        raise
    finally:
        disconnect.remove_done_callback(waiting.on_disconnect)
        waiting.is_over = True
    if waiting.was_cancelled:  # and the work has ended nevertheless
        if undo is not None:
            await undo(result)
        waiting.end()
        raise asyncio.CancelledError
    return result


class _Waiting:
    """The current task while it waits for some work, which a disconnect of the client cancels."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be cancelled")
        self._task, self._before = task, task.cancelling()
        self._has_disconnected = self.is_over = False

    def on_disconnect(self, _: object) -> None:
        """Cancel the work, if the task still waits for it."""
        if not self.is_over:
            self._has_disconnected = True
            self._task.cancel()

    @property
    def was_cancelled(self) -> bool:
        """True if the work was to end early, for whatever reason."""
        return self._task.cancelling() > self._before

    def end(self) -> None:
        """Undo the cancellation if it was for the client's disconnect only.

        Raises:
            QueryCancelledError: It was.
        """
        if self._has_disconnected and self._task.uncancel() <= self._before:
            raise QueryCancelledError("the client disconnected while its statement was planned") from None


class QueryRoutes:
    """The endpoints of queries."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [
            Route("/v1/queries", self.list, methods=["GET"]),
            Route("/v1/queries/{id}", self.show, methods=["GET"]),
            Route("/v1/queries/{id}", self.cancel, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return the caller's queries that run, and a page of those that are over, the last ended first."""
        limit = number(request, "limit", QUERIES, QUERIES_LIMIT)
        before = request.query_params.get("before")
        ended = None if before is None else _moment(before)
        found = await self._service.recorded_queries(caller_of(request), limit, ended)
        return await asyncio.to_thread(document, QueriesDocument(found))  # it may have megabytes

    async def show(self, request: Request) -> Response:
        """Return what is known of one query, its error too."""
        return document(await self._service.recorded_query(request.path_params["id"], caller_of(request)))

    async def cancel(self, request: Request) -> Response:
        """End a query."""
        return document(self._service.cancel(request.path_params["id"], caller_of(request)))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequestError(f"before must be a time such as 2024-01-15T12:00:00Z, got {text[:100]!r}") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected. The request's body must have been taken before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class ResultResponse:
    """The response that carries a result. An ASGI application.

    A result that breaks after its first chunk has no final chunk, so that clients see that it is incomplete.

    Args:
        stream: The result; closed when the response is over, however it ends.
        disconnect: Ends when the client disconnects.
        content_type: The media type of the bytes.
        stall_s: Seconds that the client may take nothing.
        zstd: Whether to compress.
    """

    def __init__(
        self,
        stream: ActiveQuery,
        disconnect: asyncio.Task[None],
        *,
        content_type: str,
        stall_s: float,
        zstd: bool = False,
    ) -> None:
        self._stream, self._disconnect = stream, disconnect
        self._content_type, self._stall_s = content_type, stall_s
        self._zstd = Zstd() if zstd else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the result until it or the client is gone."""
        if self._stream.is_complete:  # nothing is waited for, so the client need not be watched
            self._disconnect.cancel()
            try:
                await self._send(scope, receive, send)
            finally:
                await self._stream.close()
            return
        abort: Callable[[], None] | None = scope.get("state", {}).get("abort")
        sending = asyncio.create_task(self._send(scope, receive, send))
        try:
            await asyncio.wait({sending, self._disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        except TimeoutError:
            log_fields = {"fields": {"query_id": self._stream.id}}
            _log.info("query %s: its client took nothing for %g s", self._stream.id, self._stall_s, extra=log_fields)
            if abort is not None:
                abort()
        finally:
            sending.cancel()
            self._disconnect.cancel()
            await asyncio.gather(sending, self._disconnect, return_exceptions=True)
            await self._stream.close()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        chunks = aiter(self._stream)
        try:
            first = await anext(chunks, None)
            if self._stream.is_complete and await anext(chunks, None) is None:  # else it was stopped, and this raises
                await self._send_whole(first, send)
                return
            next_chunk = asyncio.ensure_future(anext(chunks, None))
            try:
                await asyncio.wait({next_chunk}, timeout=LAST_CHUNK_WAIT_S)
                if next_chunk.done() and next_chunk.result() is None:
                    await self._send_whole(first, send)
                    return
            except BaseException:
                _forget(next_chunk)
                raise
        except QueryError as error:
            await problem(error, self._stream.id)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._headers()})
        try:
            await self._send_chunk(first, send)
            while (chunk := await next_chunk) is not None:
                await self._send_chunk(chunk, send)
                next_chunk = asyncio.ensure_future(anext(chunks, None))
        except QueryError as error:  # the client sees that there is no end, and asks for the query's error
            log_fields = {"fields": {"query_id": self._stream.id}}
            _log.info("query %s broke on its way: %s", self._stream.id, error.code, extra=log_fields)
            return
        finally:
            _forget(next_chunk)
        await send({"type": "http.response.body", "body": self._zstd.finish() if self._zstd else b""})

    async def _send_whole(self, only: ChunkBytes | None, send: Send) -> None:
        """Send a result that is there already, with what it cost."""
        body = b"" if only is None else only
        if self._zstd:
            body = self._zstd.add(body) + self._zstd.finish()
        headers = [*self._headers(), _stats(self._stream.stats), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _send_chunk(self, chunk: ChunkBytes | None, send: Send) -> None:
        body = chunk
        if self._zstd and body is not None:
            body = await asyncio.to_thread(self._zstd.add, body)
        if body:
            async with asyncio.timeout(self._stall_s):  # `ActiveQuery` times its client only until the query ends
                await send({"type": "http.response.body", "body": body, "more_body": True})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"content-type", self._content_type.encode()),
            (b"dagfusion-query-id", self._stream.id.encode()),
            (b"vary", b"Accept, Accept-Encoding"),
        ]
        if warnings := self._stream.stats.warnings:
            headers.append((b"dagfusion-warnings", encode(warnings)))
        return [*headers, (b"content-encoding", b"zstd")] if self._zstd else headers


class Zstd:
    """One zstd frame, given as it grows: what was added can be read at once."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._sink, mode="w"), "zstd")

    def add(self, chunk: bytes | memoryview) -> bytes:
        """Return what is to be sent for a chunk."""
        self._stream.write(chunk)
        self._stream.flush()
        return self._flushed()

    def finish(self) -> bytes:
        """Return the frame's end."""
        self._sink.close = lambda: None  # type: ignore[method-assign]  # Arrow closes it, and the end is still to be read
        self._stream.close()
        return self._flushed()

    def _flushed(self) -> bytes:
        content = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return content


def _wants_zstd(request: Request) -> bool:
    """Return True if the result is compressed: not on loopback, where compression takes longer than it saves."""
    return takes(request.headers.get("accept-encoding", ""), "zstd") and not is_loopback(client_of(request.scope))


def _forget(task: "asyncio.Future[ChunkBytes | None]") -> None:
    """Cancel the read of a chunk that is not needed, and ignore its error."""
    task.cancel()
    task.add_done_callback(lambda over: over.cancelled() or over.exception())


def _stats(stats: Stats) -> tuple[bytes, bytes]:
    """Return the header `DagFusion-Stats`; the scans, of which there may be many, are left to `/v1/queries/{id}`."""
    return b"dagfusion-stats", encode(stats.short())
