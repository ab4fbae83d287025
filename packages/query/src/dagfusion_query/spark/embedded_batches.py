"""The result batches of a statement that an embedded connection has sent to a Spark Connect server."""

import time
from collections.abc import Callable

from dagfusion_query.engine.engine import Prepared
from dagfusion_query.errors import RemoteEngineError, RemoteEngineUnavailableError
from dagfusion_query.spark.sent_statements import INTERRUPT_PAUSES_S
from dagfusion_query.spark.spark_batches import SparkBatches
from dagfusion_query.spark.spark_connect import SparkStatement


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
