"""Planning of statements over synthetic catalogs, with nothing to read, and what it is measured against."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType

import pyarrow as pa
from datafusion import SessionContext

from benchmarks import synthetic
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.engine.engine import Engine, Prepared
from dagfusion_query.settings import Settings

_SUMS = "SELECT specialty, count(*), sum(provider_count) FROM {table}{where} GROUP BY specialty"
STATEMENTS: Mapping[str, str] = {
    "point": _SUMS.format(table=synthetic.TABLE, where=" WHERE state = 'CA' AND date = DATE '1970-01-02'"),
    "state": _SUMS.format(table=synthetic.TABLE, where=" WHERE state = 'CA'"),
    "everything": _SUMS.format(table=synthetic.TABLE, where=""),
}
_PARTITIONS = 18_250
_PLANS = {"plan of 1 file": "point", "plan of 365 files": "state", "plan of 18,250 files": "everything"}
_YARDSTICK = "yardstick"
_TURNS, _TURN_S = 6, 0.25
_NOWHERE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "DAGFUSION_HOME": "/nonexistent",
    "DAGFUSION_PLAN_CACHE_BYTES": "1",  # every statement is planned anew
}


class Planner:
    """An engine over one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._engine = Engine(Settings.read(_NOWHERE))

    def plan(self, statement: str) -> Prepared:
        """Plan one of `STATEMENTS`, from its text to the plan over the files that it keeps."""
        return self._engine.prepare(STATEMENTS[statement], None, self.snapshot)

    def close(self) -> None:
        self._engine.close()


@contextlib.contextmanager
def planner(partitions: int) -> Iterator[Planner]:
    """A planner over a synthetic catalog."""
    with contextlib.closing(Planner(synthetic.snapshot(partitions))) as made:
        yield made


def calls(snapshot: Snapshot, statement: str) -> int:
    """Count the Python functions that planning a statement calls: the same number every time."""
    number = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal number
        number += event == "call"

    threading.setprofile(count)  # of threads that start from now on: the engine plans in its own
    try:
        counted = Planner(snapshot)
    finally:
        threading.setprofile(None)
    with contextlib.closing(counted):
        counted.plan(statement)
        number = 0
        counted.plan(statement)
        return number


def best_s(function: Callable[[], object], seconds: float) -> float:
    """Return the least time of a function, which other work on the machine disturbs least."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


def yardstick() -> Callable[[], object]:
    """A fixed piece of the same kind of work: DataFusion plans a statement over a table in memory."""
    context = SessionContext()
    table = pa.table({"specialty": ["a"], "provider_count": [1], "state": ["CA"], "zip_code": ["1"], "npi": [1]})
    context.register_record_batches("organizations", [table.to_batches()])
    statement = _SUMS.format(table="organizations", where=" WHERE state = 'CA' AND zip_code > '9'")
    return lambda: context.sql(statement).execution_plan()


def work() -> Mapping[str, int]:
    """Count the Python calls of plans over 18,250 partitions."""
    snapshot = synthetic.snapshot(_PARTITIONS)
    return {plan: calls(snapshot, statement) for plan, statement in _PLANS.items()}


def ratios() -> Mapping[str, float]:
    """Time plans over 18,250 partitions, by the time that DataFusion takes to plan over a table in memory."""
    with planner(_PARTITIONS) as over:
        plans: dict[str, Callable[[], object]] = {
            plan: partial(over.plan, statement) for plan, statement in _PLANS.items()
        }
        plans[_YARDSTICK] = yardstick()
        times: dict[str, list[float]] = {name: [] for name in plans}
        for _ in range(_TURNS):  # in turns, so that other work on the machine slows all alike
            for name, plan in plans.items():
                times[name].append(best_s(plan, _TURN_S))
    best = {name: min(measured) for name, measured in times.items()}
    return {plan: best[plan] / best[_YARDSTICK] for plan in _PLANS}
