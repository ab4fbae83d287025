"""Finds Iceberg metadata that no version of its table has needed for a while.

The query service writes a version of a table's metadata when a client asks for it. A version is needed until that of
another event is written, and for a while after that, because clients still read it. The version of an event may have
several documents, with and without older snapshots, and any may be given to clients. Versions share manifests.
A document of the past, which one statement reads, is needed for a while after it was written.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby, zip_longest

from dagfusion_contract.iceberg_names import (
    event_of_metadata,
    is_iceberg_object,
    is_metadata,
    is_past_metadata,
    is_refused_object,
    named_large_objects,
    named_objects,
)
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.store import ObjectStore, StoredObject

_READS = 16  # at a time


def superseded_metadata(store: ObjectStore, folder_uri: str, since: datetime) -> list[StoredObject]:
    """Return the objects below the folder of metadata that no version has needed since then, or that were refused.

    Args:
        store: The client of the bucket.
        folder_uri: The query service's setting `DAGFUSION_ICEBERG_METADATA`.
        since: Also, objects that were written later stay.

    Raises:
        ConfigurationError: The folder is in another bucket.
        StoreError: The store did not answer.
    """
    folder = _folder(store, folder_uri)
    objects = [*_tables(store, folder)]
    tables = {_folder_of(stored) for table in objects for stored in table if is_metadata(_name(stored))}
    found = [stored for table in objects for stored in _superseded(store, tables, table, since)]
    # One that was written again in the meantime is needed again.
    now = {stored.key: stored.modified for stored in store.list_objects(folder)} if found else {}
    return [stored for stored in found if now.get(stored.key) == stored.modified]


def large_objects_in_use(store: ObjectStore, folder_uri: str, since: datetime) -> set[str] | None:
    """Return the URIs of the large objects that metadata names which has been needed since then.

    Args:
        store: The client of the bucket.
        folder_uri: The query service's setting `DAGFUSION_ICEBERG_METADATA`.
        since: From when on clients may still read.

    Returns:
        None if some of the metadata cannot be read.

    Raises:
        ConfigurationError: The folder is in another bucket.
        StoreError: The store did not answer.
    """
    found: set[str] = set()
    for table in _tables(store, _folder(store, folder_uri)):
        read = _read_needed(store, {_name(stored): stored for stored in table}, since)
        if read is None:
            return None
        found |= read[1]
    return found


def _folder(store: ObjectStore, folder_uri: str) -> str:
    root = store.uri("")
    folder = folder_uri.removeprefix(root).rstrip("/")
    if not folder_uri.startswith(root) or not folder:
        raise ConfigurationError(f"iceberg_metadata must be a folder in {root} of the IO manager, got {folder_uri!r}")
    return folder


def _tables(store: ObjectStore, folder: str) -> Iterator[list[StoredObject]]:
    """Yield the objects of each table."""
    objects = sorted(store.list_objects(folder), key=lambda stored: stored.key)
    for _, table in groupby(objects, key=_folder_of):
        yield list(table)


def _superseded(
    store: ObjectStore, tables: Collection[str], objects: Sequence[StoredObject], since: datetime
) -> Iterator[StoredObject]:
    """Yield the objects of one folder; none of a table's if a version that is needed cannot be read."""
    yield from (stored for stored in objects if is_refused_object(stored.key, tables) and stored.modified < since)
    by_name = {_name(stored): stored for stored in objects}
    read = _read_needed(store, by_name, since)
    if read is None or not (read[0] or any(map(is_past_metadata, by_name))):
        return
    for name, stored in by_name.items():
        if is_iceberg_object(name) and name not in read[0] and stored.modified < since:
            yield stored


def _read_needed(
    store: ObjectStore, by_name: Mapping[str, StoredObject], since: datetime
) -> tuple[set[str], set[str]] | None:
    """Return the names of the metadata that is needed, and the URIs of the large objects that it names.

    Returns:
        None if a version that is needed cannot be read.
    """
    reading = needed = _needed(by_name, since)
    large: set[str] = set()
    while reading:
        contents = store.read_many([by_name[name].key for name in sorted(reading) if name in by_name], _READS)
        if len(contents) < len(reading) or None in contents:
            return None
        read = [bytes(content or b"") for content in contents]
        large = large.union(*map(named_large_objects, read))
        reading = set().union(*map(named_objects, read)) - needed
        needed |= reading
        reading = {name for name in reading if name.endswith("-list.avro")}
    return needed, large


def _needed(by_name: Mapping[str, StoredObject], since: datetime) -> set[str]:
    """Return the names of the documents that are needed: always those of the last version and of the highest event."""
    found = [(event, stored) for name, stored in by_name.items() if (event := event_of_metadata(name)) is not None]
    found.sort(key=lambda document: document[1].modified)
    versions = [(event, [stored for _, stored in some]) for event, some in groupby(found, key=lambda one: one[0])]
    highest = max((event for event, _ in versions), default=0)
    replaced = [documents[0].modified for _, documents in versions[1:]]
    past = {name for name, stored in by_name.items() if is_past_metadata(name) and stored.modified >= since}
    return past | {
        _name(stored)
        for (event, documents), replaced_at in zip_longest(versions, replaced)
        for stored in documents
        if replaced_at is None or replaced_at >= since or event == highest
    }


def _folder_of(stored: StoredObject) -> str:
    return stored.key.rpartition("/")[0]


def _name(stored: StoredObject) -> str:
    return stored.key.rpartition("/")[2]
