"""The jobs and commands of maintenance: what is the same in all of them."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
import typer
from typer.testing import CliRunner

from dagfusion_pipeline import (
    build_consolidate_job,
    build_consolidate_schedule,
    build_erasure_job,
    build_retention_job,
    build_vacuum_job,
    build_wipe_job,
)
from dagfusion_pipeline.commands import commands

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


COMMANDS = {
    "consolidate": (),
    "erase": ("--column", "id", "--keys-file", "keys"),
    "repair": (),
    "wipe": ("--partition", "a"),
}


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_finds_the_local_stack(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    commands(app)
    for name in ("DAGSTER_HOME", "DAGFUSION_EVENT_LOG", "ENVIRONMENT", "S3_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DAGFUSION_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of the shell")  # and no secret, which alone would be an error

    def error(event_log: str | None = None) -> str:
        if event_log is not None:
            stack = f"DAGFUSION_EVENT_LOG={event_log}\nDAGSTER_HOME={tmp_path}\nENVIRONMENT=local\nS3_BUCKET=lake\n"
            (tmp_path / "stack.env").write_text(f"{stack}AWS_ACCESS_KEY_ID=k\nAWS_SECRET_ACCESS_KEY=s\n")
        answer = CliRunner().invoke(app, [command, "local_silver.orgs", *COMMANDS[command]])
        assert answer.exit_code == 1, answer.output
        return answer.output

    assert f"it is not set, and no local stack was found in {tmp_path}" in error()
    assert "does not run: start it with `dagfusion up -d`" in error(f"postgresql://me@/dagster?host={tmp_path}")
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    assert "the event log has no asset with the table 'local_silver.orgs' in ENVIRONMENT=local" in error(str(tmp_path))
    monkeypatch.setenv("DAGFUSION_EVENT_LOG", "postgresql://other/dagster")
    assert "DAGFUSION_EVENT_LOG names another event log" in error()
    monkeypatch.setenv("ENVIRONMENT", "uat")
    assert "it is not set, and ENVIRONMENT=uat is not the local stack" in error()
