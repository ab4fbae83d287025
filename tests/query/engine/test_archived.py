"""Archived objects are left out of statements, in every way that they run, from the day on that the rule names."""

import datetime as dt
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_query.catalog.past_tables import as_past
from dagfusion_query.scan import large_objects, table_scan
from tests.query.engine.conftest import Lake
from tests.query.engine.consolidating import consolidate
from tests.query.engine.test_views import publish

pytestmark = pytest.mark.usefixtures("heavy")
T = "local_default.t"
RECURSIVE = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 1)"
NOW = dt.datetime(2024, 4, 15, 12, tzinfo=dt.UTC)
AGES = {"old": 200, "mid": 60, "new": 1}
STATEMENTS = {
    "catalog": f"SELECT count(*) AS n, min(id) AS low FROM {T}",
    "splice": f"SELECT count(*) AS n, min(id) AS low FROM {T} WHERE id * 2 > -1",
    "staged": f"{RECURSIVE} SELECT count(*) AS n, min(id) AS low FROM r, {T} WHERE id * 2 > -1",
}
EVERY_PATH = pytest.mark.parametrize("path", STATEMENTS)


class Clock:
    """The time by which objects are archived."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def archive(new_lake: Callable[..., Lake], clock: Clock) -> Lake:
    """Three partitions of ten rows, of which objects are archived after 90 days."""
    lake = new_lake(settings={"DAGFUSION_ARCHIVED_AFTER_DAYS": "90"}, now=clock)
    for number, (name, age) in enumerate(AGES.items()):
        rows = pa.table({"id": range(10 * number, 10 * number + 10)})
        lake.write(("t",), rows, {"p": pa.scalar(name)}, modified=NOW - dt.timedelta(days=age))
    return lake


@EVERY_PATH
def test_every_path_leaves_out_archived_objects_and_says_so(archive: Lake, path: str) -> None:
    sql = STATEMENTS[path]
    prepared = archive.prepare(sql)
    assert prepared.path == path
    assert archive.rows(sql) == [{"n": 20, "low": 10}]
    (warning,) = prepared.warnings
    assert "leaves out 1 partition of local_default.t, whose objects were written by 2024-01-16 00:00 UTC" in warning
    (scan,) = archive.engine.explain(prepared).scans
    assert (scan.files_total, scan.files_left_out) == (2, 1)
    assert "1 archived files left out" in archive.engine.explain(prepared).summary()


@EVERY_PATH
def test_a_plan_is_not_used_again_after_an_object_was_archived(archive: Lake, clock: Clock, path: str) -> None:
    sql = STATEMENTS[path]
    first = archive.prepare(sql)
    clock.now = NOW.replace(hour=23, minute=59)
    assert archive.prepare(sql) is first
    clock.now += dt.timedelta(days=40)
    assert archive.rows(sql) == [{"n": 10, "low": 20}]
    assert "leaves out 2 partitions" in archive.prepare(sql).warnings[0]
    clock.now += dt.timedelta(days=60)
    assert archive.rows(sql) == [{"n": 0, "low": None}]
    assert archive.rows(f"SELECT p, id FROM {T}") == []
    assert archive.rows(f"SELECT p, count(*) AS n FROM {T} GROUP BY p") == []


def test_a_statement_whose_filters_rule_out_what_is_archived_has_no_warning(archive: Lake) -> None:
    for filters, is_warned in (
        ("p = 'new'", False),
        ("p <> 'old'", False),
        ("id >= 10", False),  # by the bounds of the column
        ("p = 'old'", True),
        ("p IN ('old', 'new')", True),
        ("id % 10 = 3", True),
    ):
        for what in ("count(*)", "sum(id)"):
            assert bool(archive.prepare(f"SELECT {what} FROM {T} WHERE {filters}").warnings) is is_warned, filters


def test_a_table_that_is_scanned_twice_has_one_warning_for_all_partitions(archive: Lake, clock: Clock) -> None:
    clock.now += dt.timedelta(days=40)
    (warning,) = archive.prepare(
        f"SELECT id FROM {T} WHERE p = 'old' UNION ALL SELECT id FROM {T} WHERE p = 'mid'"
    ).warnings
    assert "leaves out 2 partitions of" in warning


def test_kept_results_are_those_of_the_same_files(new_lake: Callable[..., Lake], clock: Clock) -> None:
    folder = {"DAGFUSION_RESULT_CACHE_DIR": str(new_lake().root / "results")}
    lake = new_lake(settings={"DAGFUSION_ARCHIVED_AFTER_DAYS": "90", **folder}, now=clock, with_etags=True)
    for number, (name, age) in enumerate(AGES.items()):
        rows = pa.table({"id": [number]})
        lake.write(("t",), rows, {"p": pa.scalar(name)}, modified=NOW - dt.timedelta(days=age))

    def total() -> tuple[Any, str | None]:
        prepared = lake.prepare(f"SELECT sum(id) AS s FROM {T} WHERE id * 2 > -1")
        run = lake.engine.run(prepared)
        (batch,) = iter(run.next, None)
        return batch.to_pylist()[0]["s"], run.path

    assert [total() for _ in range(3)][-1] == (3, "cache")
    clock.now += dt.timedelta(days=40)
    assert total() == (2, None)


def test_large_objects_with_left_out_rows_are_read_only_for_the_others(
    archive: Lake, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (large_objects, table_scan):
        monkeypatch.setattr(module, "FOOTER_REQUESTS", -(1 << 20))  # three files are worth a large object
    (table,) = archive.snapshot.tables.values()
    sql = f"SELECT p, sum(id) AS s FROM {T} GROUP BY p ORDER BY p"
    rest = [{"p": "mid", "s": 145}, {"p": "new", "s": 245}]
    for group_rows in (10, 20, 1000):
        consolidate(archive, table, Random(3), group_rows=group_rows)  # noqa: S311
        assert archive.rows(sql) == rest
        (scan,) = archive.prepare(sql).scans
        if group_rows == 10:  # each partition has a row group of its own
            assert scan.large is not None
            assert len(scan.large.files) == 2
    clock.now += dt.timedelta(days=40)
    assert archive.rows(sql) == rest[1:]


@EVERY_PATH
def test_past_states_and_views_leave_out_archived_objects_too(archive: Lake, path: str) -> None:
    sql = STATEMENTS[path]
    prepared = archive.engine.prepare(sql, None, as_past(archive.snapshot), archive.snapshot)
    run = archive.engine.run(prepared)
    assert [row for batch in iter(run.next, None) for row in batch.to_pylist()] == [{"n": 20, "low": 10}]
    assert prepared.warnings

    view = publish(archive, ("Gold", "all"), f"SELECT id FROM {T}", [T])
    assert archive.rows(sql.replace(T, view)) == [{"n": 20, "low": 10}]
    assert archive.prepare(sql.replace(T, view)).warnings


@EVERY_PATH
def test_a_null_that_only_archived_partitions_have(archive: Lake, path: str) -> None:
    rows = pa.table({"id": [99]})
    archive.write(("t",), rows, {"p": pa.scalar(None, pa.string())}, modified=NOW - dt.timedelta(days=91))
    assert archive.rows(STATEMENTS[path]) == [{"n": 20, "low": 10}]
    assert "2 partitions" in archive.prepare(STATEMENTS[path]).warnings[0]
    nulls = archive.prepare(f"SELECT id FROM {T} WHERE p IS NULL")
    assert "1 partition" in nulls.warnings[0]


def test_only_the_tables_of_an_environment_with_the_setting(new_lake: Callable[..., Lake]) -> None:
    lake = new_lake(now=lambda: NOW)
    lake.write(("t",), pa.table({"id": [1]}), modified=NOW - dt.timedelta(days=9000))
    assert lake.rows(f"SELECT id FROM {T}") == [{"id": 1}]
    assert lake.prepare(f"SELECT id FROM {T}").warnings == ()
