"""Events of one table as they come from the log, and what can be seen of the snapshots that they make."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st

from dagfusion_contract.naming import TableName
from dagfusion_contract.record import DataFile
from dagfusion_contract.tombstone import Tombstone
from dagfusion_query.catalog.fold import adopt, fold
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.event_log.event_log_interface import Event, Materialization, Wipe
from dagfusion_query.event_log.stored_event import EventReader

Record = Callable[..., dict[str, Any]]
ORGS = ("Silver", "TaxID", "orgs")
NAME = TableName("uat_silver_tax_id", "orgs")
EMPTY = Snapshot(0, "uat")
READER = EventReader()


def written(
    record: dict[str, Any], event_id: int, key: tuple[str, ...] = ORGS, at_us: int | None = None
) -> Materialization:
    partition = "|".join(str(column["value"]) for column in record["partition"]) or None
    return Materialization(
        key, event_id, partition, event_id * 1000 if at_us is None else at_us, "run", READER.read(record)
    )


def column(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True}


def schema(*columns: dict[str, Any]) -> dict[str, Any]:
    return {"fingerprint": "-".join(str(c) for c in columns), "fields": list(columns)}


@dataclass(frozen=True)
class Part:
    """One object of a table of tests.

    Attributes:
        values: Of the partition columns, as JSON has them.
        columns: Name to type.
        stats: As the record has them.
    """

    values: Sequence[Any]
    columns: Mapping[str, Any]
    stats: Mapping[str, Any]
    rows: int = 3

    def record(self, kinds: Mapping[str, str], uri: str, size_bytes: int = 1000) -> dict[str, Any]:
        """The record of the object, whose partition columns are `kinds`."""
        pairs = zip(kinds.items(), self.values, strict=True)
        return {
            "version": 1,
            "uri": uri,
            "size_bytes": size_bytes,
            "etag": None,
            "modified": "2024-01-15T12:00:00.123456Z",
            "rows": self.rows,
            "partition": [{"name": name, "type": kind, "value": value} for (name, kind), value in pairs],
            "schema": schema(*(column(name, kind) for name, kind in self.columns.items())),
            "columns": dict(self.stats),
        }


def table(snapshot: Snapshot) -> Table:
    (found,) = snapshot.tables.values()
    return found


def seen(snapshot: Snapshot) -> dict[str, Any]:
    """All of a snapshot that a query or a person can see, in an order of its own."""
    return {
        **{str(name): str(problem) for name, problem in snapshot.problems.items()},
        **{
            str(name): (
                table.asset_key,
                table.file_schema,
                table.partition_schema,
                table.schema_id,
                table.files.sort_by("event_id").to_pylist(),
                str(table.problem),
                [str(warning) for warning in table.warnings],
                table.view,
            )
            for name, table in snapshot.tables.items()
        },
    }


def check_replays(data: st.DataObject, events: list[Event], snapshot: Snapshot) -> None:
    """Fold the events in any order, in any portions and some of them twice, and compare with a snapshot of them."""
    replayed = EMPTY
    order = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=5))))
    while order:
        size = data.draw(st.integers(1, len(order)))
        replayed, order = fold(replayed, order[:size]), order[size:]
    assert seen(replayed) == seen(snapshot)
    assert fold(replayed, events) is replayed
    assert adopt(replayed, snapshot) is replayed


class Expected(NamedTuple):
    """What counts of an asset, worked out one event at a time: ids of events."""

    files: set[int]
    refused: set[int]
    shown: set[int]  # the files of the newest definition
    fileless: set[int]  # events that came after a file that is shown


def expected(events: Sequence[Event], key: tuple[str, ...]) -> Expected:
    wiped_at = max((e.at_us for e in events if isinstance(e, Wipe) and e.asset_key == key), default=0)
    named: dict[str | None, Materialization] = {}
    fileless: dict[str | None, Materialization] = {}
    for event in events:
        if isinstance(event, Materialization) and event.asset_key == key:
            latest = fileless if event.file is None else named
            latest[event.partition_key] = max(latest.get(event.partition_key, event), event, key=lambda e: e.event_id)
    counting = {key: event for key, event in named.items() if event.at_us > wiped_at}
    counting = {key: event for key, event in counting.items() if not isinstance(event.file, Tombstone)}
    files = {k: e for k, e in counting.items() if isinstance(e.file, DataFile) and e.file.modified != "never"}
    definitions = {e.event_id: {(f.name, f.type) for f in e.file.layout.partition} for e in files.values() if e.file}  # type: ignore[union-attr]
    shown = {k for k, e in files.items() if definitions[e.event_id] == definitions[max(definitions)]}
    return Expected(
        {event.event_id for event in files.values()},
        {event.event_id for key, event in counting.items() if key not in files},
        {files[key].event_id for key in shown},
        {
            event.event_id
            for key, event in fileless.items()
            if key in shown and event.event_id > files[key].event_id and event.at_us > wiped_at
        },
    )


def check_table(snapshot: Snapshot, events: Sequence[Event], key: tuple[str, ...]) -> None:
    """Compare an asset's table with what is expected of all events."""
    counts = expected(events, key)
    tables = {table.asset_key: table for table in snapshot.tables.values()}
    assert (key in tables) == bool(counts.files or counts.refused)
    if key not in tables:
        return
    warnings = " ".join(str(warning) for warning in tables[key].warnings)
    assert {int(found) for found in re.findall(r"whose event (\d+) cannot", warnings)} == counts.refused
    assert {int(found) for found in re.findall(r"\(event (\d+) of", warnings)} == set(sorted(counts.fileless)[-1:])
    assert ("It leaves out" in warnings) == (counts.files != counts.shown)
    assert set(tables[key].files["event_id"].to_pylist()) == counts.shown
    assert (tables[key].problem is None) == bool(counts.shown)
