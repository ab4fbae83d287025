"""Finds superseded objects, which the vacuum may delete, for `file_naming="per_run"`. Pure.

An object is needed while it is its partition's newest in the event log, and for a while after that, because queries
that began before the newer event still read it.
"""

import re
from collections.abc import Collection, Hashable, Iterable, Iterator
from datetime import datetime
from typing import Protocol, TypeVar

from dagfusion_pipeline.store import StoredObject

_RUN_NAMED = re.compile(r".*-(?P<run>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-\d+)?\.parquet", re.DOTALL)


class LoggedVersion(Protocol):
    """What a partition, or what counts as one, had from a moment on."""

    @property
    def partition(self) -> Hashable:
        """Of what it is a version."""

    @property
    def at(self) -> datetime:
        """When it was logged."""


Version = TypeVar("Version", bound=LoggedVersion)


def needed(newest_first: Iterable[Version], since: datetime) -> Iterator[Version]:
    """Yield those that were a partition's newest at any moment since then."""
    settled = set[Hashable]()
    for version in newest_first:
        if version.partition not in settled:
            yield version
            if version.at < since:
                settled.add(version.partition)


def superseded(
    objects: Iterable[StoredObject], needed_keys: Collection[str], unfinished_runs: Collection[str], since: datetime
) -> list[StoredObject]:
    """The objects that a finished run wrote before then under a name of its own, and that are not needed."""
    return [
        stored
        for stored in objects
        if (run := run_of(stored.key))
        and run not in unfinished_runs
        and stored.modified < since
        and stored.key not in needed_keys
    ]


def run_of(key: str) -> str | None:
    """The run that an object is named after; None for an object with a stable name."""
    match = _RUN_NAMED.fullmatch(key)
    return match["run"] if match else None
