"""What an event log says of one partition: the same from PostgreSQL and from SQLite, of real runs."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

DAYS = dg.DailyPartitionsDefinition("2024-01-01")
BOTH = dg.MultiPartitionsDefinition({"date": DAYS, "state": dg.StaticPartitionsDefinition(["CA", "O'Hare", "ü"])})


@dg.asset(partitions_def=DAYS, key=["Gold", "daily"])
def daily(context: dg.AssetExecutionContext) -> None:
    if "fail" in context.run.tags:
        raise ValueError("no")


@dg.asset(partitions_def=BOTH, key=["Silver", "both"])
def both(context: dg.AssetExecutionContext) -> None:
    if "fail" in context.run.tags:
        raise ValueError("no")


def run(deployment: Any, asset: dg.AssetsDefinition, first: str, last: str | None = None, **tags: str) -> str:
    """Run an asset for one partition, or for those from the first to the last."""
    ends = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or ""}
    return dg.materialize(
        [asset],
        instance=deployment.instance,
        partition_key=first if last is None else None,
        tags=tags if last is None else {**ends, **tags},
        raise_on_error=False,
    ).run_id


@pytest.mark.parametrize("in_one_event", ["0", "1"])
def test_runs_of_a_partition(deployment: Any, monkeypatch: pytest.MonkeyPatch, in_one_event: str) -> None:
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", in_one_event)
    began_us = datetime.now(UTC).timestamp() * 1e6
    failed = run(deployment, daily, "2024-01-03", fail="1")
    good = run(deployment, daily, "2024-01-02", "2024-01-04")
    later = run(deployment, daily, "2024-01-04", "2024-01-06", fail="1")
    log = deployment.open()

    third, fifth, ninth = (log.history(("Gold", "daily"), f"2024-01-0{day}") for day in (3, 5, 9))

    assert [(r.run_id, r.status) for r in third.runs] == [(good, "SUCCESS"), (failed, "FAILURE")]
    assert began_us < third.runs[1].at_us < third.runs[0].at_us < third.materialized_at_us
    assert [(r.run_id, r.status) for r in fifth.runs] == [(later, "FAILURE")]
    assert fifth.materialized_at_us is None
    assert (ninth.runs, ninth.materialized_at_us, ninth.wiped_at_us) == ([], None, None)
    whole = log.history(("Gold", "daily"), None)
    assert [(r.run_id, r.status) for r in whole.runs] == [(later, "FAILURE"), (good, "SUCCESS"), (failed, "FAILURE")]
    assert whole.materialized_at_us >= third.materialized_at_us
    log.close()


@pytest.mark.parametrize("in_one_event", ["0", "1"])
def test_runs_of_a_partition_of_two_dimensions(
    deployment: Any, monkeypatch: pytest.MonkeyPatch, in_one_event: str
) -> None:
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", in_one_event)
    failed = run(deployment, both, "2024-01-02|O'Hare", "2024-01-03|ü", fail="1")
    log = deployment.open()

    assert [r.run_id for r in log.history(("Silver", "both"), "2024-01-03|ü").runs] == [failed]
    assert log.history(("Silver", "both"), "2024-01-03|CA").runs == []
    assert log.history(("Silver", "else"), "2024-01-03|ü").runs == []
    log.close()


def test_a_wiped_partition(deployment: Any) -> None:
    made = run(deployment, daily, "2024-01-03")
    deployment.wipe(("Gold", "daily"))
    log = deployment.open()

    history = log.history(("Gold", "daily"), "2024-01-03")

    assert history.wiped_at_us is not None
    assert history.materialized_at_us is None or history.materialized_at_us < history.wiped_at_us
    assert [r.run_id for r in history.runs] in ([made], [])  # SQLite forgets what was wiped
    log.close()


def test_a_partition_with_a_tombstone_was_wiped_and_the_table_was_not(deployment: Any) -> None:
    run(deployment, daily, "2024-01-02", "2024-01-03")
    deployment.bury("2024-01-02", ("Gold", "daily"))
    log = deployment.open()

    second, third = (log.history(("Gold", "daily"), f"2024-01-0{day}") for day in (2, 3))
    assert second.materialized_at_us is None
    assert second.wiped_at_us > second.runs[0].at_us
    assert third.materialized_at_us is not None
    assert third.wiped_at_us is None
    whole = log.history(("Gold", "daily"), None)
    assert whole.wiped_at_us is None
    assert whole.materialized_at_us == second.wiped_at_us
    log.close()
