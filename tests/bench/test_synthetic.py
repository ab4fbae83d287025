"""Synthetic catalogs: what a reader of a real event log would have made."""

import json

import pyarrow.compute as pc
import pytest

from benchmarks import million, synthetic
from benchmarks.planning import STATEMENTS, planner
from dagfusion_contract.record import DataFile
from dagfusion_query.event_log.stored_event import EventReader


@pytest.mark.parametrize("count", [1, 50, 51, 1_234])
def test_a_catalog_has_as_many_partitions_as_asked_for(count: int) -> None:
    [table] = synthetic.snapshot(count).tables.values()
    assert str(table.name) == synthetic.TABLE
    assert len(table.files) == len(pc.unique(table.files["uri"])) == count
    assert table.problem is None


@pytest.mark.usefixtures("heavy")
def test_planning_keeps_the_files_of_the_statement() -> None:
    with planner(1_000) as over:
        kept = {statement: over.plan(statement).scans[0].count for statement in STATEMENTS}
    assert kept == {"point": 1, "state": 20, "everything": 1_000}


def test_the_template_of_an_event_is_an_event_of_each_partition() -> None:
    entry = {"label": "dagfusion/file", "entry_data": {"data": {}}}
    stored = {
        "dagster_event": {
            "event_specific_data": {
                "materialization": {"asset_key": {"path": []}, "partition": "", "metadata_entries": [entry]}
            }
        }
    }
    event = million.fill_in(million.template(json.dumps(stored)), "1970-01-02", "CA")
    file = EventReader().from_event(event)
    assert isinstance(file, DataFile)
    assert file.uri.endswith("/state=CA/date=1970-01-02/data.parquet")
    assert list(file.partition) == ["CA", "1970-01-02"]
    assert json.loads(event)["dagster_event"]["event_specific_data"]["materialization"]["partition"] == "1970-01-02|CA"
