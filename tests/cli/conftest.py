"""The command line in this process, over a plain DAGSTER_HOME and files on local disk."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_cli.main import main
from dagfusion_contract.record import schema_entry
from tests.contract.records import local_record

TABLE = "local_silver_tax_id.orgs"


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture(scope="module")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three partitions of one asset, logged to SQLite by Dagster itself."""
    home = tmp_path_factory.mktemp("dagster_home")
    lake = tmp_path_factory.mktemp("lake")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for number, state in enumerate(["CA", "NY", "TX"]):
            path = lake / f"{state}.parquet"
            rows = pa.table({"id": [10 * number, 10 * number + 1], "tags": [["a"], None]})
            pq.write_table(rows, path)
            instance.report_runless_asset_event(_materialization(path, state, number, rows.schema))
    return home


@pytest.fixture
def cli(
    dagster_home: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Cli:
    for name in [name for name in os.environ if name.startswith(("DAGFUSION_", "AWS_", "DAGSTER_HOME", "ENVIRONMENT"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["dagfusion", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfdbinary.readouterr()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err.decode())

    return run


def _materialization(path: Path, state: str, number: int, schema: pa.Schema) -> dg.AssetMaterialization:
    columns = {"id": {"min": 10 * number, "max": 10 * number + 1, "nulls": 0}, "tags": {"nulls": 1}}
    record = local_record(path, {"state": state}, columns=columns, schema=schema_entry(schema))
    key = dg.AssetKey(["Silver", "TaxID", "orgs"])
    return dg.AssetMaterialization(key, partition=state, metadata={"dagfusion/file": record})
