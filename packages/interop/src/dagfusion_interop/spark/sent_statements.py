"""Sends planned statements to a Spark Connect server, and interrupts them."""

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from dagfusion_client.errors import RemoteEngineError
from dagfusion_client.parameters import Values
from dagfusion_contract.naming import TableName
from dagfusion_interop.spark import SparkServer
from dagfusion_interop.spark.spark_sql import SparkNames, check_whole, named_tables, spark_statement

if TYPE_CHECKING:
    from dagfusion_interop.spark.spark_connect import SparkStatement  # whose module loads grpc, which is optional
    from dagfusion_query.engine.engine import Prepared  # whose module loads DataFusion, which the service need not

_log = logging.getLogger(__name__)

INTERRUPT_PAUSES_S = (0.0, 1.0, 5.0, 30.0)  # before each interrupt of one statement


def sent_tables(server: SparkServer, sql: str, values: Values, prepared: "Prepared") -> set[TableName]:
    """Check that a statement can be sent, and return the tables that it names, itself or through views.

    Args:
        server: The server.
        sql: The statement.
        values: Its parameters.
        prepared: Its plan.

    Raises:
        EngineChoiceError: The statement cannot be sent.
    """
    views = prepared.bound.session.views
    check_whole(prepared.warnings)
    tables = named_tables(sql, {**dict.fromkeys(prepared.bound.tables), **views})
    spark_statement(
        sql, values, SparkNames(server.catalog, dict.fromkeys(tables, ""), views, _columns(prepared, tables))
    )
    return tables


def sent_statement(
    server: SparkServer,
    sql: str,
    values: Values,
    prepared: "Prepared",
    pins: Mapping[TableName, str],
    *,
    operation: str,
) -> "SparkStatement":
    """Return a statement over the pinned versions of its tables. It does not run yet.

    Args:
        server: The server.
        sql: The statement.
        values: Its parameters.
        prepared: Its plan.
        pins: The pinned versions of its tables.
        operation: The id of its execution, a UUID.

    Raises:
        EngineChoiceError: The statement cannot be sent.
        MissingExtraError: The extra `spark` is not installed.
    """
    names = SparkNames(server.catalog, pins, prepared.bound.session.views, _columns(prepared, pins))
    return _statement(server, operation, spark_statement(sql, values, names))


def interrupted(server: SparkServer, operation: str) -> bool:
    """Interrupt a statement. Return True if the server was running it.

    Sail ignores the request while it plans the statement, and then runs the statement. So the caller repeats the
    request until it returns True.
    """
    statement = _statement(server, operation, "")
    try:
        return statement.interrupt()
    except RemoteEngineError as error:
        _log.warning("the operation %s was not interrupted on the Spark engine: %s", operation, error)
        return False
    finally:
        statement.close()


def _statement(server: SparkServer, operation: str, sql: str) -> "SparkStatement":
    from dagfusion_interop.spark.spark_connect import SparkSession, SparkStatement  # noqa: PLC0415  # an extra

    return SparkStatement(SparkSession(server.url, server.session), operation, sql)


def _columns(prepared: "Prepared", names: Iterable[TableName]) -> Mapping[TableName, pa.Schema]:
    """Return the columns of the tables with these names."""
    tables = prepared.bound.snapshot.tables
    return {name: pa.schema([*tables[name].file_schema, *tables[name].partition_schema]) for name in names}
