"""Tables of the catalog for the tests of Delta logs, and what a log says of them."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import obstore
import orjson
from obstore.store import MemoryStore

from dagfusion_contract.layout import hive_key
from dagfusion_contract.record import FOREIGN, Layout
from dagfusion_interop.delta.delta_log import DeltaLog, LogState, next_commit
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot, Table, layouts_of
from tests.query.catalog import folding
from tests.query.catalog.folding import EMPTY, ORGS, table, written

LOCATION = "s3://bucket/lake/Silver/TaxID/orgs/"
LOG_FOLDER = "lake/Silver/TaxID/orgs/_delta_log"
AT_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Part(folding.Part):
    """One object of a table.

    Attributes:
        event: That names it.
        run: In the object's name.
        uri: That of the IO manager for HIVE tables, if it is None.
    """

    event: int = 1
    run: str | None = None
    uri: str | None = None


def part_of(event: int, values: Sequence[Any] = ("CA",), **others: Any) -> Part:
    """The object that an event names, of one integer column and no statistics."""
    return Part(values, **{"columns": {"n": "int32"}, "stats": {}, **others}, event=event)


def catalog(
    parts: Sequence[Part],
    kinds: Mapping[str, str],
    key: tuple[str, ...] = ORGS,
    *,
    foreign: bool = False,
    start: Snapshot = EMPTY,
) -> Snapshot:
    """A catalog with one table, whose partition columns are `kinds`; `foreign` if discovery found its files."""
    records = [(part.event, _record(part, kinds, key)) for part in parts]
    for _, record in records if foreign else ():
        record["schema"]["fingerprint"] = FOREIGN + record["schema"]["fingerprint"]
    return fold(start, [written(record, event, key) for event, record in records])


def read(parts: Sequence[Part], kinds: Mapping[str, str], **how: Any) -> tuple[Table, Sequence[Layout]]:
    """The table, and the layouts of its files."""
    snapshot = catalog(parts, kinds, **how)
    found = table(snapshot)
    return found, layouts_of(found, snapshot.asset_states[found.asset_key])


def exported(state: LogState, parts: Sequence[Part], kinds: Mapping[str, str]) -> Mapping[str, list[Any]]:
    """Export a table to a log that has been read, and return the actions of the commit by their kinds."""
    commit = next_commit(state, *read(parts, kinds), AT_MS)
    if commit is None:
        return {}
    state.replay(commit.version, commit.content)
    return actions_of(commit.content)


def actions_of(content: bytes) -> Mapping[str, list[Any]]:
    """The actions of a commit by their kinds."""
    found: dict[str, list[Any]] = {}
    for text in content.splitlines():
        ((kind, body),) = orjson.loads(text).items()
        found.setdefault(kind, []).append(body)
    return found


def _record(part: Part, kinds: Mapping[str, str], key: tuple[str, ...]) -> dict[str, Any]:
    pairs = [(name, str(value or "")) for name, value in zip(kinds, part.values, strict=True)]
    return part.record(kinds, part.uri or f"s3://bucket/{hive_key('lake', key, pairs, part.run)}")


class Lake:
    """A log in memory, and a table that grows by a partition at each look at the catalog, if it is let."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.log = DeltaLog(self.store, LOCATION)
        self.events = 0
        self._lock = threading.Lock()

    def grown(self) -> Snapshot:
        with self._lock:
            self.events += 1
        return self.current()

    def current(self) -> Snapshot:
        return catalog([part_of(number, (str(number),)) for number in range(1, self.events + 1)], {"state": "string"})

    def commits(self) -> list[bytes]:
        found = sorted(meta["path"] for page in obstore.list(self.store, LOG_FOLDER) for meta in page)
        assert found == [f"{LOG_FOLDER}/{version:020d}.json" for version in range(len(found))]
        return [bytes(obstore.get(self.store, path).bytes()) for path in found]

    def replayed(self) -> LogState:
        state = LogState(LOCATION)
        for version, content in enumerate(self.commits()):
            state.replay(version, content)
        return state
