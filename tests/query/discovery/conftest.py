"""Catalogs over deployments whose assets other IO managers wrote."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.model import Table
from dagfusion_query.discovery import Discovery, open_discovery
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.stored_event import EventReader
from dagfusion_query.settings import METADATA_KEYS, Settings, listed

PATIENCE_S = 20.0


class Follow(Protocol):
    def __call__(
        self,
        deployment: Any,
        state_dir: Path | None = None,
        *,
        bucket: str | None = None,
        discovery: Discovery | None = None,
    ) -> LiveCatalog: ...


class Report(Protocol):
    def __call__(
        self,
        deployment: Any,
        uri: str,
        partition: str | None = None,
        *,
        key: str = "orders",
        name: str = "path",
        **tags: str,
    ) -> None: ...


class Write(Protocol):
    def __call__(self, path: str, **columns: Any) -> str: ...


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Follow a deployment, and wait for what is discovered."""
    with ExitStack() as stack:

        def make(
            deployment: Any,
            state_dir: Path | None = None,
            *,
            bucket: str | None = None,
            discovery: Discovery | None = None,
        ) -> LiveCatalog:
            records = EventReader(listed(METADATA_KEYS), bucket)
            catalog = LiveCatalog(
                open_event_log(deployment.url or str(deployment.home), records=records),
                "uat",
                state_dir,
                poll_interval_s=0.05,
                discovery=discovery or open_discovery(Settings(), state_dir, bucket),
                discovery_wait_s=PATIENCE_S,
            )
            stack.callback(catalog.close)
            return catalog

        yield make


@pytest.fixture(scope="session")
def report() -> Report:
    """Log a materialization as one's own code does, with the place of its data as metadata."""

    def log(
        deployment: Any, uri: str, partition: str | None = None, *, key: str = "orders", name: str = "path", **tags: str
    ) -> None:
        kind = dg.MetadataValue.path if name == "path" else dg.MetadataValue.text
        dimensions = {f"dagster/partition/{dimension}": value for dimension, value in tags.items()}
        event = dg.AssetMaterialization(key, partition=partition, metadata={name: kind(uri)}, tags=dimensions)
        deployment.instance.report_runless_asset_event(event)

    return log


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write Parquet below the test's folder, and return its path."""

    def make(path: str, **columns: Any) -> str:
        target = tmp_path / "lake" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), target)
        return str(target)

    return make


def table(catalog: LiveCatalog, name: str = "orders") -> Table:
    return catalog.current().tables[TableName("uat_default", name)]


def partitions(catalog: LiveCatalog, name: str = "orders") -> list[dict[str, Any]]:
    rows = table(catalog, name).files.select(["partition", "rows"]).to_pylist()
    return sorted(({**row["partition"], "rows": row["rows"]} for row in rows), key=str)
