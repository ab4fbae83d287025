"""SQL over what Dagster materialized. The event log is the catalog, and a query reads exactly the files it needs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagfusion_query.abstract_connection import Connection, LeftOutWarning, Result
    from dagfusion_query.client import connect
    from dagfusion_query.errors import QueryError
    from dagfusion_query.returned_values import Explanation, QueryStats, TableDiff, TableGeneration, TableInfo

__all__ = [
    "Connection",
    "Explanation",
    "LeftOutWarning",
    "QueryError",
    "QueryStats",
    "Result",
    "TableDiff",
    "TableGeneration",
    "TableInfo",
    "connect",
]

_HOMES = {
    "Connection": "abstract_connection",
    "Explanation": "returned_values",
    "LeftOutWarning": "abstract_connection",
    "QueryError": "errors",
    "QueryStats": "returned_values",
    "Result": "abstract_connection",
    "TableDiff": "returned_values",
    "TableGeneration": "returned_values",
    "TableInfo": "returned_values",
    "connect": "client",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `dagfusion --help` should not wait for DataFusion."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, those that have not been imported yet included."""
    return __all__
