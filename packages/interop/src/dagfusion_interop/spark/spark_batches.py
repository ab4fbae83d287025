"""The result batches of a statement on a Spark Connect server, with the columns of the statement's plan."""

import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.types as pt

from dagfusion_client.errors import (
    QueryCancelledError,
    QueryError,
    RemoteEngineError,
    RemoteEngineUnavailableError,
    StoreUnavailableError,
)
from dagfusion_interop.spark import SPARK
from dagfusion_interop.spark.refused_columns import UTC_ZONES
from dagfusion_interop.spark.sent_statements import INTERRUPT_PAUSES_S
from dagfusion_interop.spark.spark_connect import SparkStatement
from dagfusion_interop.spark.spark_sql import without_pins
from dagfusion_query.engine.engine import Prepared
from dagfusion_query.object_cache.copies import CopyUse, TableFetch
from dagfusion_query.scan.table_scan import Scan

_AHEAD = 4  # received batches that wait for the caller
_LOOK_S = 0.1
_MOST_DIGITS = 38
_PLAIN = re.compile(r"[^\W\d]\w*")
_FAMILIES: Sequence[tuple[str, Callable[[pa.DataType], bool]]] = (
    ("integer", pt.is_integer),
    ("double", pt.is_floating),
    ("decimal", pt.is_decimal),
    ("text", lambda kind: pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)),
    ("binary", lambda kind: pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind)),
    ("date", pt.is_date),
    ("timestamp", lambda kind: pt.is_timestamp(kind) and (kind.tz is None or kind.tz in UTC_ZONES)),
)
_EXACT = {("integer", "double"), ("integer", "decimal")}  # a cast of the first to the second fails if it loses anything


class SparkBatches:
    """The batches. A thread receives them.

    Args:
        statement: The statement on the server.
        schema: The columns of its plan.
        scans: The scans of its plan.
        pins: The pinned versions of its tables.
        check: Compares the objects of its tables with their events, and returns the time of the requests in seconds.
    """

    path: str | None = SPARK
    fetches: Sequence[TableFetch] = ()
    copies = CopyUse()

    def __init__(
        self,
        statement: SparkStatement,
        schema: pa.Schema,
        scans: Sequence[Scan],
        pins: Sequence[str],
        check: Callable[[], float],
    ) -> None:
        self._statement, self._schema, self._pins, self._check = statement, schema, pins, check
        self.files_read, self.bytes_read = sum(scan.count for scan in scans), sum(scan.bytes for scan in scans)
        self.requests_s = 0.0
        self._received: queue.Queue[pa.RecordBatch | QueryError | None] = queue.Queue(_AHEAD)
        self._next: list[pa.RecordBatch | QueryError | None] = []  # at most one, which was received and not returned
        self._is_cancelled = threading.Event()
        self._is_whole = False
        self._reader = threading.Thread(target=self._receive, name="dagfusion-spark", daemon=True)
        self._reader.start()

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end.

        Raises:
            RemoteEngineError: The server failed, or its result does not have the columns of the plan.
            StaleObjectError: An object was deleted or replaced since its event.
        """
        self.wait(None)
        received = self._next[0]
        if isinstance(received, QueryError):
            raise received
        if received is not None:
            self._next.clear()
        return received

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until `next` would return at once. Return False if it would not after `timeout_s` seconds.

        Args:
            timeout_s: The longest wait, in seconds; None for no limit.
        """
        if not self._next:
            try:
                self._next.append(self._received.get(timeout_s is None or timeout_s > 0, timeout_s))
            except queue.Empty:
                return False
        return True

    def check(self) -> None:
        """Compare the objects of the tables with their events, for a caller that stops before the last batch."""
        self.requests_s += self._check()

    def cancel(self) -> None:
        """Stop receiving batches. May be called on any thread. The service interrupts the statement on the server."""
        if self._is_cancelled.is_set() or not self._reader.is_alive():
            return
        self._is_cancelled.set()
        self._statement.cancel()

    def _receive(self) -> None:
        try:
            self._put(self._outcome())
        finally:
            self._statement.close()

    def _outcome(self) -> QueryError | None:
        """Put all batches into the queue. Return what the caller gets after them: None for the end, or an error."""
        try:
            try:
                self._hand_over()
            except RemoteEngineError as error:
                return self._reason(error)
        except QueryError as error:
            return error
        except BaseException as error:  # noqa: BLE001  # the caller waits for a batch or an error
            return RemoteEngineError(f"{self._statement.server} cannot be read: {error!r}")
        return None

    def _hand_over(self) -> None:
        last = None
        for batch in self._statement.batches():
            if last is not None:
                self._put(last)
            last = conformed(batch, self._schema, self._statement.server)
        self.check()  # before the last batch, so that a wrong result is never complete
        self._is_whole = True
        if last is not None:
            self._put(last)

    def _reason(self, error: RemoteEngineError) -> QueryError:
        """Return the error of an object that was deleted or replaced, if there is one; else the server's error."""
        is_lost = isinstance(error, RemoteEngineUnavailableError)
        if not (is_lost or self._statement.is_unread or self._is_cancelled.is_set()):
            try:
                self.check()
            except StoreUnavailableError:
                pass  # the server's error says more
            except QueryError as stale:
                return stale
        return type(error)(without_pins(str(error), self._pins))

    def _put(self, received: pa.RecordBatch | QueryError | None) -> None:
        """Put something into the queue. If the statement is cancelled, put an error for a caller that waits."""
        if self._is_cancelled.is_set():
            received = QueryCancelledError("the query was cancelled")
        while True:
            with suppress(queue.Full):
                self._received.put(received, timeout=_LOOK_S)
                return
            if self._is_cancelled.is_set():
                return  # the queue is full, so the caller does not wait


def conformed(batch: pa.RecordBatch, schema: pa.Schema, server: str) -> pa.RecordBatch:
    """Return a batch with the columns of the statement's plan.

    Args:
        batch: The batch as the server sent it.
        schema: The columns of the plan.
        server: The server's name in errors.

    Raises:
        RemoteEngineError: The batch has other columns, or values that do not fit the types of the plan.
    """
    if batch.num_columns != len(schema):
        raise RemoteEngineError(
            f"{server} returned {batch.num_columns} columns, but the statement has {len(schema)}: Iceberg does not "
            "have the type of a column; name the columns"
        )
    for there, here in zip(batch.schema.names, schema.names, strict=True):
        is_plain = _PLAIN.fullmatch(there) and _PLAIN.fullmatch(
            here
        )  # others are expressions, as each engine writes them
        if is_plain and there.casefold() != here.casefold():
            raise RemoteEngineError(f"{server} returned column {there} in place of {here}: name the columns with AS")
    columns = [_column(values, field, server) for values, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: pa.Array, field: pa.Field, server: str) -> pa.Array:
    here, there = _family(field.type), _family(values.type)
    if here != there and (there, here) not in _EXACT and not pt.is_null(values.type):
        raise RemoteEngineError(
            f"{server} returned {there} in column {field.name}, which is {here} in DataFusion: change the statement"
        )
    if not field.nullable and values.null_count:
        raise RemoteEngineError(f"{server} returned NULL in column {field.name}, which has no NULL in DataFusion")
    try:
        if pt.is_timestamp(values.type) and values.type.tz is not None:
            values = values.cast(pa.timestamp(values.type.unit, "UTC")).cast(pa.timestamp(values.type.unit))
        if (there, here) == ("integer", "decimal"):
            values = values.cast(pa.decimal128(_MOST_DIGITS, field.type.scale))
        return values.cast(field.type)
    except pa.ArrowException as error:
        raise RemoteEngineError(
            f"{server} returned values in column {field.name} that {field.type} cannot have: {error}"
        ) from error


def _family(kind: pa.DataType) -> str:
    return next((family for family, is_in in _FAMILIES if is_in(kind)), str(kind))


class EmbeddedBatches(SparkBatches):
    """The batches. If the statement is cancelled, or the result fails, the statement is interrupted on the server.

    Args:
        statement: The statement on the server.
        prepared: Its plan.
        pins: The pinned versions of its tables.
        check: Compares the objects of its tables with their events.
        interrupt: Interrupts the statement, and returns True if the server was running it.
    """

    def __init__(
        self,
        statement: SparkStatement,
        prepared: Prepared,
        pins: list[str],
        check: Callable[[], float],
        interrupt: Callable[[], bool],
    ) -> None:
        self._interrupt = interrupt  # before the thread begins
        super().__init__(statement, prepared.schema, prepared.scans, pins, check)

    def is_refused(self) -> bool:
        """Wait for the first batch. Return True if the server refused the statement, or failed before this batch."""
        self.wait(None)
        [first] = self._next
        return isinstance(first, RemoteEngineError) and not isinstance(first, RemoteEngineUnavailableError)

    def join(self, timeout_s: float) -> None:
        """Wait until the receiving thread ends, at most `timeout_s` seconds."""
        self._reader.join(timeout_s)

    def _receive(self) -> None:
        super()._receive()
        if self._is_whole:
            return
        for pause_s in INTERRUPT_PAUSES_S if self._is_cancelled.is_set() else (0.0,):
            time.sleep(pause_s)
            if self._interrupt():
                return
