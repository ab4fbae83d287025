"""Assets on a real S3 server, exported to Delta logs, and the readers that people have."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from dagfusion_client.sql_text import parse_table
from dagfusion_interop.delta.delta_log import Exported, export_delta
from dagfusion_query.connection import EmbeddedConnection
from tests.interop.spark.sail import answer

EXTENSIONS = ("httpfs", "delta")
Rows = list[tuple[Any, ...]]


@dataclass
class Lake:
    """A deployment whose assets are in a bucket.

    Attributes:
        connection: DagFusion over its event log.
        s3: The fields of an IO manager that name the server and its bucket.
        duckdb: DuckDB with the keys of the store.
        sail: The URL of a Spark Connect server; None to do without.
    """

    instance: dg.DagsterInstance
    connection: EmbeddedConnection
    s3: Mapping[str, Any]
    duckdb: duckdb.DuckDBPyConnection
    sail: str | None = None

    def materialize(self, asset: dg.AssetsDefinition, manager: dg.ConfigurableIOManager, **how: Any) -> None:
        """Run an asset."""
        dg.materialize([asset], instance=self.instance, resources={"io_manager": manager}, **how)

    def export(self, table: str, location: str | None = None) -> Exported:
        """Export a table as the command does."""
        return export_delta(parse_table(table), self.connection.refresh, self.connection.settings, location)

    @property
    def options(self) -> dict[str, str]:
        """What deltalake and Polars need to know of the store."""
        return {
            "AWS_ENDPOINT_URL": self.s3["endpoint_url"],
            "AWS_REGION": self.s3["region"],
            "AWS_ACCESS_KEY_ID": self.s3["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.s3["secret_access_key"],
            "AWS_ALLOW_HTTP": "true",
        }

    def open(self, location: str, version: int | None = None) -> DeltaTable:
        """Open a version of a table, by default the last."""
        return DeltaTable(location, version=version, storage_options=self.options)

    def polars(self, location: str, *, is_native: bool = True) -> pl.LazyFrame:
        """Scan a table with Polars: with a reader of its own, or with that of deltalake."""
        return pl.scan_delta(location, storage_options=self.options, use_pyarrow=not is_native)

    def own(self, table: str, columns: Sequence[str]) -> Rows:
        """Return DagFusion's answer."""
        return rows_of(self.connection.sql(f"SELECT {quoted(columns)} FROM {table}").to_arrow())

    def answers(self, location: str, columns: Sequence[str], *, without: Sequence[str] = ()) -> dict[str, Rows]:
        """Return all rows of a table by reader."""
        opened, wanted = self.open(location), quoted(columns)
        readers: dict[str, Callable[[], pa.Table]] = {
            "deltalake": lambda: queried(opened, f"SELECT {wanted} FROM t"),
            "deltalake as a dataset": lambda: opened.to_pyarrow_dataset().to_table([*columns]),
            "polars": lambda: self.polars(location).select(columns).collect().to_arrow(),
            "polars with deltalake": lambda: (
                self.polars(location, is_native=False).select(columns).collect().to_arrow()
            ),
            "duckdb": lambda: self.duckdb.execute(f"SELECT {wanted} FROM delta_scan('{location}')").to_arrow_table(),
        }
        if (sail := self.sail) is not None:
            names = ", ".join(f"`{column}`" for column in columns)
            readers["sail"] = lambda: answer(sail, f"SELECT {names} FROM delta.`{location}`")
        return {name: rows_of(read()) for name, read in readers.items() if name not in without}


def queried(opened: DeltaTable, statement: str) -> pa.Table:
    """Return the answer of deltalake's SQL engine, for which the table is `t`."""
    return pa.RecordBatchReader.from_stream(QueryBuilder().register("t", opened).execute(statement)).read_all()


def quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def rows_of(table: pa.Table) -> Rows:
    """Return the rows of a result, sorted; times without the name of their zone."""
    plain = [
        column.cast(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(column.type) and column.type.tz else column
        for column in table.columns
    ]
    return sorted(zip(*(column.to_pylist() for column in plain), strict=True), key=repr)


def same(lake: Lake, table: str, columns: Sequence[str], location: str, *, without: Sequence[str] = ()) -> Rows:
    """The rows that all readers give."""
    own = lake.own(table, columns)
    for reader, rows in lake.answers(location, columns, without=without).items():
        assert rows == own, reader
    return own


@contextmanager
def duckdb_with(s3: Mapping[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with its extensions, which take a quarter of a second to load, and without its cache of objects."""
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        for name in EXTENSIONS:
            (found,) = Path(str(files(f"duckdb_extension_{name}"))).rglob(f"{name}.duckdb_extension")
            connection.load_extension(str(found))
        connection.execute("SET enable_external_file_cache = false")
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{s3['access_key_id']}', SECRET '{s3['secret_access_key']}', "
            f"ENDPOINT '{s3['endpoint_url'].removeprefix('http://')}', REGION '{s3['region']}', URL_STYLE 'path', "
            "USE_SSL false)"
        )
        yield connection
