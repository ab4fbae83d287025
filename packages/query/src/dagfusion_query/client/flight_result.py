"""A result as it comes over Flight, batch by batch."""

import threading
import time

import pyarrow as pa
from pyarrow import flight

from dagfusion_query.client.flight_calls import FAILURES, Calls
from dagfusion_query.client.remote import RemoteResult
from dagfusion_query.documents.queries import QueryInfo, Stats
from dagfusion_query.doors.flight import messages


class FlightResult(RemoteResult):
    """The result of a query at a service. Its first batch is on its way, or the query is at its end, when it is made.

    Args:
        calls: To the service.
        info: Where the rows are.
        started: When the statement was sent (`time.perf_counter`).

    Raises:
        QueryError: The rows are not there any more.
    """

    def __init__(self, calls: Calls, info: flight.FlightInfo, started: float) -> None:
        super().__init__(info.app_metadata.decode(), started)
        self._calls = calls
        self.schema: pa.Schema = info.schema
        self._cancelled = threading.Event()
        ticket = info.endpoints[0].ticket
        self._reader, self._call = calls.listened(lambda client, options: client.do_get(ticket, options))
        self._seconds = time.perf_counter() - started

    def cancel(self) -> None:
        """Give the query up, also while another thread takes its rows."""
        self._cancelled.set()
        self._end()

    def _ask_stats(self) -> Stats:
        return self._calls.document(QueryInfo, messages.QUERY, self.id.encode()).stats

    def _next(self) -> pa.RecordBatch | None:
        if self._cancelled.is_set():
            return None
        try:
            batch = self._reader.read_chunk().data
        except StopIteration:
            batch, self._is_over, self._final = None, True, self._call.stats
        except FAILURES as error:
            if self._cancelled.is_set():
                return None
            raise self._call.error(error, self._calls.shown) from error
        return batch

    def _end(self) -> None:
        """Cancel what is left of the stream."""
        with self._lock:
            is_over, self._is_over = self._is_over, True
        if not is_over:
            self._reader.cancel()
