"""SQL over what Dagster materialized. The event log is the catalog, and a query reads exactly the files it needs."""

from typing import TYPE_CHECKING, Any

import dagfusion_client

if TYPE_CHECKING:
    from dagfusion_client import (
        Connection,
        Explanation,
        LeftOutWarning,
        QueryError,
        QueryStats,
        Result,
        TableDiff,
        TableGeneration,
        TableInfo,
    )
    from dagfusion_query.connector import connect

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


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `dagfusion --help` should not wait for DataFusion."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "connect":
        from dagfusion_query.connector import connect  # noqa: PLC0415  # see above

        return connect
    return getattr(dagfusion_client, name)


def __dir__() -> list[str]:
    """Return the public names, those that have not been imported yet included."""
    return __all__
