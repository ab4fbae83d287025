"""Converts tables of the catalog to documents, and their partitions to Arrow without a Python object for each."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.documents.catalog_documents import (
    BriefTableDocument,
    CatalogProblemDocument,
    ColumnDocument,
    EnvironmentDocument,
    HistoryDocument,
    PartitionDocument,
    RunDocument,
    TableDocument,
)
from dagfusion_client.errors import QueryError
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Table
from dagfusion_query.event_log.event_log_interface import History
from dagfusion_query.redact import without_files
from dagfusion_query.scan.large_objects import consolidation_gain
from dagfusion_server.environments import EnvironmentState

# The fields of each file's document, by the catalog's column.
_OWN = {{"bytes": "size_bytes"}.get(name, name): name for name in (known.name for known in fields(PartitionDocument))}
_STREAMED_ROWS = 1 << 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Totals:
    """A table's partitions in sum."""

    partitions: int
    files: int  # a folder that another IO manager wrote may hold several of one partition
    rows: int
    bytes: int
    materialized_at: datetime | None
    last_run_id: str | None


_totals: WeakKeyDictionary[Table, Totals] = WeakKeyDictionary()  # a table that did not change is the same object
_orders: WeakKeyDictionary[Table, pa.Array] = WeakKeyDictionary()


def totals(table: Table) -> Totals:
    """Sum a table's partitions up."""
    if (cached := _totals.get(table)) is None:
        files = table.files
        last = pc.max(files["materialized_at"])
        row = pc.index(files["materialized_at"], last).as_py() if last.is_valid else -1
        run_id = files["run_id"][row].as_py() if row >= 0 else None
        written = pc.count_distinct(files["event_id"]).as_py()
        cached = Totals(written, len(files), _sum(files["rows"]), _sum(files["size_bytes"]), last.as_py(), run_id)
        _totals[table] = cached
    return cached


def environment_document(state: EnvironmentState) -> EnvironmentDocument:
    """Describe an environment."""
    age_s = None if state.lag is None else round(state.lag.age_s, 3)
    return EnvironmentDocument(
        state.name, state.snapshot.generation, age_s, problem_document(state.current_problem), state.dagster_url
    )


def brief_document(environment: str, table: Table) -> BriefTableDocument:
    """Describe a table in a line of a list."""
    return BriefTableDocument(**_facts(environment, table), warnings=len(table.warnings))


def details_document(state: EnvironmentState, table: Table) -> TableDocument:
    """Describe a table in full."""
    published = table.view
    columns = [(field, False) for field in table.file_schema] + [(field, True) for field in table.partition_schema]
    return TableDocument(
        **_facts(state.name, table),
        columns=[ColumnDocument(f.name, str(f.type), f.nullable, partition) for f, partition in columns],
        files=totals(table).files,
        last_run_id=totals(table).last_run_id if published is None else published.run_id or None,
        dagster_url=asset_url(state.dagster_url, table.asset_key),
        warnings=[without_files(str(warning)) for warning in table.warnings],
        sql=None if published is None else published.view.sql,
        reads=() if published is None else [str(name) for name in published.view.tables],
        consolidated=consolidation_gain(table).consolidated,
        would_gain=consolidation_gain(table).would_gain,
    )


def nameless(environment: str, name: TableName, problem: QueryError) -> dict[str, Any]:
    """Return what is known of a name that no table could be given."""
    return {
        "environment": environment,
        "schema": name.schema,
        "name": name.table,
        "problem": problem_document(problem),
    }


def history_document(partition_key: str | None, history: History) -> HistoryDocument:
    """Describe what Dagster did about a table or a partition."""
    runs = [RunDocument(run.run_id, run.status, _moment(run.at_us)) for run in history.runs]
    return HistoryDocument(partition_key, runs, _moment(history.materialized_at_us), _moment(history.wiped_at_us))


def problem_document(problem: QueryError | None) -> CatalogProblemDocument | None:
    """Describe what is wrong with something."""
    return None if problem is None else CatalogProblemDocument(problem.code, without_files(str(problem)))


def asset_url(dagster_url: str | None, asset_key: tuple[str, ...]) -> str | None:
    """Return the link to an asset in Dagster's web interface."""
    if dagster_url is None:
        return None
    return f"{dagster_url.rstrip('/')}/assets/{'/'.join(quote(part, safe='') for part in asset_key)}"


def partitions(table: Table) -> pa.Table:
    """Return a row for each file, in catalog order: its partition's columns, then what is known of it."""
    files = table.files
    names = table.partition_schema.names
    columns = [pc.struct_field(files["partition"], [number]) for number in range(len(names))]
    columns += [files[column] for column in _OWN]
    return pa.Table.from_arrays(columns, names=[*names, *(_free(name, names) for name in _OWN.values())])


def page(table: Table, offset: int, limit: int) -> list[dict[str, Any]]:
    """Return some partitions in the order of their values."""
    rows = partitions(table)
    order = _orders.get(table)
    if order is None:
        keys = [*table.partition_schema.names, "partition_key"][:8]
        by = rows.select([n for n in rows.column_names if n in keys])
        # By numbers: Arrow takes a sort key that begins with a dot as a path.
        numbers = [str(number) for number in range(by.num_columns)]
        sort_keys = [(number, "ascending") for number in numbers]
        order = _orders[table] = pc.sort_indices(by.rename_columns(numbers), sort_keys=sort_keys)
    return list(rows.take(order.slice(offset, limit)).to_pylist())


def partition_stream(table: Table) -> Iterator[bytes]:
    """Yield all partitions as an Arrow IPC stream."""
    rows = partitions(table)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        for batch in rows.to_batches(max_chunksize=_STREAMED_ROWS):
            writer.write_batch(batch)
            yield _flushed(sink)
    yield _flushed(sink)


def _facts(environment: str, table: Table) -> dict[str, Any]:
    """Return what brief and full descriptions of a table have in common."""
    total = totals(table)
    return {
        "environment": environment,
        "schema": table.name.schema,
        "name": table.name.table,
        "asset_key": table.asset_key,
        "partition_columns": table.partition_schema.names,
        "partitions": total.partitions,
        "rows": total.rows,
        "bytes": total.bytes,
        "materialized_at": total.materialized_at if table.view is None else _moment(table.view.at_us),
        "kind": "table" if table.view is None else "view",
        "problem": problem_document(table.problem),
    }


def _flushed(sink: io.BytesIO) -> bytes:
    content = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return content


def _moment(at_us: int | None) -> datetime | None:
    return None if at_us is None else _EPOCH + timedelta(microseconds=at_us)


def _free(name: str, taken: list[str]) -> str:
    """Return a name that no partition column has."""
    return name if name not in taken else _free(f"{name}_", taken)


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)
