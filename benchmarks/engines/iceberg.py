"""The clients of the service's Iceberg catalog, each beside an engine that lists the folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table

from benchmarks.dataset import TABLE, Place
from benchmarks.engines import daft, duckdb_files, frames, sail
from benchmarks.engines.protocol import Engine, Session
from benchmarks.workload import DATE_QUERY, FULL_SCAN, POINT, STATE_QUERY, Query

QUERIES = (POINT, STATE_QUERY, DATE_QUERY, FULL_SCAN)
# What a person who writes the query with PyIceberg selects: partition columns that a filter names have to be there.
_SELECTED: Mapping[str, tuple[str, ...]] = {
    POINT.name: ("state", "date", "npi", "organization_name", "specialty", "provider_count"),
    STATE_QUERY.name: ("state", "date", "provider_count"),
    DATE_QUERY.name: ("state", "date", "provider_count"),
    FULL_SCAN.name: ("specialty", "provider_count"),
}


class Objects(Enum):
    """The objects that a catalog names."""

    PARTITIONS = "those of the partitions"
    WITH_IDS = "those of the partitions, written with field ids and partition columns"
    CONSOLIDATED = "large ones of several partitions"


@dataclass(frozen=True)
class Client:
    """A client of the catalog.

    Attributes:
        name: What the report calls it.
        setup: How it is set up, in a line.
        lister: The same client, or the library that it reads with, listing the folder. It sees new partitions, too.
        open: Starts a session, given the place and the URL of the catalog.
        queries: Those that it is timed with.
        objects: Those that its catalog names.
    """

    name: str
    setup: str
    lister: Engine
    open: Callable[[Place, str], Session]
    queries: Sequence[Query] = QUERIES
    objects: Objects = Objects.PARTITIONS


class DuckDB:
    """A connection with the catalog attached."""

    def __init__(self, place: Place, url: str) -> None:
        self._connection = duckdb_files.connect(place, "httpfs", "avro", "iceberg")
        self._connection.execute(f"ATTACH 'lake' AS lake (TYPE iceberg, ENDPOINT '{url}', AUTHORIZATION_TYPE 'none')")

    def run(self, query: Query) -> pa.Table:
        return self._connection.execute(query.sql.format(table=f"lake.{TABLE}")).to_arrow_table()

    def close(self) -> None:
        self._connection.close()


class _Catalog:
    """PyIceberg's client of the catalog; each query loads the table anew, as scripts do."""

    def __init__(self, place: Place, url: str, planning: str = "client") -> None:
        del place  # the service gives the keys
        properties = {"uri": url, "auth": {"type": "noop"}, "scan-planning-mode": planning}
        self._catalog = RestCatalog("lake", **properties)  # type: ignore[arg-type]  # auth is no text

    def table(self) -> Table:
        """Load the table."""
        loaded: Table = self._catalog.load_table(TABLE)
        return loaded

    def close(self) -> None:
        self._catalog.close()


class PyIceberg(_Catalog):
    """Scans to Arrow, and what the query computes is pyarrow's."""

    def run(self, query: Query) -> pa.Table:
        scan = self.table().scan(row_filter(query), selected_fields=_SELECTED[query.name])
        return query.arrow(ds.dataset(scan.to_arrow()))


class Polars(_Catalog):
    """A LazyFrame of PyIceberg's table."""

    def run(self, query: Query) -> pa.Table:
        table = self.table()
        return query.polars(pl.scan_iceberg(table, storage_options=table.config)).collect().to_arrow()


def row_filter(query: Query) -> str:
    """Return a query's filters on partition columns as PyIceberg parses them."""
    found = []
    if query.states is not None:
        found.append(f"state IN ({', '.join(map(repr, query.states))})")
    if query.days is not None:
        first, last = query.days
        found.append(f"date >= '{first}' AND date <= '{last}'")
    return " AND ".join(found) or "true"


CLIENTS = (
    Client("DuckDB ATTACH", "ATTACH (TYPE iceberg); else defaults", duckdb_files.DEFAULT, DuckDB),
    Client("PyIceberg", "load_table and scan for each query", frames.ARROW, PyIceberg),
    Client(
        "PyIceberg, plans of the service",
        "the same with scan-planning-mode=server",
        frames.ARROW,
        partial(PyIceberg, planning="server"),
    ),
    Client("Polars scan_iceberg", "load_table and scan_iceberg for each query", frames.POLARS, Polars),
    Client(
        "Daft read_iceberg",
        "load_table and read_iceberg for each query; the objects were written with field_ids and"
        " partition_columns_in_files, because Daft reads no others",
        daft.FILES,
        daft.Daft,
        objects=Objects.WITH_IDS,
    ),
    Client(
        "Daft read_iceberg, consolidated",
        "the same, and the service has DAGFUSION_ICEBERG_CONSOLIDATED",
        daft.FILES,
        daft.Daft,
        objects=Objects.CONSOLIDATED,
    ),
    Client(
        "Sail",
        f"{sail.SETUP}. No time of one state: Sail makes a task of each partition if a query reads a partition column,"
        " and its work grows with the square of their number",
        sail.FILES,
        sail.Sail,
        [query for query in QUERIES if query is not STATE_QUERY],
    ),
    Client(
        "Sail, consolidated",
        "the same, and the service has DAGFUSION_ICEBERG_CONSOLIDATED",
        sail.FILES,
        sail.Sail,
        objects=Objects.CONSOLIDATED,
    ),
)
# Those that the comparison of all engines has not: they are timed beside their clients.
LISTERS = (daft.FILES, sail.FILES)
