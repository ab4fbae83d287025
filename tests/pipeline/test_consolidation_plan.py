"""Which partitions a consolidation writes: what is new, in few objects, without writing the rest again and again."""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dagfusion_contract.consolidation import TIMES, LargeObject, RowGroup
from dagfusion_pipeline.consolidation_plan import held_events, holdings, plan_objects, sorted_files

PARTITION = pa.schema({"state": pa.string(), "day": pa.int32()})


def files(events: Sequence[tuple[int, str, int]], size_bytes: int = 1000, rows: int = 10) -> pa.Table:
    """The files of these event ids, states and days."""
    ids, states, days = zip(*events, strict=True)
    count = len(ids)
    return pa.table(
        {
            "event_id": pa.array(ids, pa.int64()),
            "at_us": pa.array([event * 1000 for event in ids], pa.int64()),
            "uri": [f"s3://lake/{event}" for event in ids],
            "size_bytes": pa.array([size_bytes] * count, pa.int64()),
            "etag": ["e"] * count,
            "checksum": pa.nulls(count, pa.string()),
            "rows": pa.array([rows] * count, pa.int64()),
            "partition": pa.StructArray.from_arrays([list(states), pa.array(days, pa.int32())], fields=[*PARTITION]),
        }
    )


def column(ordered: pa.Table, name: str, numbers: np.ndarray) -> list[Any]:
    """The partition values of some files."""
    values: list[Any] = ordered["partition"].combine_chunks().field(name).take(pa.array(numbers)).to_pylist()
    return values


def written(
    table: pa.Table, objects: Sequence[np.ndarray], group_files: int = 5, size_bytes: int = 1000
) -> list[LargeObject]:
    """The large objects of a plan."""
    made: list[LargeObject] = []
    for numbers in objects:
        groups = []
        for start in range(0, len(numbers), group_files):
            part = table.take(pa.array(numbers[start : start + group_files]))
            times = sum(part["at_us"].to_pylist()) % TIMES
            groups.append(
                RowGroup(start, sum(part["rows"].to_pylist()), tuple(sorted(part["event_id"].to_pylist())), times)
            )
        made.append(LargeObject(f"s3://lake/{len(made)}", size_bytes, "e", None, "", [], {}, tuple(groups)))
    return made


def plan(
    table: pa.Table, known: Sequence[LargeObject], target_bytes: int = 1 << 20
) -> tuple[pa.Table, list[np.ndarray]]:
    ordered = sorted_files(table)
    return ordered, plan_objects(ordered, holdings(ordered, known), target_bytes)


def states(days: int, first: int = 1, names: Sequence[str] = ("AL", "CA", "NY")) -> list[tuple[int, str, int]]:
    pairs = [(day, state) for day in range(days) for state in names]
    return [(first + number, state, day) for number, (day, state) in enumerate(pairs)]


def test_the_first_plan_has_one_object_a_state() -> None:
    ordered, objects = plan(files(states(100)), [])
    assert [set(column(ordered, "state", one)) for one in objects] == [{"AL"}, {"CA"}, {"NY"}]
    assert all(column(ordered, "day", one) == list(range(100)) for one in objects)


def test_states_of_few_files_share_an_object() -> None:
    _, objects = plan(files(states(10)), [])
    assert [len(one) for one in objects] == [30]


def test_objects_end_at_their_size() -> None:
    _, objects = plan(files(states(100)), [], target_bytes=10_000)
    assert all(len(one) <= 10 for one in objects)
    assert sum(map(len, objects)) == 300


def test_nothing_is_written_twice() -> None:
    ordered, objects = plan(files(states(100)), [])
    assert plan(files(states(100)), written(ordered, objects))[1] == []


def test_new_partitions_wait_until_they_are_worth_it() -> None:
    ordered, objects = plan(files(states(100)), [])
    known = written(ordered, objects)
    a_day_more = [*states(100), (1000, "CA", 100)]
    assert plan(files(a_day_more), known)[1] == []
    days_more = [*states(100), *((1000 + day, "CA", 100 + day) for day in range(10))]
    again, more = plan(files(days_more), known)
    assert [set(column(again, "state", one)) for one in more] == [{"CA"}]
    assert len(more[0]) == 110


def test_an_object_with_a_rewritten_partition_is_written_again_and_the_others_stay() -> None:
    ordered, objects = plan(files(states(100)), [])
    events = [(5000, *event[1:]) if event[1:] == ("NY", 50) else event for event in states(100)]
    again, more = plan(files(events), written(ordered, objects))
    assert [set(column(again, "state", one)) for one in more] == [{"NY"}]


def test_a_full_object_keeps_the_row_groups_that_are_current() -> None:
    ordered, objects = plan(files(states(100)), [])
    known = written(ordered, objects, size_bytes=1 << 30)
    events = [(5000, *event[1:]) if event[1:] == ("NY", 50) else event for event in states(100)]
    again, more = plan(files(events), known)
    assert [len(one) for one in more] == [5]
    assert 5000 in again["event_id"].take(pa.array(more[0])).to_pylist()


def test_an_id_that_was_given_again_is_another_event() -> None:
    ordered, objects = plan(files(states(100)), [])
    table = files(states(100))
    at_us = table["at_us"].to_pylist()
    at_us[0] += 1
    changed = table.set_column(1, "at_us", pa.array(at_us, pa.int64()))
    assert (holdings(changed, written(ordered, objects)).owner < 0).sum() == 5


def test_large_files_and_files_without_an_etag_are_left_out() -> None:
    table = files(states(10))
    without = table.set_column(4, "etag", pa.array([None, *["e"] * 29], pa.string()))
    assert len(sorted_files(without)) == 29
    assert len(sorted_files(files(states(10), size_bytes=9 << 20))) == 0


@pytest.mark.parametrize("seed", range(20))
def test_plans_settle_and_name_each_file_once(seed: int) -> None:
    rng = Random(seed)  # noqa: S311
    current = {
        (state, day): rng.randrange(1, 1000) * 1000 + day
        for state in ("AL", "CA", "NY")
        for day in range(rng.randrange(90))
    }
    known: list[LargeObject] = []
    for turn in range(6):
        for key in rng.sample(sorted(current), min(len(current), rng.randrange(5))):
            current[key] = 10_000_000 + turn * 1000 + rng.randrange(1000)
        unique = {event: key for key, event in current.items()}
        if not unique:
            continue
        table = files([(event, *key) for event, key in unique.items()])
        ordered, objects = plan(table, known, target_bytes=rng.choice([20_000, 1 << 20]))
        numbers = np.concatenate([*objects, np.array([], np.int64)])
        assert len(np.unique(numbers)) == len(numbers)
        known += written(ordered, objects)
        owner = holdings(ordered, known).owner
        assert (owner[numbers.astype(np.int64)] >= 0).all()
        assert np.array_equal(held_events(np.asarray(ordered["event_id"], np.int64), known), owner >= 0)
