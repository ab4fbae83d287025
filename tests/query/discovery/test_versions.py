"""What other IO managers write, followed: each version looked at once, whatever happens in between."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dagfusion_contract.naming import TableName
from dagfusion_query.discovery import discovery as discovery_module
from dagfusion_query.discovery.foreign_objects import ForeignObjects
from tests.query.discovery.conftest import Follow, Report, Write, partitions, table
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.usefixtures("heavy")
ORDERS = TableName("uat_default", "orders")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects whose ends are read."""
    seen: list[str] = []
    tail = ForeignObjects.tail

    def counted(self: ForeignObjects, place: Any) -> Any:
        seen.append(place.uri)
        return tail(self, place)

    monkeypatch.setattr(ForeignObjects, "tail", counted)
    return seen


@dataclass
class HeldReads:
    """The reads of footers, which wait until they may go on."""

    go_on: threading.Event = field(default_factory=threading.Event)
    ended: int = 0


def held_reads(monkeypatch: pytest.MonkeyPatch) -> HeldReads:
    """Have all reads of footers wait from now on."""
    held, tail = HeldReads(), ForeignObjects.tail

    def waiting(self: ForeignObjects, place: Any) -> Any:
        assert held.go_on.wait(PATIENCE_S)
        found = tail(self, place)
        held.ended += 1
        return found

    monkeypatch.setattr(ForeignObjects, "tail", waiting)
    return held


def test_nothing_is_learnt_twice(
    deployment: Any, follow: Follow, report: Report, write: Write, looked_at: list[str]
) -> None:
    for number in range(5):
        report(deployment, write(f"{number}.parquet", n=[number]), str(number))
    state = deployment.home.parent / "state"
    csv = deployment.home.parent / "x.csv"
    csv.write_text("1")
    report(deployment, str(csv), key="csv")
    first = follow(deployment, state)
    assert len(looked_at) == 6
    first.close()
    second = follow(deployment, state)
    assert len(partitions(second)) == 5
    second.close()
    for manifest in state.glob("manifest-*"):
        manifest.unlink()
    third = follow(deployment, state)
    assert (len(partitions(third)), len(table(third, "csv").warnings)) == (5, 1)
    assert third.lag().full_reads == 1
    assert len(looked_at) == 6


def test_a_new_event_for_the_same_path_is_a_new_version(
    on_sqlite: Any, follow: Follow, report: Report, write: Write
) -> None:
    report(on_sqlite, write("a.parquet", n=[1]), "a")
    catalog = follow(on_sqlite)
    before = table(catalog).files.to_pylist()[0]
    report(on_sqlite, write("a.parquet", n=[1, 2], m=["x", "y"]), "a")
    catalog.refresh()
    (after,) = table(catalog).files.to_pylist()
    assert (before["rows"], after["rows"]) == (1, 2)
    assert table(catalog).file_schema.names == ["n", "m"]


def test_what_is_served_stays_until_the_new_version_is_learnt(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(on_sqlite, write("a.parquet", n=[1]), "a")
    catalog = follow(on_sqlite)
    held = held_reads(monkeypatch)
    report(on_sqlite, write("a.parquet", n=[1, 2]), "a")
    report(on_sqlite, write("b.parquet", n=[1, 2, 3]), "b")
    assert eventually(lambda: catalog.lag().undiscovered == 2)
    assert [row["rows"] for row in partitions(catalog)] == [1]
    held.go_on.set()
    assert eventually(lambda: sorted(row["rows"] for row in partitions(catalog)) == [2, 3])


def test_what_was_not_learnt_is_taken_up_after_a_restart(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = on_sqlite.home.parent / "state"
    report(on_sqlite, write("a.parquet", n=[1]), "a")
    before = follow(on_sqlite, state)
    with monkeypatch.context() as patch:
        patch.setattr(discovery_module.Discovery, "_start_threads", lambda _: None)
        report(on_sqlite, write("b.parquet", n=[1, 2]), "b")
        report(on_sqlite, write("c.parquet", n=[1]), key="c")
        assert eventually(lambda: before.lag().undiscovered == 2)
        # Its cursor moves on: a restart does not read these events again.
        assert eventually(lambda: "b" in _waiting(state))
        before.close()
    after = follow(on_sqlite, state)
    assert after.lag().full_reads == 0
    assert sorted(row["rows"] for row in partitions(after)) == [1, 2]
    assert len(partitions(after, "c")) == 1


def _waiting(state: Path) -> str:
    with sqlite3.connect(state / "discovered.sqlite") as database:
        return " ".join(str(json.loads(row[0])) for row in database.execute("select document from waiting"))


def test_an_object_that_comes_later_is_found(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery_module, "_LOOK_AGAIN_S", 0.1)
    path = write("late.parquet", n=[1])
    shutil.move(path, f"{path}.hidden")
    report(on_sqlite, path)
    catalog = follow(on_sqlite)
    assert "is gone" in str(table(catalog).problem)
    shutil.move(f"{path}.hidden", path)
    assert eventually(lambda: table(catalog).problem is None)
    assert len(partitions(catalog)) == 1


def test_wiped_assets_are_no_tables(deployment: Any, follow: Follow, report: Report, write: Write) -> None:
    report(deployment, write("a.parquet", n=[1]))
    catalog = follow(deployment)
    deployment.wipe(("orders",))
    assert eventually(lambda: ORDERS not in catalog.current().tables)
    report(deployment, write("a.parquet", n=[1, 2]))
    assert eventually(lambda: ORDERS in catalog.current().tables)


def test_a_run_that_is_deleted_while_it_is_learnt_leaves_nothing(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(on_sqlite, write("a.parquet", n=[1]), "a")
    catalog = follow(on_sqlite)
    held = held_reads(monkeypatch)
    report(on_sqlite, write("b.parquet", n=[1, 2]), "b")
    assert eventually(lambda: catalog.lag().undiscovered == 1)
    on_sqlite.wipe(("orders",))
    assert eventually(lambda: ORDERS not in catalog.current().tables)
    held.go_on.set()
    assert eventually(lambda: held.ended >= 1 and catalog.lag().undiscovered == 0), (held, catalog.lag())
    catalog.refresh()
    assert ORDERS not in catalog.current().tables


def test_a_bucket_that_is_named_later_counts_for_what_was_learnt(
    on_sqlite: Any, follow: Follow, report: Report, write: Write, file_record: Callable[..., dict[str, Any]]
) -> None:
    state = on_sqlite.home.parent / "state"
    report(on_sqlite, write("a.parquet", n=[1]))
    on_sqlite.report(file_record("NY", uri="s3://elsewhere/x.parquet"))
    before = follow(on_sqlite, state)
    assert [table.problem for table in before.current().tables.values()] == [None, None]
    before.close()
    after = follow(on_sqlite, state, bucket="bucket")
    assert after.current().generation > before.current().generation
    assert None not in [table.problem for table in after.current().tables.values()]


def test_a_slow_store_holds_nothing_else_up(
    on_sqlite: Any, follow: Follow, report: Report, monkeypatch: pytest.MonkeyPatch, file_record: Callable[..., Any]
) -> None:
    on_sqlite.report(file_record("CA"))
    catalog = follow(on_sqlite)
    held = threading.Event()
    monkeypatch.setattr(ForeignObjects, "tail", lambda *_: held.wait(PATIENCE_S))
    for number in range(50):
        report(on_sqlite, f"/nowhere/{number}.parquet", str(number))
    on_sqlite.report(file_record("NY"))
    own = TableName("uat_silver_tax_id", "partitioned_organizations")
    assert eventually(lambda: len(catalog.current().tables[own].files) == 2)
    assert catalog.lag().undiscovered == 50
    held.set()
