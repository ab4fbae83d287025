"""Finds superseded objects, which the vacuum may delete, for `file_naming="per_run"`. Pure.

An object is needed while it is its partition's newest in the event log, and for a while after that, because queries
that began before the newer event still read it.
"""

import re
from collections.abc import Collection, Hashable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from dagfusion_pipeline.partition_files import LoggedFile
from dagfusion_pipeline.store import StoredObject

_RUN_NAMED = re.compile(r".*-(?P<run>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-\d+)?\.parquet", re.DOTALL)


class LoggedVersion(Protocol):
    """An object that a partition, or what counts as one, had from a moment on."""

    @property
    def partition(self) -> Hashable:
        """Of what it is a version."""

    @property
    def at(self) -> datetime:
        """When it was logged."""

    @property
    def uri(self) -> str:
        """The object."""


def needed_uris(newest_first: Iterable[LoggedVersion], since: datetime) -> set[str]:
    """The objects that were a partition's newest at any moment since then."""
    needed, settled = set(), set()
    for record in newest_first:
        if record.partition not in settled:
            needed.add(record.uri)
            if record.at < since:
                settled.add(record.partition)
    return needed


def needed_events(newest_first: Iterable[LoggedFile], since: datetime) -> set[int]:
    """The materializations that were a partition's newest at any moment since then."""
    since_us = (since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    needed, settled = set[int](), set[str | None]()
    for file in newest_first:
        if file.partition not in settled:
            needed.add(file.event_id)
            if file.at_us < since_us:
                settled.add(file.partition)
    return needed


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
