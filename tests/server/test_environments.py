"""Several environments in one service: each by itself, and none without what is on disk."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from dagfusion_client.as_of import AsOf
from dagfusion_client.errors import EnvironmentUnavailableError, SnapshotError, UnknownTableError
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_query.catalog.mapped_catalog import MappedCatalog
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.engine.engine import Engine
from dagfusion_query.service_settings import EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import Settings
from dagfusion_server.environments import Environments, EnvironmentState

Record = Callable[..., dict[str, Any]]
Follow = Callable[..., Environments]
PATIENCE_S = 20.0


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Follow event logs by environment name."""
    with ExitStack() as stack:

        def make(**event_logs: str) -> Environments:
            state = tmp_path / "state"
            settings = [
                Settings(log, name, state_dir=str(state / name), poll_interval_s=0.05)
                for name, log in event_logs.items()
            ]
            configs = [
                EnvironmentConfig(s.environment, s, EnvironmentSettings(dagster_url=f"http://{s.environment}"))
                for s in settings
            ]
            environments = Environments(Config(ServiceSettings(), tuple(configs), state))
            stack.callback(environments.close)
            return environments

        yield make


def until(environments: Environments, name: str, holds: Callable[[EnvironmentState], bool]) -> EnvironmentState:
    deadline = time.monotonic() + PATIENCE_S
    while not holds(state := environments.states()[name]):
        assert time.monotonic() < deadline, f"it never came to hold: {state}"
        time.sleep(0.01)
    return state


def orgs(name: str) -> TableName:
    return TableName(f"{name}_silver_tax_id", "partitioned_organizations")


@pytest.mark.usefixtures("heavy")
def test_each_environment_has_its_own_tables(on_sqlite: Any, follow: Follow, file_record: Record) -> None:
    on_sqlite.report(file_record("CA"))
    environments = follow(uat=str(on_sqlite.home), prod=str(on_sqlite.home))
    environments.refresh(PATIENCE_S)
    states = environments.states()
    assert {name: list(state.snapshot.tables) for name, state in states.items()} == {n: [orgs(n)] for n in states}
    assert states["uat"].snapshot.tables[orgs("uat")].environment == "uat"
    assert states["prod"].problem is None
    assert states["prod"].dagster_url == "http://prod"


@pytest.mark.usefixtures("heavy")
def test_the_published_generation_is_on_disk(on_sqlite: Any, follow: Follow, file_record: Record) -> None:
    on_sqlite.report(file_record("CA"))
    environments = follow(uat=str(on_sqlite.home))
    environments.refresh(PATIENCE_S)
    for state in ("NY", "TX"):
        on_sqlite.report(file_record(state))
        environments.refresh(PATIENCE_S)
        published = environments.states()["uat"]
        mapped = MappedCatalog(published.folder, "uat").at(published.snapshot.generation)
        assert len(mapped.tables[orgs("uat")].files) == len(published.snapshot.tables[orgs("uat")].files)


def test_one_that_is_down_at_start_comes_later(
    on_sqlite: Any, follow: Follow, file_record: Record, tmp_path: Path
) -> None:
    on_sqlite.report(file_record("CA"))
    late = tmp_path / "late"
    environments = follow(uat=str(on_sqlite.home), prod=str(late))
    environments.refresh(PATIENCE_S)
    down = until(environments, "prod", lambda state: "is not where" in str(state.problem))
    assert isinstance(down.problem, EnvironmentUnavailableError)
    assert str(tmp_path) not in str(down.problem), "callers learn no folder"
    assert (down.snapshot.tables, down.lag) == ({}, None)
    assert environments.states()["uat"].problem is None
    late.symlink_to(on_sqlite.home)
    environments.refresh(PATIENCE_S)
    assert orgs("prod") in until(environments, "prod", lambda state: state.problem is None).snapshot.tables


def test_one_that_goes_down_serves_its_last_snapshot(on_sqlite: Any, follow: Follow, file_record: Record) -> None:
    on_sqlite.report(file_record("CA"))
    environments = follow(uat=str(on_sqlite.home))
    environments.refresh(PATIENCE_S)
    (on_sqlite.home / "history").rename(on_sqlite.home / "elsewhere")
    down = until(environments, "uat", lambda state: state.lag is not None and state.lag.last_error is not None)
    later = until(environments, "uat", lambda state: state.lag is not None and state.lag.age_s > 0.3)
    assert down.problem is None
    assert isinstance(down.current_problem, EnvironmentUnavailableError)
    assert orgs("uat") in later.snapshot.tables


@pytest.mark.usefixtures("heavy")
def test_the_past_of_a_table_that_is_a_view_now_needs_a_grant_of_its_own(
    on_sqlite: Any, follow: Follow, file_record: Record
) -> None:
    once, public = ("Silver", "once"), orgs("uat")
    on_sqlite.report(file_record("CA"))
    on_sqlite.report(file_record("NY"), key=once)
    record = view_entry(View("SELECT 1 AS a", [public], pa.schema({"a": pa.int64()})))
    event = dg.AssetMaterialization(dg.AssetKey(once), metadata={VIEW_ENTRY: dg.MetadataValue.json(record)})
    on_sqlite.instance.report_runless_asset_event(event)
    environments = follow(uat=str(on_sqlite.home))
    environments.refresh(PATIENCE_S)
    name = TableName("uat_silver", "once")
    assert environments.states()["uat"].snapshot.tables[name].view is not None

    def allow(_: str, table: TableName) -> bool:
        return table == public

    with pytest.raises(UnknownTableError):
        environments.diff(name, AsOf(1), AsOf(2), allow)
    with pytest.raises(UnknownTableError):
        environments.revisions(name, 10, allow)
    assert environments.diff(name, AsOf(1), AsOf(2), lambda *_: True).added == 1


@pytest.mark.parametrize("gone", [".", "history"])
def test_a_history_is_read_and_its_failure_names_no_folder(
    on_sqlite: Any, follow: Follow, file_record: Record, tmp_path: Path, gone: str
) -> None:
    on_sqlite.report(file_record("CA"))
    environments = follow(uat=str(on_sqlite.home))
    environments.refresh(PATIENCE_S)
    table = environments.states()["uat"].snapshot.tables[orgs("uat")]
    key = table.files["partition_key"][0].as_py()
    assert environments.history("uat", table.asset_key, key).materialized_at_us is not None

    (on_sqlite.home / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentUnavailableError, match="environment uat") as caught:
        environments.history("uat", table.asset_key, key)
    assert str(on_sqlite.home) not in str(caught.value), "callers learn no folder"


def test_a_restart_serves_what_was_left_while_the_database_is_down(
    on_sqlite: Any, follow: Follow, file_record: Record
) -> None:
    on_sqlite.report(file_record("CA"))
    before = follow(uat=str(on_sqlite.home))
    before.refresh(PATIENCE_S)
    before.close()
    (on_sqlite.home / "history").rename(on_sqlite.home / "elsewhere")
    state = until(follow(uat=str(on_sqlite.home)), "uat", lambda state: state.problem is None)
    assert orgs("uat") in state.snapshot.tables


def test_a_damaged_snapshot_is_followed_by_a_later_one(on_sqlite: Any, follow: Follow, file_record: Record) -> None:
    on_sqlite.report(file_record("CA"))
    before = follow(uat=str(on_sqlite.home))
    before.refresh(PATIENCE_S)
    generation = before.states()["uat"].snapshot.generation
    before.close()
    for manifest in before.states()["uat"].folder.glob("manifest-*"):
        manifest.write_bytes(b"torn")
    after = follow(uat=str(on_sqlite.home))
    after.refresh(PATIENCE_S)
    state = after.states()["uat"]
    assert state.snapshot.generation > generation
    assert orgs("uat") in MappedCatalog(state.folder, "uat").at(state.snapshot.generation).tables


@pytest.mark.usefixtures("heavy")
def test_a_full_disk_holds_the_catalog_back_until_there_is_room(
    on_sqlite: Any, follow: Follow, file_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_sqlite.report(file_record("CA"))
    environments = follow(uat=str(on_sqlite.home))
    environments.refresh(PATIENCE_S)
    before = environments.states()["uat"].snapshot
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(SnapshotStore, "_write_rows", full)
        on_sqlite.report(file_record("NY"))
        stuck = until(environments, "uat", lambda s: s.lag is not None and isinstance(s.lag.last_error, SnapshotError))
        assert stuck.snapshot is before
        until(environments, "uat", lambda s: s.lag is not None and s.lag.age_s > 0.2)
    freed = until(environments, "uat", lambda s: s.lag is not None and s.lag.last_error is None)
    assert freed.lag is not None
    assert freed.lag.age_s < PATIENCE_S
    assert len(freed.snapshot.tables[orgs("uat")].files) == 2


@pytest.mark.usefixtures("heavy")
def test_a_full_disk_at_the_start_is_a_problem(
    on_sqlite: Any, follow: Follow, file_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_sqlite.report(file_record("CA"))
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(SnapshotStore, "_write_manifest", full)
        environments = follow(uat=str(on_sqlite.home))
        until(environments, "uat", lambda state: "cannot be written" in str(state.problem))
    until(environments, "uat", lambda state: state.problem is None)


def test_closing_does_not_wait_for_the_next_try_while_one_is_down(
    follow: Follow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagfusion_server.environments._FIRST_RETRY_S", 600.0)
    monkeypatch.setattr("dagfusion_server.environments._CLOSE_TIMEOUT_S", PATIENCE_S)
    environments = follow(uat="postgresql://nobody@127.0.0.1:1/none", prod=str(tmp_path))
    until(environments, "uat", lambda state: "does not answer" in str(state.problem))
    environments.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("dagfusion-start-")] == []
    assert environments.states()["uat"].problem is not None


def test_a_query_that_names_an_unavailable_environment_says_so(
    on_sqlite: Any, follow: Follow, file_record: Record
) -> None:
    on_sqlite.report(file_record("CA"))
    environments = follow(uat=str(on_sqlite.home), prod="postgresql://nobody:secret@127.0.0.1:1/none")
    environments.refresh(PATIENCE_S)
    down = until(environments, "prod", lambda state: "does not answer" in str(state.problem))
    assert down.problem is not None
    assert "127.0.0.1" not in str(down.problem)
    snapshot = environments.states()["uat"].snapshot
    merged = type(snapshot)(1, "", snapshot.tables, unavailable={"prod": down.problem})
    engine = Engine(Settings(), {"uat": Settings(environment="uat")})
    try:
        sql = "SELECT count(*) FROM uat_silver_tax_id.partitioned_organizations"
        assert engine.prepare(sql, None, merged).scans
        with pytest.raises(EnvironmentUnavailableError, match="environment prod cannot be read now"):
            engine.prepare("SELECT * FROM prod_silver.orders", None, merged)
        with pytest.raises(Exception, match=r"there is no table production_silver\.orders"):
            engine.prepare("SELECT * FROM production_silver.orders", None, merged)
    finally:
        engine.close()
