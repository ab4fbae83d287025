"""Finds objects that the vacuum may delete: superseded ones, and those of wiped partitions. Pure.

An object is needed while it is its partition's newest in the event log, and for a while after that, because queries
that began before the newer event still read it. A tombstone is a newer event, too. An object with a stable name
is never superseded, and may be deleted only if its partition was wiped.
"""

import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from dagfusion_pipeline.store import StoredObject

_RUN = r"-(?P<run>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-\d+)?\.parquet"
_RUN_NAMED = re.compile(f".*{_RUN}", re.DOTALL)
_RUN_SUFFIX = re.compile(_RUN)


class LoggedVersion(Protocol):
    """The object of a partition, or of an unpartitioned asset, from a moment on."""

    @property
    def partition(self) -> Hashable:
        """Of what it is a version."""

    @property
    def at(self) -> datetime:
        """The time when it was logged."""


class LoggedObject(LoggedVersion, Protocol):
    """A version that names an object, or is a tombstone.

    A protocol, because `logged_files.LoggedFile` needs Dagster, and this module needs values only.
    """

    @property
    def uri(self) -> str | None:
        """The object; None for a tombstone."""

    @property
    def is_tombstone(self) -> bool:
        """True if the partition is wiped."""


Version = TypeVar("Version", bound=LoggedVersion)
Named = TypeVar("Named", bound=LoggedObject)


def needed(newest_first: Iterable[Version], since: datetime) -> Iterator[Version]:
    """Yield those that were a partition's newest at any moment since then."""
    settled = set[Hashable]()
    for version in newest_first:
        if version.partition not in settled:
            yield version
            if version.at < since:
                settled.add(version.partition)


def collect_uris(
    newest_first: Iterable[Named], since: datetime, gone: dict[str, datetime], named: set[str]
) -> Iterator[Named]:
    """Yield all versions. Collect the URIs of their objects, and of those of partitions that were wiped before then.

    Args:
        newest_first: All versions.
        since: As `needed` has it.
        gone: Filled with the URIs of objects of wiped partitions, and when these were wiped.
        named: Filled with the URIs of all objects that are named after runs.
    """
    wiped = dict[Hashable, datetime | None]()
    for version in newest_first:
        at = wiped.setdefault(version.partition, version.at if version.is_tombstone else None)
        if at is not None and at < since and version.uri is not None:
            gone[version.uri] = at
        if version.uri is not None and run_of(version.uri) is not None:
            named.add(version.uri)
        yield version


def of_wiped_partitions(
    objects: Iterable[StoredObject], gone: Mapping[str, datetime], needed_keys: Collection[str]
) -> list[StoredObject]:
    """Return the objects with stable names that are of wiped partitions and were written before the wipe.

    Args:
        objects: The objects of an asset that no unfinished run may write.
        gone: By key, when the object's partition was wiped.
        needed_keys: The keys of objects that other partitions need.
    """
    return [
        stored
        for stored in objects
        if stored.key in gone
        and stored.modified < gone[stored.key]
        and stored.key not in needed_keys
        and run_of(stored.key) is None
    ]


def superseded(
    objects: Iterable[StoredObject], needed_keys: Collection[str], unfinished_runs: Collection[str], since: datetime
) -> list[StoredObject]:
    """Return the objects that a finished run wrote before then under a name of its own, and that are not needed."""
    return [
        stored
        for stored in objects
        if (run := run_of(stored.key))
        and run not in unfinished_runs
        and stored.modified < since
        and stored.key not in needed_keys
    ]


def renamed(key: str, run_id: str) -> str:
    """Return the name that another run gives an object; an object with a stable name keeps it.

    >>> renamed("orders-6f9619ff-8b86-4d01-b42d-00cf4fc964ff-1.parquet", "new")
    'orders-new.parquet'
    >>> renamed("orders.parquet", "new")
    'orders.parquet'
    """
    match = _RUN_NAMED.fullmatch(key)
    return key if match is None else f"{key[: match.start('run')]}{run_id}.parquet"


def is_file_of(path: str, key: str) -> bool:
    """Return True if an object is the file of an unpartitioned asset: `path.parquet`, or that of a run.

    >>> is_file_of("Silver/orgs", "Silver/orgs-6f9619ff-8b86-4d01-b42d-00cf4fc964ff.parquet")
    True
    >>> is_file_of("Silver/orgs", "Silver/orgs-archive-6f9619ff-8b86-4d01-b42d-00cf4fc964ff.parquet")
    False
    """
    rest = key.removeprefix(path) if key.startswith(path) else ""
    return rest == ".parquet" or _RUN_SUFFIX.fullmatch(rest) is not None


def run_of(key: str) -> str | None:
    """Return the run that an object is named after; None for an object with a stable name."""
    match = _RUN_NAMED.fullmatch(key)
    return match["run"] if match else None
