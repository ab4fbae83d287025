"""The store's side of discovery: the end of an object, and the objects of a folder."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from dagfusion_query.discovery.footer import Tail, footer_bytes
from dagfusion_query.discovery.places import Place, shown
from dagfusion_query.errors import StoreUnavailableError, UndiscoverableError
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings

MAX_FILES = 10_000  # of one folder
_MAX_NAMES = 10 * MAX_FILES  # that are looked through for them
_TAIL_BYTES = 64 << 10  # most footers, in one request
_OTHER_FORMATS = {
    "_delta_log/": "a Delta Lake table, whose log says which of its files count",
    ".hoodie/": "a Hudi table, whose timeline says which of its files count",
}
_ICEBERG = ".metadata.json"


class PassingError(Exception):
    """Something cannot be read now that may be read later, although its event stays the same."""


class ObjectMissingError(PassingError):
    """There is no such object."""


class Objects:
    """Reads the objects of one environment.

    Every method raises StoreUnavailableError while the store does not answer, and PassingError when it refuses.

    Args:
        settings: Endpoint, region and credentials.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores: dict[str, ObjectStore] = {}
        self._lock = Lock()

    def tail(self, place: Place) -> Tail:
        """Return the end of an object, with its whole Parquet footer.

        Raises:
            ObjectMissingError: There is none.
            UndiscoverableError: It is not Parquet.
        """
        tail = self._end(place, _TAIL_BYTES)
        needed = footer_bytes(tail)
        return tail if needed <= len(tail.data) else self._end(place, needed)

    def parquet_files(self, folder: Place) -> list[Place]:
        """List the Parquet files of a folder, the only LIST that there ever is: at discovery, never in a query.

        Returns:
            The objects whose names end in `.parquet`, by name; none of those whose name, or a folder's, begins with `_`
            or `.`, which Spark and Hive leave out too.

        Raises:
            ObjectMissingError: There is no such folder.
            UndiscoverableError: It has more files than are looked at, or is a table of another format.
        """
        found: list[Place] = []
        empty = True
        for count, name in enumerate(self._names(folder)):
            empty = False
            self._refuse_other_formats(name, folder)
            if name.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in name.split("/")):
                found.append(Place(folder.store, f"{folder.key}{name}"))
            if len(found) > MAX_FILES or count > _MAX_NAMES:
                raise UndiscoverableError(f"the folder {shown(folder.uri)} has more than {MAX_FILES:,} files")
        if empty:
            raise ObjectMissingError
        return sorted(found, key=lambda place: place.key)

    def _names(self, folder: Place) -> Iterator[str]:
        """Yield the names of a folder's objects, relative to it."""
        with _meaning(folder):
            for batch in obstore.list(self._store(folder), folder.key, chunk_size=1000):
                yield from (str(meta["path"])[len(folder.key) :] for meta in batch)

    def _refuse_other_formats(self, name: str, folder: Place) -> None:
        other = next((what for mark, what in _OTHER_FORMATS.items() if name.startswith(mark)), None)
        if name.startswith("metadata/") and name.endswith(_ICEBERG):
            other = "an Iceberg table, whose metadata says which of its files count"
        if other is not None:
            raise UndiscoverableError(f"{shown(folder.uri)} is {other}, and that is not read here")

    def _end(self, place: Place, count: int) -> Tail:
        """Return the last bytes of an object."""
        if place.store == "file:///" and Path(f"/{place.key}").is_dir():
            raise ObjectMissingError
        store = self._store(place)
        with _meaning(place):
            try:
                answer = obstore.get(store, place.key, options={"range": {"suffix": count}})
                data = bytes(answer.bytes())
            except (*_MISSING, *_REFUSED):
                raise
            except BaseError:
                if obstore.head(store, place.key)["size"]:  # an empty object has no end that could be asked for
                    raise
                raise UndiscoverableError("it is no whole Parquet file: it is empty") from None
        meta = answer.meta
        return Tail(data, meta["size"], meta["e_tag"], meta["last_modified"])

    def _store(self, place: Place) -> ObjectStore:
        with self._lock:
            if place.store not in self._stores:
                self._stores[place.store] = open_store(place.store, self._settings, connect_timeout="5s", timeout="30s")
            return self._stores[place.store]


_MISSING = (NotFoundError, FileNotFoundError, NotADirectoryError)
_REFUSED = (PermissionDeniedError, UnauthenticatedError, PermissionError)

_STATUS = re.compile(r"status code: ([34]\d\d) ([A-Za-z ]*)")  # the only place where some errors say it
_LATER = ("408", "425", "429")


@contextmanager
def _meaning(place: Place) -> Iterator[None]:
    """Turn what a store says into what it means for discovery."""
    try:
        yield
    except _MISSING as error:
        raise ObjectMissingError from error
    except _REFUSED as error:
        raise PassingError(f"the store does not let this service read {shown(place.uri)}") from error
    except (BaseError, OSError) as error:
        status = _STATUS.search(str(error))
        if status is not None and status[1] == "404":  # a bucket that is not there
            raise ObjectMissingError from error
        if status is not None and status[1] not in _LATER:
            raise PassingError(f"the store refuses to give {shown(place.uri)}: {status[1]} {status[2]}") from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StoreUnavailableError(f"the object store did not give {shown(place.uri)}: {first}") from error
