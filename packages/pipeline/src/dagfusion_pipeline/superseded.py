"""Which objects nothing needs any more, when every run writes files of its own names. Pure.

An object is needed while the event log names it as a partition's newest, and for a while after: a query that began
before the newer event still reads it.
"""

import re
from collections.abc import Collection, Iterable
from datetime import datetime

from dagfusion_pipeline.recorded import Recorded
from dagfusion_pipeline.store import StoredObject

_RUN_NAMED = re.compile(r".*-(?P<run>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-\d+)?\.parquet", re.DOTALL)


def needed_uris(newest_first: Iterable[Recorded], since: datetime) -> set[str]:
    """The objects that were a partition's newest at any moment since then."""
    needed, settled = set(), set()
    for record in newest_first:
        if record.partition not in settled:
            needed.add(record.uri)
            if record.at < since:
                settled.add(record.partition)
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
