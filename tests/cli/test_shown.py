"""What the commands say of a catalog that is not whole: once, and where to look."""

from pathlib import Path

import pytest

from dagfusion_cli.screen import TableOutput
from dagfusion_cli.service_commands import _announce
from dagfusion_client.returned_values import TableInfo
from dagfusion_query.catalog.live_catalog import Lag
from dagfusion_query.catalog.model import Snapshot
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service_process import Ready


def test_a_problem_is_not_repeated_as_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    problem, other = "partition a cannot be used", "partition b cannot be used"
    table = TableInfo("local.orders", ("orders",), (), {}, 0, 0, 0, None, problem, (problem, other))
    TableOutput(0).tables([table])
    said = capsys.readouterr()
    assert problem in said.out
    assert said.err == f"warning: {other}\n"


@pytest.mark.parametrize(
    ("undiscovered", "more"), [(0, ""), (7, ", and 7 materializations whose files are not discovered yet")]
)
def test_serve_says_that_tables_are_still_to_come(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, undiscovered: int, more: str
) -> None:
    lag = Lag(0.0, None, 1, undiscovered)
    state = EnvironmentState("local", Snapshot(1, "local"), tmp_path, None, lag, None)
    _announce(Ready(("http://127.0.0.1:1", "grpc://127.0.0.1:2"), [state]))
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith(f"local: 0 tables{more}")
    assert (line == "local: 0 tables") is not bool(undiscovered)
