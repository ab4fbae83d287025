"""The data set, the engines and the clock of every benchmark; benchmarks/options.py has the options.

DAGFUSION_BENCH_HOME names the folder that keeps the data from one run to the next; without it, it is made each time.
"""

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import dataset
from benchmarks.dataset import Dataset
from benchmarks.engines import duckdb_files
from benchmarks.engines.protocol import Engine
from benchmarks.engines.registry import ENGINES
from benchmarks.workload import Row
from tests.e2e.services import PROVIDERS

HOME = os.environ.get("DAGFUSION_BENCH_HOME")

T = TypeVar("T")
Findings = dict[str, Any]
FINDINGS = pytest.StashKey[Findings]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FINDINGS] = {
        "days": config.getoption("--days"),
        "store": "LocalStack" if config.getoption("--localstack") else "embedded S3 server (SeaweedFS)",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "requests": [],
    }


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: Sequence[object], output_json: dict[str, Any]
) -> None:
    """Put what was counted beside what was timed, and leave out each single time and what is of this machine alone."""
    del benchmarks
    output_json["dagfusion"] = config.stash[FINDINGS]
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
        for name in ("options", "params", "param", "fullname"):
            benchmark.pop(name, None)
    cpu = output_json["machine_info"]["cpu"]
    output_json["machine_info"] = {"cpu": {name: cpu[name] for name in ("brand_raw", "count") if name in cpu}}
    del output_json["commit_info"]


@pytest.fixture(scope="session")
def findings(pytestconfig: pytest.Config) -> Findings:
    """What the report shows besides times."""
    return pytestconfig.stash[FINDINGS]


@pytest.fixture(scope="session")
def home(pytestconfig: pytest.Config) -> Iterator[Path]:
    """The folder for data; what is there already is used again."""
    if HOME and not pytestconfig.getoption("--localstack"):  # a container forgets its objects
        yield Path(HOME)
        return
    # Not one of pytest's: PostgreSQL runs as another user, who may not enter those.
    with tempfile.TemporaryDirectory(prefix="dagfusion-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def data(
    home: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, findings: Findings
) -> Iterator[Dataset]:
    days: int = pytestconfig.getoption("--days")
    with (
        _localstack(pytestconfig, tmp_path_factory) as store,
        dataset.running(home / f"{days}x50", days, print, store) as made,
    ):
        findings["load_average"] = os.getloadavg()[0]
        yield made


@pytest.fixture(scope="session")
def answers(data: Dataset) -> dict[str, list[Row]]:
    """Every query's answer, computed from the stored objects."""
    return data.answers()


@pytest.fixture(scope="session")
def ducklake(data: Dataset) -> None:
    """DuckLake's catalog of the same objects."""
    duckdb_files.register(data.place, data.partitions)


@pytest.fixture(scope="module", params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    if chosen is duckdb_files.LAKE:
        request.getfixturevalue("ducklake")
    return chosen


class Clock:
    """Times one function as often as the budget allows: at least twice, and once when once is over the budget."""

    def __init__(self, benchmark: Any, budget_s: float) -> None:
        self._benchmark, self._budget_s = benchmark, budget_s

    def time(self, function: Callable[[], T], is_right: Callable[[T], bool], **info: object) -> None:
        """Time a function whose answer is right.

        Args:
            function: What is timed. The run before the clock starts is checked, and warms up what it can.
            is_right: Tells whether an answer is the expected one.
            info: What the report knows the benchmark by: its kind, and the engine, query, ...
        """
        started = time.perf_counter()
        answer = function()
        once_s = time.perf_counter() - started
        assert is_right(answer)
        self._describe(info)
        rounds = 1 if once_s > self._budget_s else max(2, min(50, int(self._budget_s / once_s)))
        self._benchmark.pedantic(function, rounds=rounds, iterations=1)

    def time_once(self, function: Callable[[], T], is_right: Callable[[T], bool], **info: object) -> None:
        """Time one run of a function, and check its answer: for what takes long and is warm already."""
        self._describe(info)
        assert is_right(self._benchmark.pedantic(function, rounds=1, iterations=1))

    def _describe(self, info: Mapping[str, object]) -> None:
        self._benchmark.group = f"{info['kind']} {info.get('query', '')}".strip()
        self._benchmark.extra_info.update(info)


@pytest.fixture
def clock(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Clock:
    return Clock(benchmark, pytestconfig.getoption("--budget"))


@contextlib.contextmanager
def _localstack(config: pytest.Config, folders: pytest.TempPathFactory) -> Iterator[dict[str, str] | None]:
    """Run LocalStack where it was asked for, and give its variables."""
    if not config.getoption("--localstack"):
        yield None
        return
    provider = PROVIDERS["containers"]
    if (missing := provider.missing()) is not None:
        pytest.fail(f"--localstack needs Docker: {missing}")
    with provider.object_store(folders.mktemp("localstack")) as server:
        variables = dict(server.environ())
        dataset.create_bucket(variables)
        yield variables
