"""Daft, and Sail as a cluster in one process, give DagFusion's answers over 1,500 partitions, also of both kinds.

benchmarks/test_iceberg.py does the same over 18,250 partitions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_client.errors import RemoteEngineError
from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_stack.dagster import RUN_ENVIRON
from tests.deployments import Deployment
from tests.interop.spark.sail import answer, local_cluster
from tests.pipeline.written import key_range
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake, rows_of, running
from tests.server.doors.iceberg.other_clients import Daft, running_daft
from tests.server.doors.iceberg.test_consolidated import large_files, scanned

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
PARTITIONS = dg.MultiPartitionsDefinition(
    {
        "date": dg.DailyPartitionsDefinition(DATES[0], end_date="2024-01-31"),
        "place": dg.StaticPartitionsDefinition([*PLACES]),
    }
)
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


class Many:
    """The table.

    Args:
        lake: The deployment.
        manager: Writes the partitions.
    """

    def __init__(self, lake: Lake, manager: PartitionedS3ParquetIOManager) -> None:
        self._lake, self._manager = lake, manager

    def write(self, dates: Sequence[str], places: Sequence[str], first: int = 0) -> None:
        """Write partitions, whose rows are numbered from the first number on."""

        @dg.asset(name=NAME, partitions_def=PARTITIONS)
        def made() -> pl.DataFrame:
            keys = [(date, place) for date in dates for place in places for _ in range(ROWS)]
            frame = pl.DataFrame(keys, ["date", "place"], orient="row").with_columns(pl.col("date").str.to_date())
            numbers = pl.int_range(first, first + len(keys))
            return frame.with_columns(n=numbers, kind=numbers % 7, text=pl.format("text of {}", numbers))

        with pytest.MonkeyPatch.context() as patch:
            for variable, value in RUN_ENVIRON.items():  # or each event is a transaction
                patch.setenv(variable, value)
            tags = key_range(f"{dates[0]}|{places[0]}", f"{dates[-1]}|{places[-1]}")
            self._lake.materialize(made, self._manager, tags=tags)

    def consolidate(self) -> int:
        """Consolidate the table, and return the number of large objects that were written."""
        instance = self._lake.instance
        record = instance.report_runless_asset_event
        consolidated = consolidate_asset(instance, self._manager, dg.AssetKey(NAME), "6f9619ff", record)
        self._lake.environments.refresh(PATIENCE_S)
        return consolidated.objects


@pytest.fixture(scope="module")
def many(lake: Lake, s3_fields: dict[str, Any]) -> Many:
    """The table with all partitions."""
    made = Many(lake, PartitionedS3ParquetIOManager(**s3_fields, prefix=PREFIX, **Daft.options))
    made.write(DATES, PLACES)
    return made


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
    lake: Lake, many: Many, clients: dict[str, Callable[[str], pa.Table]]
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

    written = many.consolidate()
    assert 1 < written < len(PLACES)
    assert large_files(lake, TABLE) == scanned(lake, TABLE)
    for name, sql in STATEMENTS.items():
        for client, run in clients.items():
            assert rows_of(run(sql)) == expected[name], (client, name)

    # Both kinds: a partition is written again, so one large object is no longer current.
    many.write(DATES[4:5], PLACES[7:8], first=1_000_000)
    assert len(large_files(lake, TABLE)) == written - 1
    assert len(scanned(lake, TABLE)) > written
    changed = {name: rows_of(lake.own(sql.format(TABLE))) for name, sql in STATEMENTS.items()}
    assert all(changed[name] != rows for name, rows in expected.items())
    for name, sql in STATEMENTS.items():
        for client, run in clients.items():
            assert rows_of(run(sql)) == changed[name], (client, name)
