"""Writing the data set as a user does: `dagfusion seed` into an empty stack, its time and its memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from benchmarks.conftest import Findings
from benchmarks.memory import peak_rss_mb
from dagfusion_stack import documented_queries

MAIN = "from dagfusion_cli.main import main; main()"
LOOK_S = 0.1


def test_seeding(pytestconfig: pytest.Config, findings: Findings) -> None:
    days: int = pytestconfig.getoption("--days")
    started, peak = time.perf_counter(), 0.0
    # Not one of pytest's folders: PostgreSQL runs as another user, who may not enter those.
    with (
        tempfile.TemporaryDirectory(prefix="dagfusion-bench-", ignore_cleanup_errors=True) as home,
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", MAIN, "seed", "--json", "--days", str(days)],
            env={**os.environ, "DAGFUSION_HOME": str(Path(home, "home"))},
            stdout=subprocess.PIPE,
            text=True,
        ) as seed,
    ):
        while seed.poll() is None:
            peak = max(peak, peak_rss_mb(seed.pid))
            time.sleep(LOOK_S)
        assert seed.stdout is not None
        assets = json.loads(seed.stdout.read())
        total_s = time.perf_counter() - started
    assert seed.returncode == 0
    written = {asset["table"]: asset["written"] for asset in assets}
    assert written[documented_queries.ORGANIZATIONS] == days * 50
    findings["seeding"] = {"assets": assets, "total_s": total_s, "peak_rss_mb": peak}
