"""Selections: a catalog of chosen partitions under chosen names."""

import pytest

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Selection, Snapshot, find_table, missing_partitions, selected
from tests.query.catalog.folding import EMPTY, NAME, ORGS, Record, written

OTHER = ("Silver", "other")
ALIAS, SECOND = TableName("public", "Silver/orgs"), TableName("silver", "orgs")


@pytest.fixture
def snapshot(file_record: Record) -> Snapshot:
    events = [written(file_record(state), number) for number, state in enumerate(("CA", "NY", "TX"), 1)]
    return fold(EMPTY, [*events, written(file_record(), 9, OTHER)])


def partitions(snapshot: Snapshot, name: TableName) -> list[str]:
    return sorted(snapshot.tables[name].files["partition_key"].to_pylist())


def test_only_what_is_selected_is_there_under_its_names(snapshot: Snapshot) -> None:
    day = "|2024-01-15"
    chosen = selected(snapshot, [Selection(ORGS, (ALIAS, SECOND), frozenset({f"CA{day}", f"TX{day}"}))])
    assert chosen.tables.keys() == {ALIAS, SECOND}
    assert partitions(chosen, ALIAS) == partitions(chosen, SECOND) == [f"CA{day}", f"TX{day}"]
    assert chosen.tables[ALIAS].name == ALIAS
    assert len(partitions(snapshot, NAME)) == 3, "a generation never changes"


def test_all_partitions_or_none(snapshot: Snapshot) -> None:
    whole = selected(snapshot, [Selection(ORGS, (ALIAS,)), Selection(("no", "such"), (SECOND,))])
    assert whole.tables.keys() == {ALIAS}
    assert partitions(whole, ALIAS) == partitions(snapshot, NAME)
    nothing = selected(snapshot, [Selection(ORGS, (ALIAS,), frozenset())])
    assert partitions(nothing, ALIAS) == []
    table = find_table(snapshot, ORGS)
    assert table is not None
    assert nothing.tables[ALIAS].file_schema == table.file_schema


def test_missing_partitions_are_named_in_order(snapshot: Snapshot) -> None:
    wanted = frozenset({"WY|2024-01-15", "CA|2024-01-15", "AK|2024-01-15"})
    assert missing_partitions(snapshot, Selection(ORGS, (ALIAS,), wanted)) == ["AK|2024-01-15", "WY|2024-01-15"]
    assert missing_partitions(snapshot, Selection(ORGS, (ALIAS,))) == []
    assert missing_partitions(snapshot, Selection(("no", "such"), (ALIAS,), frozenset({"x"}))) == ["x"]
