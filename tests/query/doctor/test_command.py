"""The commands `doctor` and `cost` over event logs in SQLite, whose tables have no bucket."""

import json
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from dagfusion_query.cli.main import app
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
        "environments": [{"environment": "local", "faults": [], "unknown": []}],
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
