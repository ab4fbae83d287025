"""The client over HTTP, with the same interface as the embedded connection. Results are Arrow streams."""

import http.client
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
import pyarrow as pa

from dagfusion_client.as_of import Given, read_as_of
from dagfusion_client.connection_pool import ConnectionPool, HttpResponse
from dagfusion_client.documents import codec
from dagfusion_client.documents.catalog_documents import GenerationsDocument, TablesDocument
from dagfusion_client.documents.query_documents import ExplainRequest, QueryInfo, SqlRequest, Stats
from dagfusion_client.engine_choice import read_engine
from dagfusion_client.errors import BrokenStreamError, QueryError, UnauthenticatedError
from dagfusion_client.formats import Format
from dagfusion_client.loopback import is_loopback
from dagfusion_client.parameters import Params, write_params
from dagfusion_client.remote import ALIGNED, RemoteConnection, RemoteResult
from dagfusion_client.returned_values import Explanation, TableDiff
from dagfusion_client.sql_text import check_text
from dagfusion_contract.naming import TableName

_SMALL_BYTES = 1 << 20  # of a response that is read at once
_BROKEN = (OSError, http.client.HTTPException, pa.ArrowException)


class HttpResult(RemoteResult):
    """The result of a query at a service. Its first batch is on its way, or the query is at its end, when it is made.

    Args:
        pool: For later requests: stats, and errors of a stream that broke.
        response: The response.
        started: When the statement was sent (`time.perf_counter`).
        over: Called when nothing more is read.

    Raises:
        QueryError: The response is no Arrow stream, or breaks at once.
    """

    def __init__(
        self, pool: ConnectionPool, response: HttpResponse, started: float, over: Callable[["HttpResult"], None]
    ) -> None:
        super().__init__(response.headers.get("DagFusion-Query-Id", ""), started)
        self._pool, self._response, self._over = pool, response, over
        self._cancelled = False
        try:
            response.require(Format.arrow.media_type)
            self._batches = self._read(self._open)
        except BaseException:
            self._end()
            raise
        self.schema: pa.Schema = self._batches.schema
        self._seconds = time.perf_counter() - started
        self._warn(orjson.loads(response.headers.get("DagFusion-Warnings", "[]")), 2)

    def cancel(self) -> None:
        """Cancel the query, also while another thread reads its rows."""
        self._cancelled = True
        self._response.cut()
        with self._taking:  # a preview that is reading ends first
            if not self._is_consumed:
                self._end()

    def _open(self) -> pa.RecordBatchReader:
        if not self._response.has_end:
            raise BrokenStreamError("the response has neither a length nor chunks: let proxies use HTTP/1.1")
        source, length = _Source(self._response), self._response.length
        if length is not None and length <= _SMALL_BYTES:
            read = pa.BufferReader(source.read_buffer(length))  # at once: Arrow reads a stream in about ten pieces
        else:
            read = pa.PythonFile(source, mode="r")
        zstd = self._response.headers.get("Content-Encoding") == "zstd"
        self._source = pa.CompressedInputStream(read, "zstd") if zstd else read
        return pa.ipc.open_stream(self._source, options=ALIGNED)

    def _request_stats(self) -> Stats:
        sent = self._response.headers.get("DagFusion-Stats")
        return self._request_info().stats if sent is None else codec.read(Stats, orjson.loads(sent))

    def _request_info(self) -> QueryInfo:
        return self._pool.document(QueryInfo, "GET", f"/v1/queries/{self.id}")

    def _next(self) -> pa.RecordBatch | None:
        return None if self._cancelled else self._read(self._read_batch)

    def _read_batch(self) -> pa.RecordBatch | None:
        try:
            return self._batches.read_next_batch()
        except StopIteration:
            if self._source.read(1):
                raise BrokenStreamError("the service sent more than its result") from None
            return None

    def _read(self, step: Callable[[], Any]) -> Any:
        """Do one step of reading, and find the cause if the stream breaks."""
        try:
            return step()
        except _BROKEN as error:
            if self._cancelled:
                return None
            raise self._why(error) from error

    def _why(self, broke: Exception) -> QueryError:
        broken = BrokenStreamError(
            f"the result of query {self.id} was cut off, and the service at {self._pool.shown} does not say "
            f"why ({broke}): run it again"
        )
        try:
            failure = self._request_info().error
        except UnauthenticatedError as error:
            return error
        except QueryError:
            return broken
        return broken if failure is None else failure.error()

    def _end(self) -> None:
        """Release the connection; if rows are left, this cancels the query."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
        self._response.close()
        self._over(self)


class HttpConnection(RemoteConnection):
    """SQL at a query service. Thread-safe; a context manager.

    Args:
        url: `http://host:port` or `https://host:port`.
        token: The access token; None where the service wants none.

    Raises:
        SettingsError: The URL or the token is malformed.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._pool = ConnectionPool(url, token)
        super().__init__(self._pool.shown)
        self._codings = {} if _is_near(url) else {"Accept-Encoding": "zstd"}

    def sql(
        self, query: str, params: Params = None, *, as_of: Given | None = None, engine: str | None = None
    ) -> HttpResult:
        """Run a query; see `Connection.sql`."""
        started, chosen = time.perf_counter(), None if engine is None else read_engine(engine)
        body = SqlRequest(**_statement(query, params, as_of), format=Format.arrow, engine=chosen)
        result = HttpResult(
            self._pool, self._pool.request("POST", "/v1/sql", body, self._codings), started, self._ended
        )
        self._opened(result)
        return result

    def explain(self, query: str, params: Params = None, *, as_of: Given | None = None) -> Explanation:
        """Return the files that a query would read, why it skips the others, and DataFusion's plans."""
        return self._pool.document(
            Explanation, "POST", "/v1/explain", ExplainRequest(**_statement(query, params, as_of))
        )

    def _catalog(self, tables: str) -> TablesDocument:
        return self._pool.document(TablesDocument, "GET", f"/v1/tables?tables={tables}")

    def _revisions(self, name: TableName, limit: int) -> GenerationsDocument:
        return self._pool.document(GenerationsDocument, "GET", f"{_path(name)}/generations?limit={limit}")

    def _diff(self, name: TableName, before: str, after: str | None) -> TableDiff:
        query = {"from": before} if after is None else {"from": before, "to": after}
        return self._pool.document(TableDiff, "GET", f"{_path(name)}/diff?{urlencode(query)}")

    def _disconnect(self) -> None:
        self._pool.close()


class _Source:
    """A response as the file that Arrow reads: straight into Arrow's own memory."""

    closed = False

    def __init__(self, response: HttpResponse) -> None:
        self._response = response

    def read(self, size: int) -> bytes:
        """Read so many bytes, or fewer at the end."""
        room = bytearray(size)
        count = self._fill(memoryview(room))
        return bytes(room) if count == size else bytes(room[:count])

    def read_buffer(self, size: int) -> pa.Buffer:
        """Read without a copy."""
        buffer = pa.allocate_buffer(size)
        count = self._fill(memoryview(buffer).cast("B"))
        return buffer if count == size else buffer.slice(0, count)

    def close(self) -> None:
        """Leave the response to its owner."""

    def _fill(self, room: memoryview) -> int:
        count = 0
        while count < len(room) and (got := self._response.read_into(room[count:])):
            count += got
        return count


def _statement(query: str, params: Params, as_of: Given | None) -> dict[str, Any]:
    """Return the fields that the bodies of all requests with a statement have."""
    check_text(query)  # before it is encoded, so that the error is the same as the service's
    return {
        "sql": query,
        "params": write_params(params),
        "as_of": None if as_of is None else str(read_as_of(as_of)),
    }


def _path(name: TableName) -> str:
    return f"/v1/tables/{quote(name.schema, safe='')}/{quote(name.table, safe='')}"


def _is_near(url: str) -> bool:
    """Return True if a service is on this machine, where compression takes longer than sending."""
    host = urlsplit(url).hostname
    return host == "localhost" or is_loopback(host)
