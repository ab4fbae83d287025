"""DuckDB as the peer that answers are compared with."""

import duckdb


def duckdb_peer() -> duckdb.DuckDBPyConnection:
    """Return a connection that answers joins right: DuckDB 1.5.5 filters an input below its LIMIT, in some runs."""
    connection = duckdb.connect()
    connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")
    return connection
