"""What is discovered of an event later: the same snapshot, whenever it comes."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import UndiscoverableError
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import Event, Materialization, Wipe
from dagfusion_query.event_log.stored_event import DataFiles, EventReader, Foreign

KEY = ("a",)


def content(snapshot: Snapshot) -> object:
    """Return what a reader of a snapshot sees."""
    return [
        (
            sorted((row["partition_key"], row["event_id"], row["uri"]) for row in table.files.to_pylist()),
            sorted(map(str, table.warnings)),
        )
        for table in snapshot.tables.values()
    ]


@given(data=st.data())
def test_any_order_gives_the_same_snapshot(file_record: Callable[..., dict[str, Any]], data: st.DataObject) -> None:
    reader = EventReader()

    def files(number: int, count: int) -> DataFiles:
        uris = [f"s3://b/{number}/{i}.parquet" for i in range(count)]
        return DataFiles([reader.read(file_record(uri=uri, partition=[])) for uri in uris])

    said: dict[str, Callable[[int], Any]] = {
        "foreign": lambda _: Foreign("s3://b/x", ()),
        "nothing": lambda _: None,
        "refused": lambda _: UndiscoverableError("not Parquet"),
        "one": lambda number: files(number, 1).files[0],
        "several": lambda number: files(number, 3),
    }
    stages_drawn = st.lists(st.sampled_from(sorted(said)), max_size=2)
    kinds = data.draw(st.lists(st.tuples(st.sampled_from("pq"), stages_drawn), max_size=6))
    events: list[Event] = []
    for number, (partition, stages) in enumerate(kinds, 1):
        # An event that was discovered is one thing or the other; before that it was foreign, or refused for a while.
        last = stages[-1:] if stages and stages[-1] != "nothing" else []
        early = [stage for stage in stages[:-1] if stage in ("foreign", "refused")]
        told = [*early, *(last or ["foreign"])]
        events += [Materialization(KEY, number, partition, number, "run", said[stage](number)) for stage in told]
    if data.draw(st.booleans()):
        events.append(Wipe(KEY, data.draw(st.integers(0, 6))))
    expected = fold(Snapshot(0, "uat"), events)
    shuffled = data.draw(st.permutations(events))
    cut = data.draw(st.integers(0, len(events)))
    found = fold(fold(Snapshot(0, "uat"), shuffled[:cut]), shuffled[cut:])
    assert content(found) == content(expected)
    assert fold(found, shuffled) is found, "a repetition says nothing new"
