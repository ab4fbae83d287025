"""Why a scan failed: ask the object store about the files that it wanted."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from obstore.exceptions import BaseError

from dagfusion_query.engine.statement import execution_error, is_no_room
from dagfusion_query.engine.stored import StoredObject, stored_objects
from dagfusion_query.engine.stores import Stores
from dagfusion_query.errors import QueryError, StoreUnavailableError
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
    "panicked",  # decoding pages of another version than the footer's
)


def diagnose(error: BaseException, scans: Sequence[Scan], stores: Stores) -> QueryError:
    """Turn what DataFusion raised into an error that names the object, the partition and the next step."""
    if isinstance(error, QueryError):
        return error
    text = str(error)
    if is_no_room(text) or not any(word in text for word in _ABOUT_OBJECTS):
        return execution_error(error)
    files = [file for scan in scans for file in stored_objects(scan)]
    named = [file for file in files if file.path in text]
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        found = [
            why for why in pool.map(lambda file: check(file, stores), (named or files)[:MAX_FILES]) if why is not None
        ]
    unavailable = [why for why in found if isinstance(why, StoreUnavailableError)]
    return (unavailable or found or [execution_error(error)])[0]


def probe(scans: Sequence[Scan], stores: Stores) -> QueryError | None:
    """Ask the store of a silent scan whether it is there; None when it is."""
    for scan in scans:
        for file in stored_objects(scan, 1):
            why = check(file, stores)
            if isinstance(why, StoreUnavailableError):
                return why
    return None


def check(file: StoredObject, stores: Stores) -> QueryError | None:
    """Compare the object in the store with its event; None when they agree."""
    try:
        meta = stores.head(file.uri, file.table.environment)
    except FileNotFoundError:
        return file.gone()
    except BaseError as error:
        return file.unavailable(error, stores.settings(file.table.environment).endpoint_url)
    if meta["size"] != file.size_bytes or (file.etag and meta["e_tag"] and meta["e_tag"] != file.etag):
        return file.changed(meta["size"])
    return None
