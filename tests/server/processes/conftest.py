"""A plain DAGSTER_HOME with a table of three partitions, for services to be started over."""

import hashlib
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import LocalStore

from tests.contract.records import local_record

STATES = ("CA", "NY", "TX")


@pytest.fixture(scope="session", autouse=True)
def started(processes: None) -> None:
    """Every test here starts processes."""


@pytest.fixture(scope="session")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home, lake = tmp_path_factory.mktemp("dagster_home"), tmp_path_factory.mktemp("lake")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for asset in ("orgs", "orders"):
            for number, state in enumerate(STATES):
                path = lake / f"{asset}-{state}.parquet"
                instance.report_runless_asset_event(materialization(asset, path, state, first=1000 * number))
    return home


def materialization(asset: str, path: Path, state: str, first: int) -> dg.AssetMaterialization:
    """Write a partition of a thousand rows, numbered from the first, and return its event."""
    pq.write_table(pa.table({"id": list(range(first, first + 1000))}), path)
    record = local_record(
        path,
        {"state": state},
        etag=LocalStore(path.parent).head(path.name)["e_tag"],  # kept results want one
        checksum=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
    )
    key = dg.AssetKey(["Silver", "TaxID", asset])
    return dg.AssetMaterialization(key, partition=state, metadata={"dagfusion/file": record})
