"""SQL over what Dagster materialized: the event log is the catalog, DataFusion reads exactly the files of a query."""

from dagfusion_query.connection import Connection, TableInfo, connect
from dagfusion_query.errors import QueryError
from dagfusion_query.explain import Explanation
from dagfusion_query.result import QueryStats, Result

__all__ = ["Connection", "Explanation", "QueryError", "QueryStats", "Result", "TableInfo", "connect"]
