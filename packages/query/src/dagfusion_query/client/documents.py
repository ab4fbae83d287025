"""The service's documents as what the embedded engine answers. Pure."""

from dagfusion_query.answers import QueryStats, TableInfo
from dagfusion_query.documents.catalog import TableDocument
from dagfusion_query.documents.queries import Stats


def table_info(table: TableDocument) -> TableInfo:
    """Return what a service tells of a table in full."""
    problem = table.problem
    return TableInfo(
        name=f"{table.schema}.{table.name}",
        asset_key=tuple(table.asset_key),
        partition_columns=tuple(table.partition_columns),
        columns={column.name: column.type for column in table.columns},
        partitions=table.partitions,
        rows=table.rows,
        bytes=table.bytes,
        materialized_at=table.materialized_at,
        problem=None if problem is None else problem.detail,
        warnings=tuple(table.warnings),
        problem_code=None if problem is None else problem.code,
        files=table.files,
        required=tuple(column.name for column in table.columns if not column.nullable),
    )


def query_stats(stats: Stats, rows: int, seconds: float) -> QueryStats:
    """Return what a service tells of a query's cost.

    Args:
        stats: The service's.
        rows: Returned to the client so far.
        seconds: From the statement to the last batch so far.
    """
    return QueryStats(
        files_total=stats.files_total,
        files_read=stats.files_read,
        files_skipped=stats.files_skipped,
        bytes_read=stats.bytes_read,
        rows=rows,
        seconds=seconds,
        generation=max(stats.generations.values(), default=0),
        requests=stats.requests,
        path=stats.path,
    )
