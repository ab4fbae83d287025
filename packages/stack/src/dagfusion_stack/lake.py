"""The stored objects read on their own: listed and downloaded, with no catalog, no Dagster and no DataFusion."""

import io
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote

import obstore
import polars as pl
from obstore.store import S3Store

from dagfusion_contract.environments import PREFIX
from dagfusion_stack import object_store

DOWNLOADS = 16
_RETRIES = 10


@dataclass(frozen=True)
class StoredTable:
    """The stored data of one asset: the sizes of its objects by their keys, and all their rows.

    Partition values come from the objects' keys: from the HIVE folders, or from the name of the day's file.
    """

    objects: Mapping[str, int]
    rows: pl.DataFrame


def read(
    variables: Mapping[str, str], asset_keys: Mapping[str, str], advance: Callable[[int], None]
) -> dict[str, StoredTable]:
    """Download every object of the assets.

    Args:
        variables: Where the store is, as in `stack.env`.
        asset_keys: The table's name to the asset's key, its components joined by slashes.
        advance: Called with the number of objects that have come since.

    Returns:
        What is stored, by the table's name.
    """
    store = object_store.client(variables["S3_BUCKET"], variables, max_retries=_RETRIES)
    return {table: _table(store, f"{PREFIX}/{key}", advance) for table, key in asset_keys.items()}


def _table(store: S3Store, location: str, advance: Callable[[int], None]) -> StoredTable:
    single = f"{location}.parquet"
    folder, _, _ = location.rpartition("/")
    listed = [entry for page in obstore.list(store, prefix=folder) for entry in page]
    objects = {
        entry["path"]: entry["size"]
        for entry in listed
        if entry["path"] == single or entry["path"].startswith(f"{location}/")
    }

    def download(path: str) -> pl.DataFrame:
        content = bytes(obstore.get(store, path).bytes())
        advance(1)
        frame = pl.read_parquet(io.BytesIO(content), hive_partitioning=False)
        return frame.with_columns(**partition_values(path.removeprefix(f"{location}/")))

    with ThreadPoolExecutor(DOWNLOADS) as pool:
        frames = list(pool.map(download, sorted(objects)))
    return StoredTable(objects, pl.concat(frames) if frames else pl.DataFrame())


def partition_values(path: str) -> dict[str, pl.Expr]:
    """Read the partition values that a path under a table's folder names.

    >>> sorted(partition_values("state=CA/date=2024-01-05/data.parquet"))
    ['date', 'state']
    """
    *folders, name = path.split("/")
    pairs = dict(folder.split("=", 1) for folder in folders if "=" in folder)
    day = name.removesuffix(".parquet")
    if not folders and day.replace("-", "").isdecimal():
        pairs["date"] = day
    values = {column: pl.lit(unquote(text)) for column, text in pairs.items()}
    return {column: value.str.to_date() if column == "date" else value for column, value in values.items()}
