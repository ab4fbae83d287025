"""A program that ran a query ends in order, however late DataFusion's threads come back."""

from pathlib import Path

import dagster as dg
import pytest

from tests.late_threads import check_end

CONNECTED = "import dagfusion_query; connection = dagfusion_query.connect();"
ENDS = {
    "closed": """
with connection:
    assert connection.sql("SELECT 1").to_arrow().num_rows == 1
""",
    "not closed": """
assert connection.sql("SELECT 1").to_arrow().num_rows == 1
""",
    "by a fork": """
import os, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
assert connection.sql("SELECT 1").to_arrow().num_rows == 1
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
""",
    "in the middle of a result": """
batches = iter(connection.sql("SELECT a.value FROM range(0, 100000) a, range(0, 100000) b"))
next(batches)
""",
}


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("end", ENDS)
def test_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    dg.DagsterInstance.from_config(str(tmp_path)).dispose()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGFUSION_STATE_DIR", "none")

    check_end(CONNECTED + ENDS[end], tmp_path)
