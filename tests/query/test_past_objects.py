"""Objects of past states: what was removed or replaced since is an error that says so, and never other rows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_client.errors import (
    PastError,
    RemovedObjectError,
    ReplacedObjectError,
    UnknownPastError,
    UnknownTableError,
)
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_query import Connection, connect
from tests.query.engine.conftest import local_etag

SUM = "SELECT sum(id) AS s FROM local_default.t"
SETTINGS = {"DAGFUSION_STATE_DIR": "none", "DAGFUSION_OBJECT_CACHE_DIR": "none", "DAGFUSION_RESULT_CACHE_DIR": "none"}


class Written:
    """Objects on local disk and their events, which have the ids 1, 2, 3 and so on."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder
        (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        self.instance = dg.DagsterInstance.from_config(str(home))

    def write(self, name: str, ids: list[int]) -> Path:
        """Write an object."""
        path = self.folder / name
        pq.write_table(pa.table({"id": ids}), path)
        return path

    def materialize(self, path: Path, rows: int, partition: str = "CA") -> None:
        """Log the event of an object as it is."""
        status = path.stat()
        record: dict[str, Any] = {
            "version": 1,
            "uri": f"file://{path}",
            "size_bytes": status.st_size,
            "etag": local_etag(path),
            "modified": datetime.fromtimestamp(status.st_mtime, UTC).isoformat().replace("+00:00", "Z"),
            "rows": rows,
            "partition": [{"name": "state", "type": "string", "value": partition}],
            "schema": {"fingerprint": "0", "fields": [{"name": "id", "type": "int64", "nullable": True}]},
            "columns": {},
        }
        event = dg.AssetMaterialization("t", partition=partition, metadata={"dagfusion/file": record})
        self.instance.report_runless_asset_event(event)

    def publish(self, name: str, sql: str, *reads: str) -> None:
        """Log the event of a view."""
        tables = [TableName("local_default", table) for table in reads]
        record = view_entry(View(sql, tables, pa.schema({"s": pa.int64()})))
        event = dg.AssetMaterialization(name, metadata={VIEW_ENTRY: dg.MetadataValue.json(record)})
        self.instance.report_runless_asset_event(event)

    def open(self) -> Connection:
        """Connect to the event log."""
        return connect(str(self.home), settings=SETTINGS)


@pytest.fixture
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    made = Written(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("lake"))
    with made.instance:
        yield made


@pytest.mark.usefixtures("heavy")
def test_the_objects_of_the_past_are_read(written: Written) -> None:
    for number, ids in enumerate(([1], [2, 3]), 1):
        written.materialize(written.write(f"data-{number}.parquet", ids), len(ids))

    with written.open() as connection:
        assert [connection.sql(SUM, as_of=event).to_arrow()["s"].to_pylist() for event in (1, 2)] == [[1], [5]]


@pytest.mark.usefixtures("heavy")
def test_an_object_that_was_removed_is_outside_of_the_retention(written: Written) -> None:
    first = written.write("data-1.parquet", [1])
    written.materialize(first, 1)
    written.materialize(written.write("data-2.parquet", [2]), 1)
    first.unlink()

    with written.open() as connection:
        assert connection.sql(SUM).to_arrow()["s"].to_pylist() == [2]
        with pytest.raises(RemovedObjectError, match="outside of the retention") as raised:
            connection.sql(SUM, as_of=1).to_arrow()
        assert f"'file://{first}'" in str(raised.value), "in quotes, so that a service removes the folder"
        assert raised.value.http_status == 410


@pytest.mark.usefixtures("heavy")
def test_an_object_that_a_later_event_replaced_is_told_without_reading_it(written: Written) -> None:
    written.materialize(written.write("data.parquet", [1]), 1)
    written.materialize(written.write("data.parquet", [2, 3]), 2)

    with written.open() as connection, pytest.raises(ReplacedObjectError, match="by event 2") as raised:
        connection.sql(SUM, as_of=1)
    assert "per_run" in str(raised.value)


@pytest.mark.usefixtures("heavy")
def test_an_object_that_was_replaced_without_a_current_event_is_found_by_its_etag(written: Written) -> None:
    written.materialize(written.write("data.parquet", [1]), 1)
    written.materialize(written.write("other.parquet", [7]), 1)
    written.write("data.parquet", [2])  # of the same size

    with written.open() as connection, pytest.raises(PastError):
        connection.sql(SUM, as_of=1).to_arrow()


@pytest.mark.usefixtures("heavy")
def test_partitions_whose_objects_are_still_there_are_read(written: Written) -> None:
    gone = written.write("ca.parquet", [1])
    written.materialize(gone, 1)
    written.materialize(written.write("ny.parquet", [5]), 1, "NY")
    written.materialize(written.write("ca-2.parquet", [2]), 1)
    gone.unlink()

    with written.open() as connection:
        assert connection.sql(f"{SUM} WHERE state = 'NY'", as_of=2).to_arrow()["s"].to_pylist() == [5]
        assert connection.sql("SELECT count(*) AS n FROM local_default.t", as_of=2).to_arrow()["n"].to_pylist() == [2]


@pytest.mark.usefixtures("heavy")
def test_a_view_has_the_statement_and_the_tables_of_its_past(written: Written) -> None:
    over, inner = "SELECT s FROM local_default.upper_view", "SELECT s FROM local_default.lower_view"
    written.publish("lower_view", SUM, "t")  # event 1, when there is no table yet
    written.publish("upper_view", inner, "lower_view")
    written.materialize(written.write("data-1.parquet", [1]), 1)  # event 3
    written.publish("lower_view", f"SELECT 10 * s AS s FROM ({SUM})", "t")
    written.materialize(written.write("data-2.parquet", [2, 3]), 2)  # event 5
    written.publish("upper_view", f"SELECT -s AS s FROM ({inner})", "lower_view")

    with written.open() as connection:
        found = [connection.sql(over, as_of=event).to_arrow()["s"].to_pylist() for event in (3, 4, 5, 6)]
        assert found == [[1], [10], [50], [-50]]
        assert connection.sql(over).to_arrow()["s"].to_pylist() == [-50]
        names = "SELECT table_name AS n FROM information_schema.tables WHERE table_schema = 'local_default' ORDER BY 1"
        assert connection.sql(names, as_of=3).to_arrow()["n"].to_pylist() == ["lower_view", "t", "upper_view"]
        assert connection.sql(names, as_of=2).to_arrow()["n"].to_pylist() == []
        with pytest.raises(UnknownTableError, match=r"no table local_default\.t as of event 2"):
            connection.sql(over, as_of=2)
        with pytest.raises(UnknownTableError, match=r"no table local_default\.upper_view as of event 1"):
            connection.sql(over, as_of=1)
        with pytest.raises(UnknownPastError, match="was a view as of event 3: compare the tables"):
            connection.diff("local_default.upper_view", 3)


@pytest.mark.usefixtures("heavy")
def test_a_table_that_is_a_view_now_is_read_as_it_was(written: Written) -> None:
    written.materialize(written.write("data.parquet", [7]), 1)
    written.publish("t", "SELECT 8 AS id")
    with written.open() as connection:
        assert [connection.sql(SUM, as_of=event).to_arrow()["s"].to_pylist() for event in (1, 2)] == [[7], [8]]


@pytest.mark.usefixtures("heavy")
def test_a_view_that_is_a_table_now_is_read_as_it_was(written: Written) -> None:
    written.publish("t", "SELECT 8 AS id")
    written.materialize(written.write("data.parquet", [7]), 1)
    with written.open() as connection:
        assert [connection.sql(SUM, as_of=event).to_arrow()["s"].to_pylist() for event in (1, 2)] == [[8], [7]]


@pytest.mark.usefixtures("heavy")
def test_a_view_of_a_table_that_never_was_names_it(written: Written) -> None:
    written.materialize(written.write("data.parquet", [7]), 1)
    written.publish("half", "SELECT t.id FROM local_default.t, local_default.nowhere", "t", "nowhere")
    written.publish("over", "SELECT * FROM local_default.half", "half")
    written.publish("none", "SELECT * FROM local_default.nowhere", "nowhere")
    with written.open() as connection:
        for name in ("half", "over", "none"):
            with pytest.raises(UnknownTableError, match=r"has nothing of the table local_default\.nowhere"):
                connection.sql(f"SELECT * FROM local_default.{name}", as_of=4)
            with pytest.raises(UnknownPastError, match="was a view as of event 4: compare the tables"):
                connection.diff(f"local_default.{name}", 4)
