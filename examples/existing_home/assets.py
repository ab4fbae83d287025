"""A Dagster home as many have it: assets that dagster-polars writes as Parquet into a folder.

DAGSTER_HOME=/a/folder python assets.py
"""

import datetime as dt
import os
from pathlib import Path

import dagster as dg
import polars as pl
from dagster_polars import PolarsParquetIOManager

days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-04")


@dg.asset
def products() -> pl.DataFrame:
    """An asset without partitions."""
    return pl.DataFrame({"product": ["apple", "pear"], "price": [0.5, 0.75]})


@dg.asset(partitions_def=days)
def sales(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """One file a day."""
    day = dt.date.fromisoformat(context.partition_key).day
    return pl.DataFrame({"product": ["apple", "pear"], "quantity": [day, 10 * day]})


def main() -> None:
    """Materialize everything."""
    folder = Path(os.environ["DAGSTER_HOME"], "storage", "parquet")
    resources = {"io_manager": PolarsParquetIOManager(base_dir=str(folder))}
    with dg.DagsterInstance.get() as instance:
        dg.materialize([products], resources=resources, instance=instance)
        for day in days.get_partition_keys():
            dg.materialize([sales], partition_key=day, resources=resources, instance=instance)


if __name__ == "__main__":
    main()
