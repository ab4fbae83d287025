"""The regression gate: pure comparison, and real regressions put into the engine to see it fail."""

import copy
import dataclasses
import time
from pathlib import Path
from typing import Any

import obstore
import pytest

from benchmarks import gate, planning, regression
from benchmarks.counters import count
from benchmarks.dataset import FOLDER, Dataset
from benchmarks.gate import Baseline, Measured
from benchmarks.wire import Meter
from benchmarks.workload import POINT, QUERIES
from dagfusion_query.engine import engine
from dagfusion_query.engine.plan_execution import Batches
from dagfusion_query.scan.splice import splice

MEASURED = Measured(
    30,
    {"point": {"files_read": 1, "cold": {"requests": {"GET range": 3}}}},
    {"plan of 365 files": 1000},
    {"plan of 365 files": 2.0},
)
BASELINE = Baseline(MEASURED, work_tolerance=1.25, time_tolerance=1.5)


def test_the_same_run_passes() -> None:
    assert gate.compare(MEASURED, BASELINE) == []


def test_a_counter_that_differs_is_named() -> None:
    counters = copy.deepcopy(dict(MEASURED.counters))
    counters["point"]["cold"]["requests"] = {"GET range": 3, "LIST": 1}
    assert gate.compare(dataclasses.replace(MEASURED, counters=counters), BASELINE) == [
        "point cold requests LIST must be 0, got 1"
    ]


@pytest.mark.parametrize("better", [{"files_read": 0}, {"cold": {"requests": {"GET range": 2}}}])
def test_fewer_requests_have_to_become_the_baseline(better: dict[str, Any]) -> None:
    counters = {"point": {**MEASURED.counters["point"], **better}}
    assert len(gate.compare(dataclasses.replace(MEASURED, counters=counters), BASELINE)) == 1


@pytest.mark.parametrize(("ratio", "passes"), [(0.1, True), (2.99, True), (3.01, False)])
def test_ratios_may_grow_up_to_the_tolerance(ratio: float, *, passes: bool) -> None:
    run = dataclasses.replace(MEASURED, ratios={"plan of 365 files": ratio})
    assert (gate.compare(run, BASELINE) == []) is passes


@pytest.mark.parametrize(("calls", "passes"), [(10, True), (1249, True), (1251, False)])
def test_work_may_grow_up_to_its_tolerance(calls: int, *, passes: bool) -> None:
    run = dataclasses.replace(MEASURED, work={"plan of 365 files": calls})
    assert (gate.compare(run, BASELINE) == []) is passes


def test_a_ratio_that_is_not_measured_any_more_is_named() -> None:
    run = dataclasses.replace(MEASURED, ratios={})
    assert gate.compare(run, BASELINE) == ["plan of 365 files is not in both the run and the baseline"]


def test_other_data_cannot_be_compared() -> None:
    [line] = gate.compare(dataclasses.replace(MEASURED, days=31), BASELINE)
    assert "30 days" in line


def test_a_saved_baseline_is_read_back(tmp_path: Path) -> None:
    gate.save(BASELINE, tmp_path / "baseline.json")
    assert gate.load(tmp_path / "baseline.json") == BASELINE


def test_the_committed_baseline_holds_the_claims() -> None:
    baseline = gate.load()
    counters = baseline.measured.counters
    assert list(counters) == [query.name for query in QUERIES]
    assert baseline.measured.days == regression.DAYS
    for counted in counters.values():
        for kind in ("cold", "warm"):
            assert set(counted[kind]["requests"]) <= {"GET range", "GET"}
    assert (counters["point"]["files_read"], counters["point"]["files_skipped"]) == (1, 1499)
    assert baseline.work_tolerance < 1.5  # or doubled work would pass


@pytest.mark.embedded
@pytest.mark.slow
def test_this_checkout_passes(data: Dataset) -> None:
    assert gate.compare(regression.measure(data), gate.load()) == []


@pytest.mark.embedded
def test_a_list_does_not_pass(data: Dataset, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    run_plan = engine.Engine.run
    store = data.place.behind(meter.endpoint).store()

    def listing_run(self: engine.Engine, prepared: engine.Prepared, **options: Any) -> Batches:
        obstore.list_with_delimiter(store, prefix=f"{FOLDER}/state=CA")
        return run_plan(self, prepared, **options)

    monkeypatch.setattr(engine.Engine, "run", listing_run)
    counters = {**gate.load().measured.counters, POINT.name: count(data, meter, POINT)}
    run = dataclasses.replace(gate.load().measured, counters=counters)
    assert gate.compare(run, gate.load()) == [
        "point cold requests LIST must be 0, got 1",
        "point warm requests LIST must be 0, got 1",
    ]


@pytest.mark.usefixtures("alone")
def test_a_splice_that_works_twice_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(*args: Any, **options: Any) -> Any:
        splice(*args, **options)
        return splice(*args, **options)

    monkeypatch.setattr("dagfusion_query.engine.engine.splice", twice)
    run = dataclasses.replace(gate.load().measured, work=planning.work())
    assert [line.partition(" takes ")[0] for line in gate.compare(run, gate.load())] == sorted(run.work)


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_a_plan_that_takes_much_longer_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return splice(*args, **options)

    monkeypatch.setattr("dagfusion_query.engine.engine.splice", slow)
    run = dataclasses.replace(gate.load().measured, ratios=planning.ratios())
    assert [line.partition(" takes ")[0] for line in gate.compare(run, gate.load())] == sorted(run.ratios)
