"""The difference of two states of a table, beside one that is computed partition by partition."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.returned_values import TableDiff
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Table, files_schema
from dagfusion_query.catalog.table_history import SHOWN_CHANGES, compare

SCHEMA = files_schema(pa.schema([]), pa.struct([]))
# By partition key: the event, and the rows that it wrote.
STATES = st.dictionaries(
    st.one_of(st.none(), st.text(max_size=2)), st.tuples(st.integers(1, 3), st.integers(0, 9)), max_size=6
)
State = dict[str | None, tuple[int, int]]


def table(state: State) -> Table:
    rows = [{"partition_key": key, "event_id": event, "rows": rows} for key, (event, rows) in state.items()]
    made = pa.Table.from_pylist(rows, pa.schema([SCHEMA.field(name) for name in ("partition_key", "event_id", "rows")]))
    empty = Table(("a",), TableName("s", "t"), pa.schema([]), pa.schema([]), "", SCHEMA.empty_table())
    return replace(empty, files=made)


def expected(before: State, after: State) -> tuple[Any, ...]:
    added = {key for key in after if key not in before}
    gone = {key for key in before if key not in after}
    both = before.keys() & after.keys()
    rewritten = {key for key in both if before[key][0] != after[key][0]}
    rows = [sum(rows for _, rows in state.values()) for state in (before, after)]
    return len(added), len(rewritten), len(gone), len(both) - len(rewritten), *rows, added | rewritten | gone


def told(diff: TableDiff) -> tuple[Any, ...]:
    counts = (diff.added, diff.rewritten, diff.gone, diff.unchanged)
    return *counts, diff.rows_before, diff.rows_after, {change.partition_key for change in diff.changes}


@given(before=STATES, after=STATES)
def test_a_difference_names_what_was_added_rewritten_and_is_gone(before: State, after: State) -> None:
    diff = compare("s.t", table(before), table(after), (1, 2))
    assert told(diff) == expected(before, after)
    assert (diff.table, diff.before, diff.after) == ("s.t", 1, 2)
    for change in diff.changes:
        old, new = (state.get(change.partition_key) for state in (before, after))
        assert (change.rows_before, change.rows_after) == (old and old[1], new and new[1])
        assert change.change == ("added" if old is None else "gone" if new is None else "rewritten")


@given(state=STATES)
def test_a_table_that_was_not_there_is_empty(state: State) -> None:
    assert told(compare("s.t", None, table(state), (0, 1))) == expected({}, state)
    assert told(compare("s.t", table(state), None, (1, 2))) == expected(state, {})


def test_a_long_list_is_cut() -> None:
    many: State = {f"{number:05}": (1, 1) for number in range(SHOWN_CHANGES + 1)}
    diff = compare("s.t", None, table(many), (0, 1))
    assert (diff.added, len(diff.changes)) == (SHOWN_CHANGES + 1, SHOWN_CHANGES)
    assert diff.changes[0].partition_key == "00000"
