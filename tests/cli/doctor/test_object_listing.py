"""Objects in a bucket against the files of a catalog, in any mixture of states."""

from datetime import UTC, datetime, timedelta
from enum import Enum, auto

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_cli.doctor.bucket_facts import Comparison, ListedObject, Listing, compare, folders, without_left_out
from dagfusion_contract.layout import file_key, hive_key
from dagfusion_contract.naming import table_name
from dagfusion_query.catalog.model import Table

NOW = datetime(2024, 1, 1, tzinfo=UTC)
EMPTY = pa.schema([])


class State(Enum):
    SAME = auto()
    MISSING = auto()
    SIZE = auto()
    ETAG = auto()
    ARCHIVED = auto()
    ORPHANED = auto()
    OF_ANOTHER_TABLE = auto()
    NEW = auto()


NAMED = frozenset({State.SAME, State.MISSING, State.SIZE, State.ETAG, State.ARCHIVED})


def table(uris: list[str], asset_key: tuple[str, ...] = ("Silver", "orders")) -> Table:
    files = pa.table(
        {"uri": pa.array(uris, pa.string()), "size_bytes": [7] * len(uris), "etag": ['"e"'] * len(uris)},
    )
    return Table(asset_key, table_name("uat", asset_key), EMPTY, EMPTY, "", files)


def listed(uri: str, state: State) -> ListedObject:
    return ListedObject(
        uri,
        8 if state is State.SIZE else 7,
        "other" if state is State.ETAG else "e",
        NOW if state is State.NEW else NOW - timedelta(days=2),
        "DEEP_ARCHIVE" if state is State.ARCHIVED else "STANDARD",
    )


@given(st.lists(st.sampled_from(State)))
def test_each_state_is_told_from_the_others(states: list[State]) -> None:
    uris = [f"s3://lake/p/Silver/orders/{number}.parquet" for number in range(len(states))]

    def of(*wanted: State) -> list[str]:
        return [uri for uri, state in zip(uris, states, strict=True) if state in wanted]

    there = {u: listed(u, state) for u, state in zip(uris, states, strict=True) if state is not State.MISSING}
    found = compare(
        table(of(*NAMED)),
        Listing(there, is_complete=True),
        NOW - timedelta(days=1),
        {*of(*NAMED), *of(State.OF_ANOTHER_TABLE)},
    )
    assert found == Comparison(
        sorted(of(State.MISSING)), of(State.SIZE, State.ETAG), of(State.ORPHANED), of(State.ARCHIVED)
    )


def test_a_listing_that_is_cut_off_has_no_missing_objects() -> None:
    found = compare(table(["s3://lake/p/Silver/orders/a.parquet"]), Listing({}, is_complete=False), NOW, ())
    assert found.missing == ()


def test_the_folders_of_a_table() -> None:
    key = ["Silver", "orders"]
    own = [
        file_key("p", key, None, None),
        file_key("p", key, None, "1"),
        hive_key("q/r", key, [("state", "CA")], None),
    ]
    assert folders(table([f"s3://lake/{name}" for name in own])) == [
        "s3://lake/p/Silver/orders",
        "s3://lake/q/r/Silver/orders",
    ]
    assert folders(table(["s3://lake/other/a=1/x.parquet", "s3://lake/other/a=2/x.parquet"])) == ["s3://lake/other"]
    assert folders(table(["file:///lake/Silver/orders/a.parquet"])) == []


def test_archived_and_expired_objects_that_queries_leave_out_are_no_fault() -> None:
    old, young = "s3://lake/old.parquet", "s3://lake/young.parquet"
    files = pa.table(
        {"uri": [old, young], "modified": pa.array([NOW - timedelta(days=91), NOW], pa.timestamp("us", "UTC"))}
    )
    of = Table(("orders",), table_name("uat", ("orders",)), EMPTY, EMPTY, "", files)
    found = Comparison(missing=[old, young], archived=[old, young])
    assert without_left_out(found, of, 90, NOW) == Comparison(missing=[young], archived=[young])
    assert without_left_out(Comparison(missing=[old]), of, 90, NOW).missing == []
    assert without_left_out(found, of, 0, NOW) == without_left_out(found, of, 92, NOW) == found
