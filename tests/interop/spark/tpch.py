"""TPC-H's tables as the IO managers write them, and its statements over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import duckdb_extension_tpch
import polars as pl

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from tests.pipeline.written import key_range

TABLES = ("lineitem", "orders", "customer", "part", "partsupp", "supplier", "nation", "region")
# The statements that Spark SQL may read otherwise: they divide what may be integers, or name other functions.
NOT_SENT = frozenset({8, 14})


@dataclass(frozen=True)
class Writer:
    """Materializes frames as assets.

    Attributes:
        instance: Gets the events.
        hive: Writes partitioned assets.
        flat: Writes the others.
        of_runs: Writes partitioned assets, and leaves the objects of earlier runs.
    """

    instance: dg.DagsterInstance
    hive: PartitionedS3ParquetIOManager
    flat: S3ParquetIOManager
    of_runs: PartitionedS3ParquetIOManager

    @classmethod
    def over(
        cls, instance: dg.DagsterInstance, store: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> "Writer":
        """Return a writer to a store; its files have what `options` of IO managers say."""
        fields = {**store, **(options or {})}
        hive = (PartitionedS3ParquetIOManager(**fields, file_naming=naming) for naming in ("stable", "per_run"))
        return cls(instance, next(hive), S3ParquetIOManager(**fields), next(hive))

    def materialize(
        self, name: str, frame: pl.DataFrame, column: str | None = None, *, keeps_past: bool = False
    ) -> None:
        """Write a frame, partitioned by a column if one is named."""
        keys = [] if column is None else sorted(frame[column].unique().to_list())
        partitions = dg.StaticPartitionsDefinition(keys) if keys else None

        @dg.asset(name=name, partitions_def=partitions, metadata={"partition_expr": column} if column else {})
        def made() -> pl.DataFrame:
            return frame

        manager = self.flat if not keys else self.of_runs if keeps_past else self.hive
        tags = key_range(keys[0], keys[-1]) if keys else {}
        dg.materialize([made], instance=self.instance, resources={"io_manager": manager}, tags=tags)


def materialize(
    writer: Writer, scale: float, partitioned_by: Mapping[str, str], added: Mapping[str, str] | None = None
) -> dict[int, str]:
    """Write the tables; return the statements by their numbers.

    Args:
        writer: Writes them.
        scale: The scale factor.
        partitioned_by: The partition column of a table.
        added: Columns that a table gets beside its own, in DuckDB's SQL.
    """
    with duckdb.connect() as peer:
        (extension,) = Path(duckdb_extension_tpch.__file__).parent.rglob("*.duckdb_extension")
        peer.load_extension(str(extension))
        peer.execute(f"CALL dbgen(sf = {scale})")
        for name in TABLES:
            columns = ", ".join(filter(None, ("*", (added or {}).get(name))))
            writer.materialize(name, peer.sql(f"SELECT {columns} FROM {name}").pl(), partitioned_by.get(name))
        rows: Sequence[tuple[int, str]] = peer.execute("SELECT query_nr, query FROM tpch_queries()").fetchall()
    return {number: _over_lake(query.strip().rstrip(";")) for number, query in rows}


def _over_lake(query: str) -> str:
    """Let the bare names of tables mean the lake's tables."""
    tables = ", ".join(f"{name} AS (SELECT * FROM uat_default.{name})" for name in TABLES)
    return f"WITH {tables}, {query[4:]}" if query.upper().startswith("WITH") else f"WITH {tables} {query}"
