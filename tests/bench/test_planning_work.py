"""How the work of planning a statement grows."""

from dataclasses import replace

import pytest

from benchmarks import synthetic
from benchmarks.planning import calls


@pytest.mark.usefixtures("alone")  # it counts the calls of all threads
def test_tables_that_a_statement_does_not_name_cost_it_nothing() -> None:
    snapshot = synthetic.snapshot(10)
    (table,) = snapshot.tables.values()
    names = [table.name._replace(table=f"other_{number}") for number in range(50)]
    others = {name: replace(table, name=name) for name in names}

    assert calls(replace(snapshot, tables={**snapshot.tables, **others}), "point") == calls(snapshot, "point")
