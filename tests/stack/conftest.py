"""A `dagfusion` command for each test, over a state folder of its own that nothing survives in."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dagfusion_stack import supervisor
from dagfusion_stack.home import Home
from tests.ports import kept_ports

MAIN = "from dagfusion_cli.main import main; main()"


@dataclass(frozen=True)
class Command:
    """The command line over one state folder."""

    home: Home
    dagster_port: int
    http_port: int
    flight_port: int
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def over(cls, home: Path) -> "Command":
        dagster_port, http_port, flight_port = kept_ports(3)
        return cls(Home(home), dagster_port, http_port, flight_port)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", MAIN, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environ(),
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def _environ(self) -> dict[str, str]:
        own = {
            "DAGFUSION_HOME": str(self.home.path),
            "DAGFUSION_DAGSTER_PORT": str(self.dagster_port),
            "DAGFUSION_HTTP_PORT": str(self.http_port),
            "DAGFUSION_FLIGHT_PORT": str(self.flight_port),
        }
        return {**os.environ, **own, **self.variables}

    def with_variables(self, **variables: str) -> "Command":
        return replace(self, variables=variables)


@pytest.fixture
def command(tmp_path: Path, processes: None) -> Iterator[Command]:  # noqa: ARG001  # it starts some
    """The command line over a new state folder; whatever runs there at the end is ended."""
    made = Command.over(tmp_path / "home")
    yield made
    supervisor.down(made.home, lambda _: None)


@pytest.fixture(scope="module")
def module_command(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Command]:  # noqa: ARG001  # it starts some
    """The command line over one state folder for all tests of a module."""
    made = Command.over(tmp_path_factory.mktemp("stack") / "home")
    yield made
    supervisor.down(made.home, lambda _: None)
