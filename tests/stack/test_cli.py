"""The stack's commands are quick to load, and its runs have the settings that the pipeline asks for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagfusion_pipeline import BULK_EVENT_SETTINGS
from dagfusion_stack import dagster

pytestmark = pytest.mark.usefixtures("processes")

HEAVY = ("dagster", "datafusion", "polars", "pyarrow", "rich", "psutil", "urllib.request")
LOADED = f"import sys, dagfusion_stack.cli; print(sorted(set({HEAVY}) & set(sys.modules)))"


def test_the_commands_load_nothing_heavy() -> None:
    assert subprocess.check_output([sys.executable, "-c", LOADED], text=True).strip() == "[]"  # noqa: S603


def test_runs_store_their_events_in_batches() -> None:
    assert dagster.RUN_ENVIRON == BULK_EVENT_SETTINGS


def test_a_reader_that_has_gone_is_no_error_of_the_state_folder(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(Path(sys.executable).with_name("dagfusion")), "status", "--json"]
    try:
        ran = subprocess.run(  # noqa: S603  # our own command
            command,
            env={**os.environ, "DAGFUSION_HOME": str(tmp_path)},
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    finally:
        os.close(writer)

    assert (ran.returncode, ran.stderr) == (1, b"")
