"""The batches of a statement that an embedded connection sent to a Spark Connect server."""

import time
from collections.abc import Callable

from dagfusion_query.engine.engine import Prepared
from dagfusion_query.errors import RemoteEngineError, RemoteEngineUnavailableError
from dagfusion_query.spark.sent_statements import INTERRUPT_PAUSES_S
from dagfusion_query.spark.spark_batches import SparkBatches
from dagfusion_query.spark.spark_connect import SparkStatement


class EmbeddedBatches(SparkBatches):
    """Batches whose statement is interrupted on the server when it is cancelled, or fails here.

    Args:
        statement: The statement on the server.
        prepared: Its plan.
        pins: The versions in the names of its tables.
        check: Compares the objects of its tables with their events.
        interrupt: Interrupts it, and returns True if the server ran it.
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
        """Wait for the first batch, and return True if the server refused the statement or failed before it."""
        self.wait(None)
        [first] = self._next
        return isinstance(first, RemoteEngineError) and not isinstance(first, RemoteEngineUnavailableError)

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread."""
        self._reader.join(timeout_s)

    def _receive(self) -> None:
        super()._receive()
        if self._is_whole:
            return
        for pause_s in INTERRUPT_PAUSES_S if self._is_cancelled.is_set() else (0.0,):
            time.sleep(pause_s)
            if self._interrupt():
                return
