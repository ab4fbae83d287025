"""Which objects of per-run names nothing needs any more."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_pipeline.logged_files import LoggedFile
from dagfusion_pipeline.partition_records import PartitionRecord
from dagfusion_pipeline.store import StoredObject
from dagfusion_pipeline.vacuum_rule import collect_uris, needed, of_wiped_partitions, run_of, superseded

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
RUNS = [str(UUID(int=number)) for number in range(4)]


def recorded(partition: str | None = "2024-01-01|CA", *, hours: float = 0, uri: str = "") -> PartitionRecord:
    return PartitionRecord(partition, NOON + timedelta(hours=hours), uri, 100, {}, {})


def uris(newest_first: Iterable[PartitionRecord], since: datetime) -> set[str]:
    return {record.uri for record in needed(newest_first, since)}


def test_an_object_is_needed_while_and_until_it_is_the_newest() -> None:
    newest_first = [
        recorded("a", hours=5, uri="a5"),
        recorded("b", hours=4, uri="b4"),
        recorded("a", hours=3, uri="a3"),
        recorded("a", hours=2, uri="a2"),
        recorded("b", hours=1, uri="b1"),
        recorded(None, hours=0, uri="whole"),
    ]
    assert uris(newest_first, NOON + timedelta(hours=10)) == {"a5", "b4", "whole"}
    assert uris(newest_first, NOON + timedelta(hours=4.5)) == {"a5", "a3", "b4", "whole"}
    assert uris(newest_first, NOON + timedelta(hours=2.5)) == {"a5", "a3", "a2", "b4", "b1", "whole"}
    assert uris([], NOON) == set()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=30),
    st.integers(0, 60),
    st.randoms(),
)
def test_every_reader_since_then_finds_its_objects(
    events: list[tuple[str, int]], since: int, shuffle: random.Random
) -> None:
    history = sorted(events, key=lambda pair: pair[1])
    log = [recorded(partition, hours=hour, uri=f"{number}") for number, (partition, hour) in enumerate(history)]
    kept = uris(reversed(log), NOON + timedelta(hours=since))
    for moment in (since, since + shuffle.random() * 60, 1_000):
        seen = {record.partition: record.uri for record in log if record.at <= NOON + timedelta(hours=moment)}
        assert set(seen.values()) <= kept


def test_only_old_run_named_objects_of_finished_runs_that_are_not_needed_are_superseded() -> None:
    def stored(key: str, hours: float = -1) -> StoredObject:
        return StoredObject(key, 1, None, NOON + timedelta(hours=hours))

    gone = [stored(f"t/state=CA/data-{RUNS[0]}.parquet"), stored(f"t-{RUNS[0]}.parquet")]
    kept = [
        stored(f"t/state=CA/data-{RUNS[1]}.parquet"),
        stored(f"t/state=CA/data-{RUNS[2]}.parquet"),
        stored(f"t/state=NY/data-{RUNS[0]}.parquet", hours=1),
        stored("t/state=CA/data.parquet"),
        stored("t/state=CA/foreign.parquet"),
        stored(f"t/state=CA/data-{RUNS[0]}.parquet.bak"),
    ]
    assert superseded([*gone, *kept], {kept[0].key}, {RUNS[2]}, NOON) == gone


@pytest.mark.parametrize(
    ("key", "run"),
    [
        (f"t/data-{RUNS[3]}.parquet", RUNS[3]),
        (f"t/x\n=1/data-{RUNS[3]}.parquet", RUNS[3]),
        (f"t/{RUNS[3]}.parquet", None),
        ("t/data.parquet", None),
        (f"t/data-{RUNS[3]}/x.parquet", None),
    ],
)
def test_an_object_is_named_after_its_run(key: str, run: str | None) -> None:
    assert run_of(key) == run


def test_objects_with_stable_names_are_deleted_of_wiped_partitions_only() -> None:
    def logged(partition: str, hours: float, uri: str | None) -> LoggedFile:
        at_us = int((NOON + timedelta(hours=hours)).timestamp() * 1e6)
        return LoggedFile(0, partition, at_us, {"uri": uri} if uri else {})

    def stored(key: str, hours: float) -> StoredObject:
        return StoredObject(key, 1, None, NOON + timedelta(hours=hours))

    newest_first = [
        logged("wiped late", 9, None),
        logged("back", 6, "back"),
        logged("wiped", 5, None),
        logged("back", 4, None),
        logged("wiped", 3, "wiped"),
        logged("wiped late", 2, "late"),
        logged("kept", 1, "kept"),
    ]
    since = NOON + timedelta(hours=8)
    gone: dict[str, datetime] = {}
    needed_uris = {one.uri for one in needed(collect_uris(newest_first, since, gone, set()), since)}
    assert needed_uris == {None, "back", "late", "kept"}
    assert gone == {"wiped": NOON + timedelta(hours=5)}

    objects = [stored(key, 3) for key in ("wiped", "late", "back", "kept", "unknown")]
    found = of_wiped_partitions([*objects, stored(f"x-{RUNS[0]}.parquet", 3)], {**gone, "kept": NOON}, {"kept"})
    assert [one.key for one in found] == ["wiped"]
    assert of_wiped_partitions([stored("wiped", 5.5)], gone, set()) == [], "it was written after the wipe"
