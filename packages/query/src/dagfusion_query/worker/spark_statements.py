"""Worker process: the statements that the Spark Connect server runs, and which statements that may be."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from dagfusion_contract.naming import TableName
from dagfusion_query.engine.engine import Prepared
from dagfusion_query.engine.plan_execution import Batches
from dagfusion_query.engine_choice import EngineChoice
from dagfusion_query.errors import EngineChoiceError, InternalError
from dagfusion_query.spark.spark_sql import SparkNames, check_whole, named_tables, spark_statement
from dagfusion_query.worker.messages import SparkServer, Statement, decode_parameters


class SparkStatements:
    """Sends statements to the server.

    Args:
        server: The server; None if there is none.
        compare: Compares the objects of a statement's tables with their events; see `Engine.compare_objects`.
    """

    def __init__(self, server: SparkServer | None, compare: Callable[[Prepared], float]) -> None:
        self._server, self._compare = server, compare

    def run(self, statement: Statement, prepared: Prepared, body: memoryview | bytes) -> Batches:
        """Run a planned statement over the pinned versions of its tables.

        Args:
            statement: The statement.
            prepared: Its plan.
            body: Its parameters, as their message has them.

        Raises:
            EngineChoiceError: It cannot be sent there.
            MissingExtraError: The extra `spark` is not installed.
        """
        from dagfusion_query.spark.spark_batches import SparkBatches  # noqa: PLC0415  # an extra
        from dagfusion_query.spark.spark_connect import SparkSession, SparkStatement  # noqa: PLC0415  # likewise

        if self._server is None or statement.spark is None:
            raise InternalError("a statement for Spark came without its server or the versions of its tables")
        pins = {TableName(*name.split(".", 1)): pin for name, pin in statement.spark.pins.items()}
        names = SparkNames(self._server.catalog, pins, prepared.bound.session.views, _columns(prepared, pins))
        sql = spark_statement(statement.sql, decode_parameters(body) or {}, names)
        session = SparkSession(self._server.url, self._server.session)
        return SparkBatches(
            SparkStatement(session, statement.spark.operation, sql),
            prepared.schema,
            prepared.scans,
            [*pins.values()],
            lambda: self._compare(prepared),
        )

    def tables(self, statement: Statement, prepared: Prepared, body: memoryview | bytes) -> Sequence[str] | None:
        """Return the tables that a statement names, if it may run on the server; None if it may not.

        Args:
            statement: The statement.
            prepared: Its plan.
            body: Its parameters, as their message has them.

        Raises:
            EngineChoiceError: Spark was chosen, and it cannot be sent there.
        """
        if statement.engine is EngineChoice.local or self._server is None:
            return None
        if prepared.is_explain:
            return None  # its result is a plan that is there already
        views = prepared.bound.session.views
        try:
            check_whole(prepared.warnings)
            tables = named_tables(statement.sql, {**dict.fromkeys(prepared.bound.tables), **views})
            names = SparkNames(self._server.catalog, dict.fromkeys(tables, ""), views, _columns(prepared, tables))
            spark_statement(statement.sql, decode_parameters(body) or {}, names)
        except EngineChoiceError:
            if statement.engine is EngineChoice.spark:
                raise
            return None
        return sorted(map(str, tables))


def _columns(prepared: Prepared, names: Iterable[TableName]) -> Mapping[TableName, pa.Schema]:
    """Return the columns of tables that a statement reads."""
    tables = prepared.bound.snapshot.tables
    return {name: pa.schema([*tables[name].file_schema, *tables[name].partition_schema]) for name in names}
