"""DuckDB: `read_parquet` over the HIVE folders, and DuckLake with PostgreSQL as its catalog over the same objects."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.dataset import Place
from benchmarks.engines.protocol import Engine
from benchmarks.workload import Query

_HIVE = "hive_partitioning = true, hive_types = {'state': VARCHAR, 'date': DATE}"
_LAKE_DATABASE = "ducklake"
_CACHES = ("parquet_metadata_cache = true", "enable_http_metadata_cache = true", "httpfs_connection_caching = true")


class Files:
    """A connection with a view over the files.

    Args:
        place: Where the objects are.
        settings: `SET` statements' contents.
    """

    def __init__(self, place: Place, settings: Sequence[str] = ()) -> None:
        self._connection = connect(place, "httpfs")
        for setting in settings:
            self._connection.execute(f"SET {setting}")
        self._connection.execute(f"CREATE VIEW organizations AS FROM {_read(place)}")

    def run(self, query: Query) -> pa.Table:
        return self._connection.execute(query.sql.format(table="organizations")).to_arrow_table()

    def close(self) -> None:
        self._connection.close()


class Lake:
    """A connection to a DuckLake; `register` has put the objects into its catalog before."""

    def __init__(self, place: Place) -> None:
        self._connection = connect(place, "httpfs", "postgres_scanner", "ducklake")
        _attach(self._connection, place)

    def run(self, query: Query) -> pa.Table:
        return self._connection.execute(query.sql.format(table="lake.organizations")).to_arrow_table()

    def close(self) -> None:
        self._connection.close()


def register(place: Place, partitions: int) -> None:
    """Make a DuckLake catalog of the objects, in a database beside Dagster's, if there is none; reads each footer."""
    if _registered(place) == partitions:
        return
    with psycopg.connect(place.event_log, autocommit=True) as server:
        name = sql.Identifier(_LAKE_DATABASE)
        server.execute(sql.SQL("drop database if exists {}").format(name))
        server.execute(sql.SQL("create database {}").format(name))
    with connect(place, "httpfs", "postgres_scanner", "ducklake") as connection:
        _attach(connection, place)
        connection.execute(f"CREATE TABLE lake.organizations AS FROM {_read(place)} LIMIT 0")
        connection.execute("ALTER TABLE lake.organizations SET PARTITIONED BY (state, date)")
        connection.execute(
            f"CALL ducklake_add_data_files('lake', 'organizations', '{_glob(place)}', hive_partitioning => true)"
        )


def _registered(place: Place) -> int:
    """Count the files that the catalog has."""
    try:
        with psycopg.connect(place.event_log, dbname=_LAKE_DATABASE) as catalog:
            row = catalog.execute("select count(*) from ducklake_data_file").fetchone()
    except psycopg.Error:  # there is no such database, or no such table
        return 0
    return row[0] if row else 0


def _attach(connection: duckdb.DuckDBPyConnection, place: Place) -> None:
    host = conninfo_to_dict(place.event_log)
    catalog = make_conninfo(dbname=_LAKE_DATABASE, host=host["host"], user=host["user"])
    connection.execute(f"ATTACH 'ducklake:postgres:{catalog}' AS lake (DATA_PATH 's3://{place.bucket}/ducklake/')")


def connect(place: Place, *extensions: str) -> duckdb.DuckDBPyConnection:
    """Open a connection with extensions, which may read the bucket."""
    connection = duckdb.connect()
    for name in extensions:
        connection.execute(f"LOAD '{_extension(name)}'")
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{place.access_key_id}', SECRET '{place.secret_access_key}',"
        f" REGION '{place.region}', ENDPOINT '{place.endpoint.partition('://')[2]}', URL_STYLE 'path', USE_SSL false)"
    )
    return connection


def _extension(name: str) -> Path:
    """Find an extension that was installed as the wheel `duckdb-extension-<name>`."""
    [found] = Path(str(files(f"duckdb_extension_{name}"))).rglob(f"{name}.duckdb_extension")
    return found


def _glob(place: Place) -> str:
    return f"{place.url}*/*/*.parquet"


def _read(place: Place) -> str:
    return f"read_parquet('{_glob(place)}', {_HIVE})"


DEFAULT = Engine(
    "DuckDB read_parquet", "hive_partitioning, hive_types; else defaults (it caches data in memory)", Files
)
CACHED = Engine("DuckDB read_parquet, tuned", f"the same and {', '.join(_CACHES)}", lambda place: Files(place, _CACHES))
LAKE = Engine(
    "DuckLake on PostgreSQL", "ducklake_add_data_files over the same objects, once, before; caches data in memory", Lake
)
