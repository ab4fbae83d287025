"""The commands `doctor` and `cost` over event logs in SQLite, whose tables have no bucket."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import pytest
from typer.testing import CliRunner

from dagfusion_cli import gathered_costs as gathered
from dagfusion_cli.doctor import examination
from dagfusion_cli.doctor.bucket_facts import BucketFacts
from dagfusion_cli.doctor.checks import Fault
from dagfusion_cli.doctor.examination import Diagnosis, Scope
from dagfusion_cli.main import app
from dagfusion_contract.repair import REPAIR, FailedRepair, RepairedTable
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.cost.estimate import read_prices


@pytest.fixture(autouse=True)
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_an_environment_without_tables_is_healthy(on_sqlite: Any) -> None:
    done = command("doctor", "--event-log", str(on_sqlite.home))
    assert (done.exit_code, done.output) == (0, "healthy\n")
    done = command("doctor", "--event-log", str(on_sqlite.home), "--json")
    assert json.loads(done.output) == {
        "healthy": True,
        "faults": [],
        "environments": [{"environment": "local", "faults": [], "unknown": [], "cost": None}],
        "prices": asdict(read_prices()),
    }


def test_a_folder_that_is_no_event_log_is_a_fault(tmp_path: Any) -> None:
    done = command("doctor", "--event-log", str(tmp_path / "nowhere"), "--json")
    assert done.exit_code == 1
    (fault,) = json.loads(done.output)["environments"][0]["faults"]
    assert (fault["name"], fault["where"]) == ("database_unreachable", "event log of local")


def test_settings_of_the_service_are_examined(on_sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGFUSION_ANONYMOUS", "always")
    done = command("doctor", "--event-log", str(on_sqlite.home))
    assert done.exit_code == 1
    assert done.output.startswith("open_access  DAGFUSION_ANONYMOUS\n  it is always: ")


def test_settings_that_cannot_be_used_end_the_examination(on_sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGFUSION_WORKERS", "none")
    done = command("doctor", "--event-log", str(on_sqlite.home))
    assert done.exit_code == 2
    assert "error: DAGFUSION_WORKERS" in done.output


def test_a_missing_extra_ends_the_examination(
    on_sqlite: Any, file_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_sqlite.report(file_record("CA"))
    monkeypatch.setitem(sys.modules, "boto3", None)
    done = command("doctor", "--event-log", str(on_sqlite.home))
    assert done.exit_code == 2
    assert "pip install 'dagfusion-query[aws]'" in done.output


def test_the_costs_of_nothing(on_sqlite: Any) -> None:
    done = command("cost", "--event-log", str(on_sqlite.home), "--requests", "1000000")
    prices = read_prices()
    assert done.exit_code == 0
    assert done.output.startswith(f"local: $4.80 for 12 months, at prices of us-east-1, {prices.date}\n")
    assert "1,000,000 GETs a month (--requests): $0.4000 a month" in done.output
    assert command("cost", "--requests", "1", "--url", "http://localhost:1").exit_code == 2


def test_the_costs_of_a_class_name_those_of_reading_it(
    on_sqlite: Any, file_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_sqlite.report(file_record("CA"))
    facts = BucketFacts("lake")
    monkeypatch.setattr(gathered, "s3_client", lambda _: None)
    monkeypatch.setattr(gathered, "read_bucket_facts", lambda _, __: facts)
    done = command("cost", "--event-log", str(on_sqlite.home), "--months", "1")
    assert "now: 1 objects, 0.000 GiB STANDARD: $0.0000 a month, and $0.0000 to read all of it once" in done.output


class Repairs:
    """What stands for the pipeline: the objects that it was asked to repair, and its answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Mapping[str, Sequence[str]], bool]] = []
        self.failure: Exception | None = None

    def load(self) -> Any:
        return self.repair

    def repair(
        self, objects: Mapping[str, Sequence[str]], endpoints: Mapping[str, str | None], *, dry_run: bool
    ) -> list[RepairedTable | FailedRepair]:
        self.asked.append((objects, dry_run))
        assert endpoints == dict.fromkeys(objects, "https://store")
        if self.failure is not None:
            raise self.failure
        broken = FailedRepair("local_a.broken", "its bucket is another one")
        return [
            broken if "broken" in table else RepairedTable("A/fine", 3, ["CA"], [], {}, table=table)
            for table in objects
        ]


SEEN: dict[str, Sequence[str]] = {"local_a.broken": ["s3://lake/3"], "local_a.fine": ["s3://lake/1", "s3://lake/2"]}


@pytest.fixture
def repairs(on_sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> Repairs:
    """An environment with faults of each kind, and a pipeline."""
    faults = [
        Fault(name, table, "what", "step")
        for name, table in (
            ("objects_changed", "local_a.fine"),
            ("objects_missing", "local_a.broken"),
            ("objects_missing", "local_a.fine"),
            ("objects_orphaned", "local_a.other"),
            ("small_files", "local_a.small"),
        )
    ]

    def examined(config: EnvironmentConfig, scope: Scope) -> Diagnosis:
        del scope
        return Diagnosis(
            config.name, list(faults), differing=dict(reversed(SEEN.items())), endpoint_url="https://store"
        )

    found = Repairs()
    monkeypatch.setattr(examination, "examine", examined)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [found] if group == REPAIR else [])
    monkeypatch.setenv("DAGSTER_HOME", str(on_sqlite.home))
    monkeypatch.setenv("DAGFUSION_EVENT_LOG", str(on_sqlite.home))
    return found


def test_a_repair_is_of_the_missing_and_changed_objects_that_were_found(repairs: Repairs) -> None:
    done = command("doctor", "--repair")
    assert done.exit_code == 1
    assert repairs.asked == [(SEEN, True)]
    assert "not repaired: local_a.broken\n  its bucket is another one\n" in done.stderr
    *_, summary, tombstones, partition, orphans, why, hint = done.stdout.splitlines()
    assert summary == "A/fine: 3 objects examined"
    assert (tombstones, partition) == ("1 tombstones of missing objects would be logged", "  CA")
    assert orphans == "not repaired: local_a.other"
    assert why.startswith("  nothing is logged for orphaned objects: the vacuum deletes those of earlier runs")
    assert hint == "This is a dry run. Add --yes to log them."


def test_a_repair_logs_events_only_if_it_is_confirmed(repairs: Repairs) -> None:
    done = command("doctor", "--repair", "--yes")
    assert done.exit_code == 1
    assert repairs.asked == [(SEEN, False)]
    assert "This is a dry run" not in done.output
    assert command("doctor").exit_code == 1
    assert command("doctor", "--yes").exit_code == 2
    assert len(repairs.asked) == 1


def test_the_examination_is_shown_before_a_repair_that_fails(repairs: Repairs) -> None:
    repairs.failure = RuntimeError("a bug")
    done = command("doctor", "--repair", "--yes")
    assert done.exception is repairs.failure
    assert done.stdout.startswith("objects_changed  local_a.fine\n")


def test_a_repair_as_json(repairs: Repairs) -> None:
    document = json.loads(command("doctor", "--repair", "--json").stdout)["repair"]
    assert repairs.asked
    assert document["dry_run"] is True
    assert document["tables"] == [
        {"table": "local_a.broken", "error": "its bucket is another one"},
        {
            "table": "local_a.fine",
            "asset": "A/fine",
            "examined": 3,
            "missing": ["CA"],
            "changed": [],
            "not_repaired": {},
            "not_examined": [],
            "stopped": None,
        },
    ]
    (left,) = document["left"]
    assert (left["table"], left["fault"]) == ("local_a.other", "objects_orphaned")


def test_a_repair_says_what_it_needs(repairs: Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    done = command("doctor", "--repair")
    assert done.exit_code == 2
    assert "--repair needs DAGSTER_HOME" in done.stderr
    monkeypatch.setattr(metadata, "entry_points", lambda group: [])  # noqa: ARG005
    done = command("doctor", "--repair")
    assert done.exit_code == 2
    assert "pip install dagfusion-pipeline" in done.stderr
    assert repairs.asked == []


def test_nothing_to_repair(on_sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(on_sqlite.home))
    done = command("doctor", "--event-log", str(on_sqlite.home), "--repair")
    assert (done.exit_code, done.output) == (0, "healthy\nrepair: no event to log\n")


def test_the_estimate_of_costs_is_one_line(on_sqlite: Any, file_record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_sqlite.report(file_record("CA"))
    monkeypatch.setattr(examination, "s3_client", lambda _: None)
    monkeypatch.setattr(
        examination, "read_bucket_facts", lambda _, bucket, *__: BucketFacts(bucket, problem="no route")
    )
    done = command("doctor", "--event-log", str(on_sqlite.home))
    prices = read_prices()
    *_, line = done.stdout.splitlines()
    assert line.startswith("cost of local: $0.00 a month for 1 object (0.000 GiB) and their uploads, at prices of")
    assert f"{prices.region}, {prices.date}" in line
    (environment,) = json.loads(command("doctor", "--event-log", str(on_sqlite.home), "--json").stdout)["environments"]
    (month,) = environment["cost"]["months"]
    assert (month["month"], month["classes"][0]["objects"]) == (1, 1)
