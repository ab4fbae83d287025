"""The options of the benchmarks, and `pytest --benchmark`, which runs them and writes their report.

    pytest --benchmark                 30 days x 50 states, some minutes; the report is in .benchmarks/report
    pytest --benchmark --days 365 --million --soak 60 --report benchmarks/report       all of it, as `tox -e bench` does

It needs the dependency group `bench`: `uv sync --group bench`.
"""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
MODULES = ("duckdb_extension_ducklake", "duckdb_extension_httpfs", "fastavro", "matplotlib")
DAYS = 30


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dagfusion")
    group.addoption("--benchmark", action="store_true", help="run the benchmarks and write their report")
    group.addoption(
        "--report",
        type=Path,
        default=FOLDER.parent / ".benchmarks" / "report",
        help="folder of the report of --benchmark (default: .benchmarks/report)",
    )
    group.addoption("--days", type=int, default=DAYS, help=f"days of the data set, times 50 states (default: {DAYS})")
    group.addoption("--million", action="store_true", help="also measure a catalog of 1,000,000 partitions")
    group.addoption("--budget", type=float, default=3.0, help="seconds that one benchmark may take, about (default: 3)")
    group.addoption("--soak", type=float, default=5.0, help="seconds that 200 clients ask the service (default: 5)")
    group.addoption(
        "--localstack", action="store_true", help="keep the objects in LocalStack (a Docker container), not embedded S3"
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads its options
def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--benchmark"):
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(FOLDER)]
    if config.getoption("--collect-only"):
        return
    if missing := [name for name in MODULES if importlib.util.find_spec(name) is None]:
        raise pytest.UsageError(f"--benchmark needs {', '.join(missing)}: run `uv sync --group bench`")
    folder: Path = config.getoption("--report")
    folder.mkdir(parents=True, exist_ok=True)
    config.option.benchmark_json = folder / "benchmark.json"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode, config: pytest.Config
) -> None:
    """Write the report once pytest-benchmark has written its JSON; a run that failed has none."""
    if exitstatus != pytest.ExitCode.OK or not config.getoption("--benchmark"):
        return  # other runs may do without pytest-benchmark, whose option the next line reads
    file: Path | None = config.option.benchmark_json
    if file is None:
        return
    from benchmarks import report  # noqa: PLC0415  # other runs of pytest do without its imports

    report.write(file)
    terminalreporter.write_line(f"report: {file.parent / 'report.md'}")
