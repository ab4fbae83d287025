"""Clients of the query service, and what they share with the embedded engine: results, errors and parameters."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagfusion_client.abstract_connection import Connection, LeftOutWarning, Result
    from dagfusion_client.connector import connect
    from dagfusion_client.errors import QueryError
    from dagfusion_client.returned_values import Explanation, QueryStats, TableDiff, TableGeneration, TableInfo

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
    "connect": "connector",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, those that have not been imported yet included."""
    return __all__
