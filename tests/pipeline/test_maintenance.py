"""The jobs of maintenance: what is the same in all of them."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import dagster as dg
import pytest

from dagfusion_pipeline import (
    build_consolidate_job,
    build_consolidate_schedule,
    build_erasure_job,
    build_retention_job,
    build_vacuum_job,
    build_wipe_job,
)

KEY = dg.AssetKey(["Silver", "orgs"])
ROLE = {"taskRoleArn": "arn:aws:iam::123456789012:role/dagfusion-uat-maintenance"}
TAGS = {"ecs/task_overrides": ROLE, "team": "data"}
BUILDERS: dict[str, Callable[..., dg.JobDefinition]] = {
    "consolidate": build_consolidate_job,
    "erase_rows": build_erasure_job,
    "retention": partial(build_retention_job, keep=timedelta(days=90)),
    "vacuum": build_vacuum_job,
    "wipe_partitions": build_wipe_job,
}


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_job_gives_its_tags_to_its_runs(name: str) -> None:
    job = BUILDERS[name]([KEY], tags=TAGS)
    assert job.name == name
    assert job.run_tags == {"ecs/task_overrides": json.dumps(ROLE), "team": "data"}
    assert BUILDERS[name]([KEY]).run_tags == {}


def test_a_run_has_the_tags() -> None:
    config = {"ops": {"log_tombstones": {"config": {"partition_keys": ["2024-01-05"]}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        done = build_wipe_job([KEY], tags=TAGS).execute_in_process(instance=instance, run_config=config)
        assert json.loads(done.dagster_run.tags["ecs/task_overrides"]) == ROLE


def test_a_schedule_is_of_the_job_with_the_tags() -> None:
    schedule = build_consolidate_schedule(build_consolidate_job([KEY], tags=TAGS))
    assert isinstance(schedule.job, dg.JobDefinition)
    assert schedule.job.run_tags["team"] == "data"
