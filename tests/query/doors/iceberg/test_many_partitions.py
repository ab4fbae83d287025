"""Daft, and Sail as a cluster in one process, give DagFusion's answers over 1,500 partitions.

benchmarks/test_iceberg.py does the same over 18,250 partitions.
"""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_query.errors import RemoteEngineError
from dagfusion_stack.dagster import RUN_ENVIRON
from tests.query.conftest import Deployment
from tests.query.doors.iceberg.lake import PATIENCE_S, Lake, rows_of, running
from tests.query.doors.iceberg.other_clients import Daft, running_daft
from tests.query.spark.sail import answer, local_cluster

PREFIX, NAME = "many", "many"
TABLE = f"uat_default.{NAME}"
PLACES = tuple(f"place-{n}" for n in range(50))
DATES = [f"2024-01-{day:02}" for day in range(1, 31)]
ROWS = 6  # of a partition: more than a batch of Sail's together
SUMS = "count(*) AS c, sum(n) AS s, min(text) AS t"
STATEMENTS = {
    "point": "SELECT n, text FROM {} WHERE place = 'place-7' AND date = DATE '2024-01-05'",
    "place": f"SELECT date, {SUMS} FROM {{}} WHERE place = 'place-7' GROUP BY date",
    "date": f"SELECT place, {SUMS} FROM {{}} WHERE date = DATE '2024-01-05' GROUP BY place",
    "full scan": f"SELECT kind, {SUMS} FROM {{}} GROUP BY kind",
    "full scan by place": f"SELECT place, {SUMS} FROM {{}} GROUP BY place",
}
# A limit that docs/how-to/distributed.md tells of: drop it when an upgrade of Sail runs the statement.
NOT_IN_SAIL = "full scan by place"
pytestmark = pytest.mark.usefixtures("long")


@pytest.fixture(scope="module")
def lake(
    s3_fields: dict[str, Any], database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    """A deployment whose clients get large objects once there are some; SQLite would store event by event."""
    folder, event_log = tmp_path_factory.mktemp("many"), database()
    home = folder / "home"
    Deployment(home, event_log).instance.dispose()
    own = running(home, folder, s3_fields, PREFIX, DAGFUSION_EVENT_LOG=event_log, DAGFUSION_ICEBERG_CONSOLIDATED=TABLE)
    with own as lake:
        yield lake


@pytest.fixture(scope="module")
def consolidate(lake: Lake, s3_fields: dict[str, Any]) -> Callable[[], int]:
    """Consolidates the table, and returns the number of large objects; the table is there."""
    manager = PartitionedS3ParquetIOManager(**s3_fields, prefix=PREFIX, **Daft.options)
    partitions = dg.MultiPartitionsDefinition(
        {
            "date": dg.DailyPartitionsDefinition(DATES[0], end_date="2024-01-31"),
            "place": dg.StaticPartitionsDefinition([*PLACES]),
        }
    )

    @dg.asset(name=NAME, partitions_def=partitions)
    def made() -> pl.DataFrame:
        keys = [(date, place) for date in DATES for place in PLACES for _ in range(ROWS)]
        frame = pl.DataFrame(keys, ["date", "place"], orient="row").with_columns(pl.col("date").str.to_date())
        numbers = pl.int_range(len(keys))
        return frame.with_columns(n=numbers, kind=numbers % 7, text=pl.format("text of {}", numbers))

    first, last = (f"{date}|{place}" for date, place in ((DATES[0], PLACES[0]), (DATES[-1], PLACES[-1])))
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in RUN_ENVIRON.items():  # or each event is a transaction
            patch.setenv(variable, value)
        lake.materialize(made, manager, tags=tags)

    def run() -> int:
        record = lake.instance.report_runless_asset_event
        consolidated = consolidate_asset(lake.instance, manager, dg.AssetKey(NAME), "6f9619ff", record)
        lake.environments.refresh(PATIENCE_S)
        return consolidated.objects

    return run


@pytest.fixture(scope="module")
def clients(
    lake: Lake,
    tmp_path_factory: pytest.TempPathFactory,
    processes: None,  # noqa: ARG001  # both are some
) -> Iterator[dict[str, Callable[[str], pa.Table]]]:
    """What runs a statement over the table, by client."""
    store = {name: value for name, value in lake.variables.items() if name.startswith("AWS_")}
    store |= {"AWS_ENDPOINT": store["AWS_ENDPOINT_URL"], "AWS_ALLOW_HTTP": "true"}
    catalog = {"name": "lake", "uri": lake.url}
    with (
        running_daft(lake.url, lake.variables, tmp_path_factory.mktemp("daft")) as daft,
        local_cluster(tmp_path_factory.mktemp("sail"), store, catalog) as sail,
    ):

        def by_daft(statement: str) -> pa.Table:
            daft.load(TABLE)
            return daft.sql(statement.format(f"lake_{NAME}"))

        yield {"daft": by_daft, "sail": lambda statement: answer(sail, statement.format(f"lake.{TABLE}"))}


def test_many_partitions_and_then_few_objects(
    lake: Lake, consolidate: Callable[[], int], clients: dict[str, Callable[[str], pa.Table]]
) -> None:
    expected = {name: rows_of(lake.own(sql.format(TABLE))) for name, sql in STATEMENTS.items()}
    assert [len(rows) for rows in expected.values()] == [ROWS, 30, 50, 7, 50]
    for name, sql in STATEMENTS.items():
        assert rows_of(clients["daft"](sql)) == expected[name], name
        if name == NOT_IN_SAIL:
            with pytest.raises(RemoteEngineError, match=f"needs {len(DATES) * len(PLACES)} task slots"):
                clients["sail"](sql)
        else:
            assert rows_of(clients["sail"](sql)) == expected[name], name

    assert 0 < consolidate() < len(PLACES)
    for name, sql in STATEMENTS.items():
        for client, run in clients.items():
            assert rows_of(run(sql)) == expected[name], (client, name)
