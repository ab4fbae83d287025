"""What starts runs, and what keeps them from writing: schedules, sensors and blocking checks."""

import datetime as dt
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_pipeline.environment import Environment
from dagfusion_reference.defs.resources import MeasuredHiveParquet
from dagfusion_reference.defs.schedules import all_states_of, missed_days
from dagfusion_reference.defs.states import CODES
from tests.reference.code_location import (
    DAYS,
    EXPORT,
    EXTRACTS,
    ORDERS,
    ORG_AGGREGATES,
    REGISTER,
    SALES,
    checks_of,
    rectangle,
    report,
    run,
)


@pytest.mark.parametrize(
    ("name", "assets"),
    [("healthcare_daily", (REGISTER, EXTRACTS)), ("ecommerce_daily", (EXPORT, ORDERS))],
)
def test_each_schedule_writes_yesterday_in_one_run(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    persistent: dg.DagsterInstance,
    name: str,
    assets: tuple[dg.AssetKey, dg.AssetKey],
) -> None:
    raw, partitioned = assets
    schedule = location.resolve_schedule_def(f"{name}_schedule")

    def requests_at(day: dt.date) -> Sequence[dg.RunRequest]:
        at = datetime(day.year, day.month, day.day, 2, tzinfo=UTC)
        return (
            schedule.evaluate_tick(dg.build_schedule_context(persistent, scheduled_execution_time=at)).run_requests
            or []
        )

    # There are no days before the first, and no more than seven are caught up.
    second_day = requests_at(dt.date(2024, 1, 3))
    assert [request.run_key for request in second_day] == ["2024-01-01 at 2024-01-03", "2024-01-02"]
    requests = requests_at(dt.date(2024, 3, 1))
    missed = [f"2024-02-{day} at 2024-03-01" for day in range(22, 29)]
    assert [request.run_key for request in requests] == [*missed, "2024-02-29"]
    assert requests[0].tags.items() >= all_states_of(dt.date(2024, 2, 22)).items()
    assert requests[-1].tags.items() >= all_states_of(dt.date(2024, 2, 29)).items()

    result = location.resolve_job_def(name).execute_in_process(instance=instance, tags=dict(requests[-1].tags))
    written = [event.materialization for event in result.get_asset_materialization_events()]
    assert [event.partition for event in written if event.asset_key == raw] == [None]
    assert {event.partition for event in written if event.asset_key == partitioned} == {
        f"2024-02-29|{state}" for state in CODES
    }


@pytest.mark.usefixtures("heavy")
def test_missed_days_are_found_in_the_event_log(instance: dg.DagsterInstance) -> None:
    days = [dt.date(2024, 1, day) for day in range(24, 31)]

    def missed() -> list[int]:
        return [day.day for day in missed_days(instance, EXTRACTS, "healthcare_daily", days)]

    assert missed() == [24, 25, 26, 27, 28, 29, 30]
    report(instance, EXTRACTS, [day for day in days if day.day not in {26, 29}])
    report(instance, EXTRACTS, [dt.date(2024, 1, 26)], CODES[1:])
    assert missed() == [26, 29]
    assert missed_days(instance, EXTRACTS, "healthcare_daily", []) == []
    tags = all_states_of(dt.date(2024, 1, 26))
    instance.add_run(dg.DagsterRun("ecommerce_daily", tags=tags, status=dg.DagsterRunStatus.STARTED))
    instance.add_run(dg.DagsterRun("healthcare_daily", tags=tags, status=dg.DagsterRunStatus.FAILURE))
    assert missed() == [26, 29]
    instance.add_run(dg.DagsterRun("healthcare_daily", tags=tags, status=dg.DagsterRunStatus.STARTED))
    assert missed() == [29]


def test_gold_is_made_once_all_states_of_a_day_are_there(
    location: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    def requested(cursor: Any) -> tuple[set[str], Any]:
        selection = dg.AssetSelection.assets(ORG_AGGREGATES)
        found = dg.evaluate_automation_conditions(location, instance, asset_selection=selection, cursor=cursor)
        return {str(day) for day in found.get_requested_partitions(ORG_AGGREGATES)}, found.cursor

    nothing, cursor = requested(None)
    assert nothing == set()
    report(instance, EXTRACTS, DAYS[:1], CODES[:-1])
    nothing, cursor = requested(cursor)
    assert nothing == set()
    report(instance, EXTRACTS, DAYS[:1], CODES[-1:])
    first, cursor = requested(cursor)
    assert first == {str(DAYS[0])}
    again, cursor = requested(cursor)
    assert again == set()

    def checked(*, passed: bool) -> None:
        evaluation = dg.AssetCheckEvaluation(asset_key=EXTRACTS, check_name="row_count", passed=passed)
        instance.report_runless_asset_event(evaluation)

    checked(passed=False)
    report(instance, EXTRACTS, DAYS[:1], ["CA"])
    blocked, cursor = requested(cursor)
    assert blocked == set()
    checked(passed=True)
    assert requested(cursor)[0] == {str(DAYS[0])}


@pytest.mark.usefixtures("heavy")
def test_a_failed_check_of_silver_keeps_gold_from_being_written(
    location: dg.Definitions, instance: dg.DagsterInstance, environment: Environment
) -> None:
    run(location, instance, EXPORT)
    run(location, instance, ORDERS, rectangle("AL", "WY"))
    (landing,) = [sensor for sensor in location.sensors or () if sensor.name == "landed_orders"]
    manager = MeasuredHiveParquet(**environment.io_manager_fields())
    store = manager.object_store

    def tick() -> set[str | None]:
        with dg.build_sensor_context(instance, resources={"hive_parquet": manager}) as context:
            events = landing.evaluate_tick(context).asset_events
        for event in events:
            instance.report_runless_asset_event(event)
        return {event.partition for event in events if isinstance(event, dg.AssetMaterialization)}

    assert tick() == set()
    key = f"{environment.prefix}/Silver/Commerce/partitioned_orders/state=CA/date={DAYS[1]}/data.parquet"
    (content,) = store.read_many([key], 1)
    few = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(content)).slice(0, 10), few)
    with store.uploads(1) as uploads:
        uploads.put(key, few.getvalue(), lambda _: None)
    assert tick() == {f"{DAYS[1]}|CA"}

    def gold(day: dt.date) -> dg.ExecuteInProcessResult:
        job = location.resolve_job_def("ecommerce_gold")
        return job.execute_in_process(instance=instance, partition_key=str(day), raise_on_error=False)

    spoilt, good = gold(DAYS[1]), gold(DAYS[0])
    assert {name for name, passed in checks_of(spoilt).items() if not passed} == {"row_count"}
    assert not spoilt.get_asset_materialization_events()
    assert {event.asset_key for event in good.get_asset_materialization_events()} == {SALES}
    assert set(checks_of(good).values()) == {True}
