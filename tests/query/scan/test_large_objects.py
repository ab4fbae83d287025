"""Which row groups stand for files: exactly those of which every event is current, and each file is read once."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_contract.consolidation import TIMES
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import CONSOLIDATED_SCHEMA, Table, files_schema
from dagfusion_query.catalog.replacing_row_groups import Flags
from dagfusion_query.plan_messages import FileGroup, FileRange, PartitionedFile
from dagfusion_query.scan import large_objects
from dagfusion_query.scan.large_objects import LargeObjects
from dagfusion_query.wire import children, fields
from tests.tiers import examples

PARTITION = pa.schema({"p": pa.int64()})
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
SPACING = 100

# Events are numbers; a partition's current one is at its place in a list.
events = st.lists(st.integers(1, 40), min_size=1, max_size=25, unique=True)
group = st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True).map(sorted)
consolidations = st.lists(st.lists(st.lists(group, min_size=1, max_size=6), max_size=3), max_size=3)


def made(current: list[int], logged: list[list[list[list[int]]]], wrong_times: set[int]) -> Table:
    """A table with these current events, and objects of row groups of these events."""
    schema = files_schema(PARTITION, pa.struct([]))
    count = len(current)
    files = {
        "event_id": pa.array(current, pa.int64()),
        "uri": pa.array([f"s3://b/{event}" for event in current]),
        "size_bytes": pa.array([10] * count, pa.int64()),
        "rows": pa.array(current, pa.int64()),
        "materialized_at": pa.array([1_000_000 * event for event in current], pa.int64()).cast(
            schema.field("materialized_at").type
        ),
    }
    arrays = [files.get(field.name, pa.nulls(count, field.type)) for field in schema]
    rows = []
    for number, objects in enumerate(logged):
        for place, groups in enumerate(objects):
            for at, held in enumerate(groups):
                times = sum(1_000_000 * event for event in held) + (at in wrong_times)
                row = {
                    "event_id": 100 + number,
                    "logged_at": MOMENT,
                    "run_id": "",
                    "uri": f"s3://b/large{number}-{place}",
                }
                row |= {"size_bytes": 10_000, "modified": MOMENT, "etag": None, "checksum": None}
                rows.append(
                    row
                    | {"offset": 4 + at * SPACING, "rows": sum(held), "times": times % TIMES, "events": held}
                    | {"has_field_ids": True}
                )
    consolidated = pa.Table.from_pylist(rows, CONSOLIDATED_SCHEMA)
    name = TableName("local_default", "t")
    return Table(("t",), name, pa.schema([]), PARTITION, "", pa.table(arrays, schema=schema), consolidated=consolidated)


def ranges(read: large_objects.LargeRead) -> list[tuple[str, int, int]]:
    """Path, start and end of each run of row groups."""
    found = []
    for entry in read.entries:
        (file,) = children(entry, FileGroup.FILES)
        (path,) = children(file, PartitionedFile.PATH)
        (part,) = children(file, PartitionedFile.RANGE)
        bounds: dict[int, Any] = {field.number: field.value for field in fields(part)}
        found.append((path.decode(), bounds[FileRange.START], bounds[FileRange.END]))
    return found


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(400), deadline=None)
@given(events, consolidations, st.sets(st.integers(0, 5), max_size=1), st.data())
def test_each_file_is_read_once(
    current: list[int], logged: list[list[list[list[int]]]], wrong_times: set[int], data: st.DataObject
) -> None:
    kept = data.draw(st.none() | st.sets(st.sampled_from(range(len(current)))).map(sorted))
    dropped = data.draw(st.none() | st.sets(st.sampled_from(range(len(current)))))
    check(current, logged, wrong_times, kept, dropped)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.permutations(range(1, 13)),
    st.lists(st.integers(1, 4), min_size=12, max_size=12),
    st.sets(st.integers(1, 12), max_size=3),
    st.none() | st.sets(st.integers(0, 11), min_size=8).map(sorted),
)
def test_no_row_group_between_two_others_is_read_with_them(
    order: list[int], sizes: list[int], superseded: set[int], kept: list[int] | None
) -> None:
    groups = [sorted(order[sum(sizes[:at]) : sum(sizes[: at + 1])]) for at in range(len(sizes))]
    current = [event + 50 if event in superseded else event for event in range(1, 13)]
    check(current, [[[group for group in groups if group]]], set(), kept)


def flags(dropped: set[int], kept: list[int], count: int) -> Flags:
    """One boolean for each file: whether it is dropped, as a file that is kept is not."""
    return np.isin(np.arange(count), [*(dropped - {*kept})])


def check(
    current: list[int],
    logged: list[list[list[list[int]]]],
    wrong_times: set[int],
    kept: list[int] | None,
    dropped: set[int] | None = None,
) -> None:
    """Compare the row groups and files that a scan reads with what it keeps."""
    table = made(current, logged, wrong_times)
    may_hold = None if dropped is None or kept is None else flags(dropped, kept, len(current))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_objects, "FOOTER_REQUESTS", -1000)
        patch.setattr(large_objects, "LEAST_SHARE", 0)
        read = LargeObjects(table).read(None if kept is None else pa.array(kept, pa.int64()), may_hold)
    wanted = sorted(current[number] for number in (range(len(current)) if kept is None else kept))
    if read is None:
        return
    seen = [current[number] for number in read.rest.to_pylist()]
    held = {
        (f"large{number}-{place}", 4 + at * SPACING): (at, events)
        for number, objects in enumerate(logged)
        for place, groups in enumerate(objects)
        for at, events in enumerate(groups)
    }
    for path, start, end in ranges(read):
        inside = [found for (name, offset), found in held.items() if name == path and start <= offset < end]
        assert inside
        for at, of_group in inside:
            assert at not in wrong_times
            seen += of_group
    others = read.others.to_pylist()
    assert sorted(seen) == sorted([*wanted, *(current[number] for number in others)])
    assert all(may_hold is not None and may_hold[number] for number in others)
    assert len(read.files) + len(read.rest) == len(wanted)


def test_a_large_object_is_read_where_it_takes_fewer_requests() -> None:
    current = [*range(1, 11)]
    table = made(current, [[[[1, 2, 3], [4, 5]], [[6, 7, 8]]]], set())
    read = LargeObjects(table).read(None)
    assert read is not None
    assert read.table.files["uri"].to_pylist() == ["s3://b/large0-0"]
    assert [current[number] for number in read.rest.to_pylist()] == [6, 7, 8, 9, 10]
    assert LargeObjects(table).read(pa.array([0, 1, 2], pa.int64())) is None
    assert LargeObjects(table).read(pa.array([0, 1, 2, 3, 4], pa.int64())) is not None


def test_a_row_group_is_read_if_half_of_it_is_kept_and_the_rest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    count, groups = 20, [[*range(1, 11)], [*range(11, 21)]]
    large = LargeObjects(made([*range(1, count + 1)], [[groups]], set()))

    def read(kept: list[int], dropped: set[int]) -> tuple[int, int] | None:
        found = large.read(pa.array(kept, pa.int64()), flags(dropped, kept, count))
        return None if found is None else (len(found.files), len(found.others))

    every = {*range(count)}
    assert read([*range(1, 20)], every) == (19, 1)
    assert read([*range(5, 15)], every) == (10, 10)
    assert read([*range(6, 15)], every) == (5, 5)  # of the second row group, less than half of the first is kept
    assert read([*range(1, 20)], set()) == (10, 0)
    assert read([*range(1, 20)], every - {0}) == (10, 0)
    assert read([*range(5)], every) == (5, 5)
    assert read([*range(4)], every) is None
    monkeypatch.setattr(large_objects, "REQUEST_BYTES", 10)  # half a row group has more
    assert read([*range(5)], every) is None
    assert read([*range(10)], every) == (10, 0)


def test_a_day_of_all_states_takes_fewer_requests_from_small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large object has a state, and its row groups have some days each: so a day needs a row group of each object."""
    states, days, group_days = 50, 24, 8
    objects = [
        [
            [*range(1 + state * days + first, 1 + state * days + first + group_days)]
            for first in range(0, days, group_days)
        ]
        for state in range(states)
    ]
    table = made([*range(1, 1 + states * days)], [objects], set())
    day, state = [*range(3, states * days, days)], [*range(days)]

    def read(kept: list[int]) -> large_objects.LargeRead | None:
        dropped = flags({*range(states * days)}, kept, states * days)
        return LargeObjects(table).read(pa.array(kept, pa.int64()), dropped)

    of_state = read(state)
    assert of_state is not None
    assert of_state.requests == large_objects.FOOTER_REQUESTS + days // group_days < len(state)
    assert read(day) is None
    monkeypatch.setattr(large_objects, "LEAST_SHARE", 0.0)
    assert read(day) is None  # nor would it be, if a share of 1/8 were enough
    monkeypatch.setattr(LargeObjects, "_worthwhile", lambda _, usable, __: usable)
    of_day = read(day)
    assert of_day is not None
    assert of_day.requests == 3 * states > len(day)
    assert len(of_day.others) == states * (group_days - 1)  # whose rows are read for nothing


def test_blocks_do_not_depend_on_what_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_objects, "FOOTER_REQUESTS", -1000)
    monkeypatch.setattr(large_objects, "BLOCK_BYTES", 250)
    groups = [[[number] for number in range(1, 9)], [[number] for number in range(9, 12)]]
    blocks = [(4, 304), (304, 504), (504, 10_000), (4, 10_000)]
    for superseded in ([], [3, 5], [1, 2, 4, 6, 9]):
        current = [event + 50 if event in superseded else event for event in range(1, 12)]
        whole = LargeObjects(made(current, [groups], set())).read(None)
        assert whole is not None
        assert len(whole.entries) < len(blocks) or superseded
        read = whole.by_block()
        assert read.files.equals(whole.files)
        assert list(dict.fromkeys(read.blocks)) == blocks
        for (_, start, end), (first, last) in zip(ranges(read), read.blocks, strict=True):
            assert first <= start < end <= last


def test_an_event_of_several_files_is_not_taken_from_a_large_object() -> None:
    table = made([1, 2, 3, 4, 4], [[[[1, 2, 3, 4]]]], set())
    assert LargeObjects(table).read(None) is None
