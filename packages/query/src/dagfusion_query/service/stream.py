"""A result on its way to a client."""

from collections.abc import AsyncIterator

import pyarrow as pa

from dagfusion_query.documents.queries import Stats
from dagfusion_query.errors import QueryCancelledError
from dagfusion_query.service.running import Answer, Running


class ResultStream:
    """The encoded bytes of a result, as they come from the worker. Iterate once, then `close`.

    Attributes:
        id: The query's.
        schema: The result's columns.
    """

    def __init__(self, running: Running, answer: Answer) -> None:
        self._running = running
        self._first = answer.chunk
        self.id = running.id
        self.schema: pa.Schema = answer.schema

    @property
    def is_complete(self) -> bool:
        """Whether the worker has sent everything, so that the stats are final; what came is still to be taken."""
        return self._running.is_over

    @property
    def stats(self) -> Stats:
        """What the query has cost so far; in all, once its last bytes were taken."""
        return self._running.stats

    async def __aiter__(self) -> AsyncIterator[memoryview | bytes]:
        """Yield the bytes; in the Arrow format each piece is whole messages.

        Raises:
            QueryError: The query fails on the way. What was taken is no whole result then.
        """
        try:
            chunk, self._first = self._first, None
            while chunk is not None or (chunk := await self._running.next()) is not None:
                yield chunk
                chunk = None
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel what is not finished. May be called often."""
        self._first = None
        self._running.stop(QueryCancelledError("the client left before the end of the result"))
