"""The objects of a scan as their events describe them, and the errors of those that are gone, changed or damaged."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from obstore.exceptions import BaseError

from dagfusion_client.errors import (
    ArchivedObjectError,
    CorruptObjectError,
    QueryError,
    RemovedObjectError,
    ReplacedObjectError,
    StaleObjectError,
    StoreUnavailableError,
)
from dagfusion_contract.store_failure import archived_text
from dagfusion_contract.uri import object_path
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.engine.datafusion_errors import execution_error, is_no_room
from dagfusion_query.engine.runtime import Stores
from dagfusion_query.object_store import StoreFailure, failure_of, is_absent, store_error
from dagfusion_query.scan.table_scan import Scan

MAX_COMPARED = 2_000  # asked about at the most, when the error does not name the one
_CONCURRENCY = 16
_COLUMNS = ["event_id", "partition_key", "uri", "size_bytes", "etag", "checksum"]
_STABLE = (
    'only tables with file_naming="per_run" keep the objects of their past. Leave the partition out, or read the '
    "current table"
)
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


@dataclass(frozen=True)
class StoredObject:
    """One object of a scan.

    Attributes:
        partition: Dagster's key; None for an unpartitioned asset.
        etag: The store's; None where the event has none.
        checksum: `sha256:` and 64 hexadecimal digits; None where the event has none.
        run_id: The id of the run that wrote it.
        is_large: Whether it is a large object of a consolidation.
    """

    table: Table
    partition: str | None
    uri: str
    size_bytes: int
    etag: str | None
    checksum: str | None
    run_id: str
    is_large: bool = False

    @property
    def path(self) -> str:
        """The path of the object in its store."""
        return object_path(self.uri)

    @property
    def is_immutable(self) -> bool:
        """True if its name contains its run or is a large object's, so that no other object replaces it.

        A step that is tried again writes its objects again. So those of a past state are compared with their events.
        """
        is_own = bool(self.run_id) and self.run_id in self.uri.rpartition("/")[2]
        return self.is_large or (is_own and self.table.as_of is None)

    def gone(self) -> QueryError:
        """Return the error of an object that is not in the store."""
        if self.table.as_of is not None:
            return _removed(self.table, self.uri, self._partition)
        return StaleObjectError(
            f"{self._where} is gone from the object store although the event log says it was written; {self._cure}"
        )

    def changed(self, size_bytes: int | None = None) -> QueryError:
        """Return the error of an object that was replaced since its event; `size_bytes` is that of the new one."""
        if self.table.as_of is not None:
            return _replaced(self.table, self.uri, self._partition)
        sizes = f" ({self.size_bytes} bytes then, {size_bytes} now)" if size_bytes is not None else ""
        return StaleObjectError(
            f"{self._where} has changed since its event was logged{sizes}; "
            f"if a run is writing it, try again when that has ended, else {self._cure}"
        )

    def corrupt(self, how: str = "that do not have the checksum that was written with them") -> CorruptObjectError:
        """Return the error of an object whose bytes are not those that were written; `how` says how that is known."""
        return CorruptObjectError(
            f"the object store twice gave bytes of {self._where} {how}: the data is damaged in the store or "
            f"in transit; check the store, then {self._cure}"
        )

    def archived(self) -> ArchivedObjectError:
        """Return the error of an object that has to be restored before it is read."""
        return ArchivedObjectError(archived_text(self._where, self._cure))

    def unavailable(self, error: BaseError | FileNotFoundError, stores: Stores) -> QueryError:
        """Return the error of a failed request for the object; if it was refused, this lists the object's folder."""
        if failure_of(error) is StoreFailure.archived:
            return self.archived()
        if is_absent(stores.direct(self.uri, self.table.environment), self.path, error):
            return self.gone()
        endpoint = stores.settings(self.table.environment).endpoint_url
        return store_error(
            error,
            f"the object store{f' at {endpoint}' if endpoint else ''} did not give {self.uri}",
            "check that it runs and that AWS_ENDPOINT_URL and the credentials are right",
        )

    @property
    def _where(self) -> str:
        return f"{self.uri} (table {self.table.name}, {'consolidated' if self.is_large else self._partition})"

    @property
    def _cure(self) -> str:
        if self.is_large:
            return f"consolidate the table again: asset {'/'.join(self.table.asset_key)}"
        return f"materialize it again: asset {'/'.join(self.table.asset_key)}, {self._partition}"

    @property
    def _partition(self) -> str:
        return "unpartitioned" if self.partition is None else f"partition {self.partition}"


def stored_objects(scan: Scan, limit: int | None = None) -> Iterator[StoredObject]:
    """Yield the objects that a scan reads, the first `limit` of them."""
    columns = ["partition_key", "uri", "size_bytes", "etag", "checksum", "run_id"]
    for row in scan.of(scan.table.files.select(columns)).slice(0, limit).to_pylist():
        yield replace(StoredObject(scan.table, *row.values()), is_large=scan.is_large)


def is_about_objects(error: BaseException) -> bool:
    """Return True if an error may come of an object or its store."""
    if isinstance(error, QueryError):
        return isinstance(error, StaleObjectError | ArchivedObjectError | CorruptObjectError | StoreUnavailableError)
    return not is_no_room(str(error)) and any(word in str(error) for word in _ABOUT_OBJECTS)


def diagnose(error: BaseException, scans: Sequence[Scan], stores: Stores) -> QueryError:
    """Turn what DataFusion raised into an error that names the object, the partition and the next step."""
    if isinstance(error, QueryError):
        return error
    text = str(error)
    if is_no_room(text) or not any(word in text for word in _ABOUT_OBJECTS):
        return execution_error(error)
    files = [file for scan in scans for part in scan.parts for file in stored_objects(part)]
    mentioned = [file for file in files if file.path in text]
    ask = partial(check, stores=stores, reads=failure_of(error) is StoreFailure.archived)
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        found = [why for why in pool.map(ask, (mentioned or files)[:MAX_COMPARED]) if why is not None]
    unavailable = [why for why in found if isinstance(why, StoreUnavailableError)]
    return (unavailable or found or [execution_error(error)])[0]


def probe(scans: Sequence[Scan], stores: Stores) -> QueryError | None:
    """Check that the store of a stalled scan answers. Return None if it does, and an error if not."""
    for part in (part for scan in scans for part in scan.parts):
        for file in stored_objects(part, 1):
            why = check(file, stores)
            if isinstance(why, StoreUnavailableError):
                return why
    return None


def check(file: StoredObject, stores: Stores, *, reads: bool = False) -> QueryError | None:
    """Compare the object in the store with its event; None when they agree.

    Args:
        file: The object, and its event.
        stores: The object stores.
        reads: Whether a byte of it is read, which is refused if it is archived.
    """
    try:
        meta = stores.head(file.uri, file.table.environment, reads=reads)
    except (BaseError, FileNotFoundError) as error:
        return file.unavailable(error, stores)
    if meta["size"] != file.size_bytes or (file.etag and meta["e_tag"] and meta["e_tag"] != file.etag):
        return file.changed(meta["size"])
    return None


def refuse_replaced(scans: Sequence[Scan], current: Snapshot) -> None:
    """Compare what a statement reads of past states with the current catalog.

    Args:
        scans: What it reads.
        current: The current generation.

    Raises:
        ReplacedObjectError: A later event wrote one of the objects.
    """
    for scan in scans:
        now = current.tables.get(scan.table.name)
        if scan.table.as_of is not None and scan.count and now is not None and now.asset_key == scan.table.asset_key:
            _compare_with_current(scan.table, scan.kept.select(_COLUMNS), now.files.select(_COLUMNS))


def _removed(table: Table, uri: str, partition: str) -> RemovedObjectError:
    """Return the error of an object of a past state that is gone."""
    return RemovedObjectError(
        f"table {table.name} cannot be read as of event {table.as_of}, which is outside of the retention: the object "
        f"of {partition} was removed ('{uri}'). Ask for a later event or time. A vacuum with a larger older_than_hours "
        "keeps objects longer"
    )


def _replaced(table: Table, uri: str, partition: str, event_id: int | None = None) -> ReplacedObjectError:
    """Return the error of an object of a past state that another one has replaced."""
    by = "" if event_id is None else f" by event {event_id}"
    return ReplacedObjectError(
        f"table {table.name} cannot be read as of event {table.as_of}: the object of {partition} was written again{by} "
        f"('{uri}'); {_STABLE}"
    )


def _compare_with_current(table: Table, then: pa.Table, now: pa.Table) -> None:
    at = pc.index_in(then["uri"], value_set=pa.chunked_array(now["uri"]).combine_chunks())
    if at.null_count == len(at):
        return
    has_time = pc.is_valid(at)
    then, later = then.filter(has_time), now.take(at.drop_null())
    is_later = pc.greater(later["event_id"], then["event_id"])
    for number in pc.indices_nonzero(is_later).to_pylist():
        old, new = then.slice(number, 1).to_pylist()[0], later.slice(number, 1).to_pylist()[0]
        if not _is_same(old, new):
            key = old["partition_key"]
            partition = "the unpartitioned table" if key is None else f"partition {key}"
            raise _replaced(table, old["uri"], partition, new["event_id"])


def _is_same(old: dict[str, object], new: dict[str, object]) -> bool:
    """Return True if two events describe the same content of one object."""
    version = "etag" if old["etag"] and new["etag"] else "checksum"
    return old["size_bytes"] == new["size_bytes"] and old[version] is not None and old[version] == new[version]
