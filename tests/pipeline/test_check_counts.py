"""The work of checks: statements, calls and searches for cycles, and how they grow with the partitions."""

import datetime as dt
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import dagster as dg
import pytest
import sqlalchemy

from dagfusion_pipeline import asset_checks, check_results, partition_checks
from tests.contract.records import file_record
from tests.pipeline.test_partition_checks import KEYS, MULTI, NoStore, checked, orgs_asset, report, run

MANY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-11")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# For a partition and a check: of the package, and of all libraries. Dagster's own reading of an event takes thousands.
CALLS, ALL_CALLS = 6, 40


@contextmanager
def statements() -> Iterator[list[str]]:
    """Yield the SQL statements that are executed in a `with` block."""
    asked = list[str]()

    def ask(*given: object) -> None:
        asked.append(str(given[2]))

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", ask)
    try:
        yield asked
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", ask)


@contextmanager
def calls() -> Iterator[list[str]]:
    """Yield the file of each Python function that this thread calls in a `with` block."""
    files = list[str]()

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.append(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield files
    finally:
        sys.setprofile(before)


@pytest.mark.usefixtures("heavy")
def test_the_work_of_a_run_of_checks_is_little_for_each_partition(instance: dg.DagsterInstance) -> None:
    """As many statements for all partitions as for one, and few calls for each; the benchmark has the time."""
    spec = dg.AssetSpec("orgs", partitions_def=MANY)
    bounds = {"npi": (0, 9)}
    every = partition_checks(
        spec, rows=(1, None), not_null=["npi"], bounds=bounds, schema=True, fresh_within=dt.timedelta(days=1 << 20)
    )
    job = dg.define_asset_job("check_all", selection=dg.AssetSelection.checks(every))
    defs = dg.Definitions(assets=[spec], asset_checks=[every], jobs=[job], resources={"io": NoStore(bucket="lake")})
    check_all = defs.resolve_job_def("check_all")
    days = MANY.get_partition_keys()

    def work(count: int) -> tuple[int, int, int]:
        for day in days[:count]:
            record = dg.MetadataValue.json(file_record(date=day))
            event = dg.AssetMaterialization("orgs", partition=day, metadata={"dagfusion/file": record})
            instance.report_runless_asset_event(event)
        with statements() as asked, calls() as files:
            results = check_all.execute_in_process(QUIET, instance).get_asset_check_evaluations()
        assert [result.passed for result in results] == [True] * 5
        assert {result.metadata["partitions"].value for result in results} == {count, len(days)}  # of the definition
        return len(asked), sum("dagfusion_pipeline" in file for file in files), len(files)

    work(1)  # imports, and what Dagster keeps
    (few, own_few, all_few), (many, own_many, all_many) = work(1), work(len(days))
    assert many == few
    one_check = 5 * (len(days) - 1)
    assert 1 <= (own_many - own_few) / one_check <= CALLS
    assert (all_many - all_few) / one_check <= ALL_CALLS


@pytest.mark.parametrize("count", [1, 8])
def test_the_event_log_is_asked_as_often_for_one_partition_as_for_many(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """With `NoStore`, no object is requested either; so 18,250 partitions take as many queries by the 1,000."""
    key, partitions = dg.AssetKey("orgs"), [str(partition) for partition in MULTI.get_partition_keys()]
    for partition in partitions[:count]:
        report(instance, key, partition)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Dagster's objects of keys take longer than all else")

    monkeypatch.setattr(dg.MultiPartitionsDefinition, "get_partition_keys", refuse)
    monkeypatch.setattr(dg.MultiPartitionsDefinition, "get_partition_key_from_str", refuse)
    with statements() as asked:
        found = checked(instance, key, MULTI)
        assert found.window_end is not None
        assert found.window_end("2024-01-02|CA") == dt.datetime(2024, 1, 3, tzinfo=dt.UTC)
    assert found.keys == partitions
    assert [*found.events] == partitions[:count]
    assert len([text for text in asked if "event_logs" in text]) == 2


@pytest.mark.usefixtures("heavy")
def test_no_cycles_are_sought_while_records_are_compared(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    during = list[bool]()

    def evaluate(*given: Any) -> dg.AssetCheckResult:
        during.append(gc.isenabled())
        return check_results.check_result(*given)

    monkeypatch.setattr(asset_checks, "check_result", evaluate)
    asset = orgs_asset(KEYS)
    run([asset], partition_checks(asset, complete=True), instance)
    assert during == [False]
    assert gc.isenabled()
