"""Why a scan failed: ask the object store about the files that it wanted."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from obstore.exceptions import BaseError

from dagfusion_query.catalog.entry import object_path
from dagfusion_query.catalog.model import Table
from dagfusion_query.engine.statement import execution_error, is_no_room
from dagfusion_query.engine.stores import Stores
from dagfusion_query.errors import QueryError, StaleObjectError, StoreUnavailableError
from dagfusion_query.scan.scanned import Scan

MAX_FILES = 2_000  # asked about at the most, when the error does not name the one
_CONCURRENCY = 16
_ABOUT_OBJECTS = (
    "Object",
    "object",
    "Parquet",
    "parquet",
    "Generic S3 error",
    "External",
    "EOF",
    "IO error",
    "Compute error",
)


@dataclass(frozen=True)
class _File:
    table: Table
    partition: str | None
    uri: str
    size: int
    etag: str | None


def diagnose(error: BaseException, scans: Sequence[Scan], stores: Stores) -> QueryError:
    """Turn what DataFusion raised into an error that names the object, the partition and the next step."""
    text = str(error)
    if is_no_room(text) or not any(word in text for word in _ABOUT_OBJECTS):
        return execution_error(error)
    files = [file for scan in scans for file in _files(scan)]
    named = [file for file in files if object_path(file.uri) in text]
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        found = [
            why for why in pool.map(lambda file: _check(file, stores), (named or files)[:MAX_FILES]) if why is not None
        ]
    unavailable = [why for why in found if isinstance(why, StoreUnavailableError)]
    return (unavailable or found or [execution_error(error)])[0]


def probe(scans: Sequence[Scan], stores: Stores) -> QueryError | None:
    """Ask the store of a silent scan whether it is there; None when it is."""
    for scan in scans:
        for file in _files(scan, 1):
            why = _check(file, stores)
            if isinstance(why, StoreUnavailableError):
                return why
    return None


def _files(scan: Scan, limit: int | None = None) -> list[_File]:
    kept = scan.kept.select(["partition_key", "uri", "size_bytes", "etag"]).slice(0, limit)
    return [_File(scan.table, *row.values()) for row in kept.to_pylist()]


def _check(file: _File, stores: Stores) -> QueryError | None:
    """Compare an object with its event; None when they agree."""
    where = f"{file.uri} (table {file.table.name}, {_partition(file.partition)})"
    cure = f"materialize it again: asset {'/'.join(file.table.asset_key)}, {_partition(file.partition)}"
    try:
        meta = stores.head(file.uri, file.table.environment)
    except FileNotFoundError:
        return StaleObjectError(
            f"{where} is gone from the object store although the event log says it was written; {cure}"
        )
    except BaseError as error:
        endpoint = stores.settings(file.table.environment).endpoint_url
        first = str(error).strip().splitlines()[0]
        return StoreUnavailableError(
            f"the object store{f' at {endpoint}' if endpoint else ''} did not give {file.uri}: {first}; "
            "check that it runs and that AWS_ENDPOINT_URL and the credentials are right"
        )
    if meta["size"] != file.size or (file.etag and meta["e_tag"] and meta["e_tag"] != file.etag):
        return StaleObjectError(
            f"{where} has changed since its event was logged ({file.size} bytes then, {meta['size']} now); "
            f"if a run is writing it, try again when that has ended, else {cure}"
        )
    return None


def _partition(key: str | None) -> str:
    return "unpartitioned" if key is None else f"partition {key}"
