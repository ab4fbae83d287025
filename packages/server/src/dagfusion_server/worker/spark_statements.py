"""Worker process: the statements that the Spark Connect server runs, and which statements that may be."""

from collections.abc import Callable, Sequence

from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import EngineChoiceError, InternalError
from dagfusion_client.parameters import Values
from dagfusion_contract.naming import TableName
from dagfusion_interop.spark import SparkServer
from dagfusion_interop.spark.sent_statements import sent_statement, sent_tables
from dagfusion_query.engine.engine import Prepared
from dagfusion_query.engine.plan_execution import Batches
from dagfusion_server.worker.messages import Statement


class SparkStatements:
    """Sends statements to the server.

    Args:
        server: The server; None if there is none.
        compare: Compares the objects of a statement's tables with their events; see `Engine.compare_objects`.
    """

    def __init__(self, server: SparkServer | None, compare: Callable[[Prepared], float]) -> None:
        self._server, self._compare = server, compare

    def run(self, statement: Statement, prepared: Prepared, values: Values) -> Batches:
        """Run a planned statement over the pinned versions of its tables.

        Args:
            statement: The statement.
            prepared: Its plan.
            values: Its parameters.

        Raises:
            EngineChoiceError: It cannot be sent there.
            MissingExtraError: The extra `spark` is not installed.
        """
        from dagfusion_interop.spark.spark_batches import SparkBatches  # noqa: PLC0415  # an extra

        if self._server is None or statement.spark is None:
            raise InternalError("a statement for Spark came without its server or the versions of its tables")
        pins = {TableName(*name.split(".", 1)): pin for name, pin in statement.spark.pins.items()}
        operation = statement.spark.operation
        sent = sent_statement(self._server, statement.sql, values, prepared, pins, operation=operation)
        return SparkBatches(sent, prepared.schema, prepared.scans, [*pins.values()], lambda: self._compare(prepared))

    def tables(self, statement: Statement, prepared: Prepared, values: Values) -> Sequence[str] | None:
        """Return the tables that a statement names, if it may run on the server; None if it may not.

        Args:
            statement: The statement.
            prepared: Its plan.
            values: Its parameters.

        Raises:
            EngineChoiceError: Spark was chosen, and it cannot be sent there.
        """
        if statement.engine is EngineChoice.local or self._server is None:
            return None
        if prepared.is_explain:
            return None  # its result is a plan that is there already
        try:
            return sorted(map(str, sent_tables(self._server, statement.sql, values, prepared)))
        except EngineChoiceError:
            if statement.engine is EngineChoice.spark:
                raise
            return None
