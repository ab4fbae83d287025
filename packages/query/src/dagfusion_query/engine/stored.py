"""An object as its event describes it, and what can be wrong with the one in the store."""

from collections.abc import Iterator
from dataclasses import dataclass

from obstore.exceptions import BaseError

from dagfusion_query.catalog.entry import object_path
from dagfusion_query.catalog.model import Table
from dagfusion_query.errors import CorruptObjectError, StaleObjectError, StoreUnavailableError
from dagfusion_query.scan.scanned import Scan


@dataclass(frozen=True)
class StoredObject:
    """One object of a scan.

    Attributes:
        partition: Dagster's key; None for an unpartitioned asset.
        etag: The store's; None where the event has none.
        checksum: `sha256:` and 64 hexadecimal digits; None where the event has none.
        run_id: Of the run that wrote it.
    """

    table: Table
    partition: str | None
    uri: str
    size_bytes: int
    etag: str | None
    checksum: str | None
    run_id: str

    @property
    def path(self) -> str:
        """What names it inside of its store."""
        return object_path(self.uri)

    @property
    def is_immutable(self) -> bool:
        """Whether its name is of one run alone, so that no other object takes its place."""
        return bool(self.run_id) and self.run_id in self.uri.rpartition("/")[2]

    def gone(self) -> StaleObjectError:
        """Return the error of an object that is not in the store."""
        return StaleObjectError(
            f"{self._where} is gone from the object store although the event log says it was written; {self._cure}"
        )

    def changed(self, size_bytes: int | None = None) -> StaleObjectError:
        """Return the error of an object that was replaced since its event; `size_bytes` is that of the new one."""
        sizes = f" ({self.size_bytes} bytes then, {size_bytes} now)" if size_bytes is not None else ""
        return StaleObjectError(
            f"{self._where} has changed since its event was logged{sizes}; "
            f"if a run is writing it, try again when that has ended, else {self._cure}"
        )

    def corrupt(self) -> CorruptObjectError:
        """Return the error of an object whose bytes are not those that were written."""
        return CorruptObjectError(
            f"the object store twice gave bytes of {self._where} that do not have the checksum of its event: a byte is "
            f"damaged in the store or on the way; check the store, then {self._cure}"
        )

    def unavailable(self, error: BaseError, endpoint: str | None) -> StoreUnavailableError:
        """Return the error of a store that does not give the object."""
        first = str(error).strip().splitlines()[0]
        return StoreUnavailableError(
            f"the object store{f' at {endpoint}' if endpoint else ''} did not give {self.uri}: {first}; "
            "check that it runs and that AWS_ENDPOINT_URL and the credentials are right"
        )

    @property
    def _where(self) -> str:
        return f"{self.uri} (table {self.table.name}, {self._partition})"

    @property
    def _cure(self) -> str:
        return f"materialize it again: asset {'/'.join(self.table.asset_key)}, {self._partition}"

    @property
    def _partition(self) -> str:
        return "unpartitioned" if self.partition is None else f"partition {self.partition}"


def stored_objects(scan: Scan, limit: int | None = None) -> Iterator[StoredObject]:
    """Yield the objects that a scan reads, the first `limit` of them."""
    columns = ["partition_key", "uri", "size_bytes", "etag", "checksum", "run_id"]
    for row in scan.kept.select(columns).slice(0, limit).to_pylist():
        yield StoredObject(scan.table, *row.values())
