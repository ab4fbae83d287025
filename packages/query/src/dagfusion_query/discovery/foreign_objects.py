"""Finds the objects of other IO managers by the metadata of their events, and reads their footers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import unquote

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from dagfusion_client.errors import UndiscoverableError
from dagfusion_contract.store_failure import status_of
from dagfusion_contract.uri import (
    LOCAL_FILES,
    S3_SCHEMES,
    bucket_url,
    local_path,
    object_path,
    scheme_of,
    store_parts,
    store_url,
)
from dagfusion_query.discovery.footer import Tail, footer_bytes
from dagfusion_query.object_store import MISSING, REFUSED, StoreFailure, failure_of, is_absent, open_store, store_error
from dagfusion_query.settings import Settings

MAX_FILES = 10_000  # of one folder
_MAX_NAMES = 10 * MAX_FILES  # that are looked through for them
_TAIL_BYTES = 64 << 10  # most footers, in one request
_OTHER_FORMATS = {
    "_delta_log/": "a Delta Lake table, whose log says which of its files count",
    ".hoodie/": "a Hudi table, whose timeline says which of its files count",
}
_ICEBERG = ".metadata.json"
_SHOWN = 300


class TemporaryReadError(Exception):
    """Something cannot be read now that may be read later, although its event stays the same."""


class ObjectMissingError(TemporaryReadError):
    """There is no such object."""


@dataclass(frozen=True)
class Place:
    """An object or a folder in a store.

    Attributes:
        store: `s3://bucket/`, or `file:///`.
        key: The object's key, or the path without its leading slash; ends in a slash where only a folder can be meant.
    """

    store: str
    key: str

    @property
    def uri(self) -> str:
        """The URI as a record has it: nothing is escaped beyond what the key itself contains."""
        return f"{self.store}{self.key}"

    @property
    def folder(self) -> "Place":
        """The folder of this name."""
        return self if not self.key or self.key.endswith("/") else Place(self.store, f"{self.key}/")

    @property
    def is_folder(self) -> bool:
        """True if this can be a folder only."""
        return self.folder == self


class ForeignObjects:
    """Reads the objects of one environment.

    Every method raises StoreUnavailableError while the store does not answer, and TemporaryReadError when it refuses.

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
            ObjectMissingError: The object does not exist.
            UndiscoverableError: The object is not Parquet.
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
            ObjectMissingError: The folder does not exist.
            UndiscoverableError: The folder has too many files, or is a table of another format.
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
        if place.store == LOCAL_FILES and Path(f"/{place.key}").is_dir():
            raise ObjectMissingError
        store = self._store(place)
        with _meaning(place):
            try:
                answer = obstore.get(store, place.key, options={"range": {"suffix": count}})
                data = bytes(answer.bytes())
            except (*MISSING, *REFUSED) as error:
                if is_absent(store, place.key, error):
                    raise ObjectMissingError from error
                raise
            except BaseError:
                if obstore.head(store, place.key)["size"]:  # an empty object has no end that could be asked for
                    raise
                raise UndiscoverableError("the file is empty") from None
        meta = answer.meta
        return Tail(data, meta["size"], meta["e_tag"], meta["last_modified"])

    def _store(self, place: Place) -> ObjectStore:
        with self._lock:
            if place.store not in self._stores:
                self._stores[place.store] = open_store(place.store, self._settings, connect_timeout="5s", timeout="30s")
            return self._stores[place.store]


def places(text: str, bucket: str | None = None) -> list[Place]:
    """Return the places that a text can mean, the likeliest first.

    Args:
        text: `s3://bucket/key`, `s3a://...`, `file:///path` or an absolute path. A key that holds `%` is meant as it
            is, and as an escaped one where there is no such object.
        bucket: The one bucket that it may be in; None allows any, and local files.

    Raises:
        UndiscoverableError: The text names no place, or one that may not be read.
    """
    raw = _place(text)
    if bucket is not None and raw.store != bucket_url(bucket):
        raise UndiscoverableError(
            f"the materialization names {shown(raw.uri)}, which is outside of this environment's bucket: put the "
            "object there, or change s3_bucket in the service's configuration"
        )
    unquoted = Place(raw.store, unquote(raw.key))
    return [raw] if unquoted == raw else [raw, unquoted]


def shown(text: str) -> str:
    """Return a text from an event, cut to what a message can hold."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


@contextmanager
def _meaning(place: Place) -> Iterator[None]:
    """Turn what a store says into what it means for discovery."""
    try:
        yield
    except (BaseError, OSError) as error:
        match failure_of(error):
            case StoreFailure.missing:
                raise ObjectMissingError from error
            case StoreFailure.refused | StoreFailure.archived if isinstance(error, REFUSED):
                raise TemporaryReadError(f"the store does not let this service read {shown(place.uri)}") from error
            case StoreFailure.refused | StoreFailure.archived:
                status = " ".join(map(str, status_of(error) or ())).strip()
                raise TemporaryReadError(f"the store refuses to give {shown(place.uri)}: {status}") from error
        raise store_error(error, f"the object store did not give {shown(place.uri)}") from error


def _place(text: str) -> Place:
    scheme = scheme_of(text)
    if scheme in S3_SCHEMES:
        (_, bucket), key = store_parts(store_url(text)), object_path(text)
        if not bucket or not key.strip("/") or "@" in bucket:
            raise UndiscoverableError(
                "the S3 URI of the materialization must read s3://bucket/key; it has no key, no bucket, or a password"
            )
        return Place(bucket_url(bucket), key)
    if text.lower().startswith("file:/"):
        path = local_path(text)
        if path.startswith("/"):
            return _local(path)
    if text.startswith("/"):
        return _local(text)
    if scheme.isalnum():
        raise UndiscoverableError(
            f"the materialization names a {scheme}:// URL, and only s3:// and local files can be read"
        )
    raise UndiscoverableError(
        f"the materialization names {shown(text)}, which is neither an absolute path nor an s3:// URI: log the whole "
        "path or URI in the metadata"
    )


def _local(path: str) -> Place:
    normal = os.path.normpath(path).lstrip("/")
    if not normal:
        raise UndiscoverableError("the materialization names the root folder: log the path of the file in the metadata")
    return Place(LOCAL_FILES, f"{normal}/" if path.endswith("/") else normal)
