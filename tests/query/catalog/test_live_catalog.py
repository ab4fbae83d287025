"""The same behaviour over both event logs (`deployment` is PostgreSQL, then SQLite)."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog import log_follower
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.snapshot import SnapshotStore
from tests.query.catalog.following import ORGS, Clock, Opened, Record, partitions, wait_for


def test_the_first_snapshot_holds_the_latest_of_each_partition(
    deployment: Any, catalog_of: Opened, file_record: Record
) -> None:
    deployment.report(file_record("CA", rows=1))
    deployment.report(file_record("NY"))
    deployment.report(file_record("CA", rows=2))
    table = catalog_of(deployment.open()).current().tables[ORGS]
    rows = {row["partition_key"]: row["rows"] for row in table.files.to_pylist()}
    assert rows == {"2024-01-15|CA": 2, "2024-01-15|NY": 321}
    ids = table.files["event_id"].to_pylist()
    stored = deployment.instance.fetch_materializations(dg.AssetKey(list(table.asset_key)), limit=10).records
    assert set(ids) == {stored[0].storage_id, stored[1].storage_id}
    moments = sorted(moment.timestamp() for moment in table.files["materialized_at"].to_pylist())
    assert moments == pytest.approx(sorted(record.timestamp for record in stored[:2]), abs=1e-5)


def test_a_real_run_is_read(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    run_id = deployment.materialize(file_record(partition=[]))
    catalog = catalog_of(deployment.open())
    (row,) = catalog.current().tables[TableName("uat_default", "made")].files.to_pylist()
    assert (row["run_id"], row["partition_key"]) == (run_id, None)
    again = deployment.materialize(file_record(partition=[], rows=7))
    (row,) = catalog.refresh().tables[TableName("uat_default", "made")].files.to_pylist()
    assert (row["run_id"], row["rows"]) == (again, 7)


def test_the_next_process_reads_no_event_again(
    deployment: Any, catalog_of: Opened, file_record: Record, tmp_path: Path
) -> None:
    for state in ("CA", "NY", "CA"):
        deployment.report(file_record(state))
    catalog_of(deployment.open(), tmp_path / "state").close()
    stored = SnapshotStore(tmp_path / "state").load("uat")
    assert stored is not None
    with contextlib.closing(deployment.open()) as log:
        assert log.poll(stored.cursor).events == []


def test_keys_and_partitions_of_any_text_are_read(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    key = ('Sil"ver', "Täx'ID", "日本\\")
    state = "a'b\"c|d\\ü😀"
    deployment.report(file_record(state), partition=state, key=key)
    catalog = catalog_of(deployment.open())
    deployment.report(file_record(state, rows=5), partition=state, key=key)
    (table,) = catalog.refresh().tables.values()
    assert table.asset_key == key
    assert table.files.select(["partition_key", "rows"]).to_pylist() == [{"partition_key": state, "rows": 5}]


def test_a_new_materialization_becomes_visible_by_itself(
    deployment: Any, catalog_of: Opened, file_record: Record
) -> None:
    deployment.report(file_record("CA"))
    catalog = catalog_of(deployment.open(), poll_interval_s=0.25)
    for state in ("NY", "TX", "WA"):
        before = catalog.current()
        deployment.report(file_record(state))
        wait_for(lambda before=before: catalog.current() is not before)  # type: ignore[misc]
    assert partitions(catalog.current()) == {f"2024-01-15|{state}" for state in ("CA", "NY", "TX", "WA")}
    assert catalog.lag().full_reads == 1, "it looked for what is new, and read nothing again"


def test_a_new_asset_appears(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    deployment.report(file_record("CA"))
    catalog = catalog_of(deployment.open())
    deployment.report(file_record("CA"), key=("Gold", "new"))
    assert TableName("uat_gold", "new") in catalog.refresh().tables


def test_a_wiped_asset_goes_and_comes_back(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    deployment.report(file_record("CA"))
    deployment.report(file_record("CA"), key=("Gold", "other"))
    catalog = catalog_of(deployment.open())
    deployment.wipe()
    assert list(catalog.refresh().tables) == [TableName("uat_gold", "other")]
    assert partitions(catalog_of(deployment.open()).current()) == set()
    deployment.report(file_record("NY"))
    assert partitions(catalog.refresh()) == {"2024-01-15|NY"}
    assert partitions(catalog_of(deployment.open()).current()) == {"2024-01-15|NY"}


def test_a_wipe_between_two_looks_is_not_missed(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    for state in ("CA", "NY"):
        deployment.report(file_record(state))
    catalog = catalog_of(deployment.open(), poll_interval_s=60)
    deployment.wipe()
    for state in ("TX", "WA"):  # as many as before: SQLite gives their ids again
        deployment.report(file_record(state))
    assert partitions(catalog.refresh()) == {"2024-01-15|TX", "2024-01-15|WA"}


def test_a_deleted_run_is_noticed(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    deployment.report(file_record("CA"))
    run_id = deployment.materialize(file_record(partition=[]))
    deployment.report(file_record("NY"))
    catalog = catalog_of(deployment.open(), verify_interval_s=0.0)
    made = TableName("uat_default", "made")
    assert made in catalog.current().tables
    deployment.instance.delete_run(run_id)
    wait_for(lambda: made not in catalog.current().tables)
    assert partitions(catalog.current()) == {"2024-01-15|CA", "2024-01-15|NY"}


def test_a_deleted_latest_event_uncovers_the_one_before(
    deployment: Any, catalog_of: Opened, file_record: Record
) -> None:
    first = deployment.materialize(file_record(partition=[], rows=1))
    second = deployment.materialize(file_record(partition=[], rows=2))
    catalog = catalog_of(deployment.open(), verify_interval_s=0.0)
    made = TableName("uat_default", "made")
    deployment.instance.delete_run(second)
    wait_for(lambda: catalog.current().tables[made].files["run_id"].to_pylist() == [first])


def test_a_full_read_comes_on_schedule(
    deployment: Any, catalog_of: Opened, file_record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, log_follower.__name__)
    deployment.report(file_record("CA"))
    clock = Clock()
    catalog = catalog_of(deployment.open(), poll_interval_s=600, full_read_interval_s=3600, clock=clock)
    before = catalog.current()
    for full_reads, passed_s in ((1, 3599), (2, 1), (2, 3599), (3, 1)):
        clock.now += passed_s
        assert catalog.refresh() is before, "a full read that finds nothing new changes nothing"
        assert catalog.lag().full_reads == full_reads
    assert caplog.messages[-1] == "read the event log in full: the last full read was 3600 s ago"


def test_assets_of_others_are_no_tables(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    deployment.report(None, partition="x", key=("not", "ours"))
    deployment.report(file_record("CA"))
    catalog = catalog_of(deployment.open())
    deployment.report(None, partition="y", key=("not", "ours"))
    assert list(catalog.refresh().tables) == [ORGS]


def test_one_bad_event_hides_nothing_else(deployment: Any, catalog_of: Opened, file_record: Record) -> None:
    deployment.report(file_record("CA"))
    deployment.report(file_record("NY", version=2))
    catalog = catalog_of(deployment.open())
    deployment.report(file_record("TX", rows="many"))
    table = catalog.refresh().tables[ORGS]
    assert table.problem is None
    assert partitions(catalog.current()) == {"2024-01-15|CA"}
    version, rows = map(str, table.warnings)
    assert "partition '2024-01-15|NY'" in version
    assert "version must be 1, got 2" in version
    assert "partition '2024-01-15|TX'" in rows
    assert "rows must be an integer, got 'many'" in rows


def test_a_stored_snapshot_is_served_without_a_full_read(
    deployment: Any, catalog_of: Opened, file_record: Record, tmp_path: Path
) -> None:
    deployment.report(file_record("CA"))
    catalog_of(deployment.open(), tmp_path / "state").close()
    deployment.report(file_record("NY"))
    catalog = catalog_of(deployment.open(), tmp_path / "state")
    assert catalog.lag().full_reads == 0
    assert partitions(catalog.current()) == {"2024-01-15|CA", "2024-01-15|NY"}


def test_a_stored_snapshot_of_another_log_is_not_used(
    on_postgres: Any,
    on_sqlite: Any,
    catalog_of: Opened,
    file_record: Record,
    tmp_path: Path,
) -> None:
    on_postgres.report(file_record("CA"))
    catalog_of(on_postgres.open(), tmp_path / "state").close()
    on_sqlite.report(file_record("NY"))
    catalog = catalog_of(on_sqlite.open(), tmp_path / "state")
    assert partitions(catalog.current()) == {"2024-01-15|NY"}
    assert catalog.full_reads == 1


def all_are_settled(catalog: LiveCatalog) -> bool:
    """Return True if the watermark has passed the events that the catalog has."""
    stored = catalog.latest()
    return stored is not None and not stored.cursor.watermark.seen and stored.cursor.watermark.settled > 0


def test_what_happened_while_nobody_looked_is_found(
    deployment: Any, catalog_of: Opened, file_record: Record, tmp_path: Path
) -> None:
    run_id = deployment.materialize(file_record(partition=[]))
    for state in ("CA", "NY"):
        deployment.report(file_record(state))
    first = catalog_of(deployment.open(), tmp_path / "state")
    wait_for(lambda: first.refresh() is not None and all_are_settled(first))
    first.close()
    deployment.instance.delete_run(run_id)
    deployment.wipe()
    deployment.report(file_record("TX"))
    catalog = catalog_of(deployment.open(), tmp_path / "state")
    assert {str(name) for name in catalog.current().tables} == {str(ORGS)}
    assert partitions(catalog.current()) == {"2024-01-15|TX"}


def test_a_damaged_snapshot_leads_to_a_full_read(
    deployment: Any, catalog_of: Opened, file_record: Record, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deployment.report(file_record("CA"))
    catalog_of(deployment.open(), tmp_path / "state").close()
    for path in (tmp_path / "state" / "segments").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    catalog = catalog_of(deployment.open(), tmp_path / "state")
    assert catalog.lag().full_reads == 1
    assert partitions(catalog.current()) == {"2024-01-15|CA"}
    assert "the catalog is read anew" in caplog.text


@pytest.mark.usefixtures("heavy")
def test_a_snapshot_of_another_version_leads_to_a_full_read(
    on_sqlite: Any, catalog_of: Opened, file_record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_sqlite.report(file_record("CA", checksum=f"sha256:{'0f' * 32}"))
    with monkeypatch.context() as patch:
        patch.setattr("dagfusion_query.catalog.manifest.FORMAT", 2)
        old = catalog_of(on_sqlite.open(), tmp_path / "state")
        old.close()
    catalog = catalog_of(on_sqlite.open(), tmp_path / "state")
    assert catalog.lag().full_reads == 1
    assert catalog.current().generation > old.current().generation
    assert catalog.current().tables[ORGS].files["checksum"].to_pylist() == [f"sha256:{'0f' * 32}"]


def test_a_generation_that_a_query_holds_does_not_change(
    deployment: Any, catalog_of: Opened, file_record: Record
) -> None:
    deployment.report(file_record("CA", rows=1))
    catalog = catalog_of(deployment.open())
    held = catalog.current()
    deployment.report(file_record("CA", rows=2))
    deployment.report(file_record("NY"))
    catalog.refresh()
    assert held.tables[ORGS].files["rows"].to_pylist() == [1]
    assert catalog.current().generation > held.generation
