"""The stack's commands are quick to load, and its runs have the settings that the pipeline asks for."""

import subprocess
import sys

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
