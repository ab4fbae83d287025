"""Older snapshots: clients read as of the past what DagFusion reads, and nothing that may be gone is offered."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import httpx
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_client.errors import EnvironmentUnavailableError, UnknownTableError
from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.past_states import NewerObjects
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_query import connect
from dagfusion_server.doors.iceberg import older_snapshots
from dagfusion_server.doors.iceberg.older_snapshots import OlderSnapshots
from tests.interop.iceberg.reading import Part, folded, opened, publish, with_older
from tests.server.doors.iceberg.lake import PLACES, Lake, event_of, loaded, rows_of
from tests.server.doors.iceberg.remembering import Remembering, generation, parts

pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search take the time that a busy machine needs."""
    monkeypatch.setattr(older_snapshots, "_PATIENCE_S", 60.0)


def test_clients_read_older_snapshots(lake: Lake, write: Callable[..., None], name: str) -> None:
    """Partitions are rewritten, and columns are added, widened and dropped."""
    write(PLACES, n=1, gone="x")
    write(PLACES[1:2], n=2**40, more=1.5)
    write(PLACES, n=2**41)
    table = f"uat_default.{name}"
    found = loaded(lake, table, 3)
    snapshots = found.snapshots()
    assert found.current_snapshot() == snapshots[-1]
    assert [entry.snapshot_id for entry in found.history()] == [one.snapshot_id for one in snapshots]
    assert [one.timestamp_ms for one in snapshots] == sorted(one.timestamp_ms for one in snapshots)
    columns = [["gone", "n", "place"], ["gone", "more", "n", "place"], ["n", "place"]]
    with lake.duckdb() as duck, connect(settings=lake.variables) as own:
        for snapshot, wanted in zip(snapshots, columns, strict=True):
            scan = found.scan(snapshot_id=snapshot.snapshot_id)
            assert sorted(scan.projection().column_names) == wanted
            names = ", ".join(wanted)
            expected = rows_of(own.sql(f"SELECT {names} FROM {table}", as_of=event_of(snapshot)).to_arrow())
            assert rows_of(scan.to_arrow().select(wanted)) == expected
            lazy = pl.scan_iceberg(found, snapshot_id=snapshot.snapshot_id, storage_options=found.config)
            assert rows_of(lazy.select(wanted).collect().to_arrow()) == expected
            at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            for way in (f"VERSION => {snapshot.snapshot_id}", f"TIMESTAMP => TIMESTAMP '{at}'"):
                sql = f"SELECT {names} FROM lake.{table} AT ({way})"
                assert rows_of(duck.execute(sql).to_arrow_table()) == expected, way


def test_clients_read_the_changes_between_snapshots(lake: Lake, write: Callable[..., None], name: str) -> None:
    """Those of runs that only added partitions are appended rows; PyIceberg reads no others."""
    table = f"uat_default.{name}"
    for places, n in ((PLACES[:1], 1), (PLACES[1:2], 2), (PLACES[:1], 3), (PLACES[2:], 4)):
        write(places, n=n)
        lake.pyiceberg().load_table(table).scan().to_arrow()  # PyIceberg keeps what each list says of a manifest
    found = loaded(lake, table, 4)
    snapshots = found.snapshots()
    ids = [one.snapshot_id for one in snapshots]
    assert [one.parent_snapshot_id for one in snapshots] == [None, *ids[:-1]]
    operations = [one.summary.operation.value for one in snapshots if one.summary is not None]
    assert operations == ["append", "append", "overwrite", "append"]

    def appended(first: int | None, last: int) -> list[int]:
        scan = found.incremental_append_scan(from_snapshot_id_exclusive=first, to_snapshot_id_inclusive=last)
        return sorted(scan.to_arrow()["n"].to_pylist())

    assert appended(None, ids[3]) == [2, 4]
    assert appended(ids[0], ids[3]) == [2, 4]
    assert appended(ids[1], ids[2]) == []
    assert appended(ids[2], ids[3]) == [4]
    with lake.duckdb() as duck, connect(settings=lake.variables) as own:
        for snapshot in snapshots:
            expected = rows_of(own.sql(f"SELECT n, place FROM {table}", as_of=event_of(snapshot)).to_arrow())
            sql = f"SELECT n, place FROM lake.{table} AT (VERSION => {snapshot.snapshot_id})"
            assert rows_of(duck.execute(sql).to_arrow_table()) == expected
            scan = found.scan("place != 'none'", snapshot_id=snapshot.snapshot_id)
            assert rows_of(scan.to_arrow().select(["n", "place"])) == expected
            count = f"SELECT count(*) FROM lake.{table} AT (VERSION => {snapshot.snapshot_id})"
            assert duck.execute(count).fetchall() == [(len(expected),)]


def test_snapshots_share_manifests_and_stay_the_same(lake: Lake, write: Callable[..., None], name: str) -> None:
    write(PLACES, n=1)
    table = f"uat_default.{name}"
    first = lake.pyiceberg().load_table(table).current_snapshot()
    assert first is not None
    write(PLACES[:1], n=2)
    found = loaded(lake, table, 2)
    assert found.snapshots()[0] == first
    url = f"{lake.url}/v1/namespaces/uat_default/tables/{name}"
    one, other = (httpx.get(url, trust_env=False) for _ in range(2))
    assert one.headers["etag"] == other.headers["etag"]
    assert one.json()["metadata-location"] == found.metadata_location
    refs = httpx.get(f"{url}?snapshots=refs", trust_env=False).json()["metadata"]
    assert [snapshot["snapshot-id"] for snapshot in refs["snapshots"]] == [found.snapshots()[1].snapshot_id]
    assert httpx.get(f"{url}?snapshots=some", trust_env=False).status_code == 400


def test_what_may_be_gone_or_replaced_is_not_offered(
    lake: Lake, hive: PartitionedS3ParquetIOManager, write: Callable[..., None], name: str
) -> None:
    """Stable names, and what is older than a wipe."""

    @dg.asset(name=f"{name}_stable")
    def stable() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    for _ in range(2):
        lake.materialize(stable, hive)
        write(PLACES, n=1)
    assert len(loaded(lake, f"uat_default.{name}", 2).snapshots()) == 2
    lake.wipe(name)
    write(PLACES[:1], n=3)
    assert len(settled(lake, name)["snapshots"]) == 1
    assert len(settled(lake, f"{name}_stable")["snapshots"]) == 1


def settled(lake: Lake, name: str) -> dict[str, Any]:
    """The metadata of a table, when it has been searched for older snapshots for some time."""
    url = f"{lake.url}/v1/namespaces/uat_default/tables/{name}"
    for _ in range(3):
        time.sleep(0.1)
        found = httpx.get(url, trust_env=False).json()["metadata"]
    return dict(found)


def events(service: Remembering, publisher: Publisher, kept_hours: float = 24) -> list[int]:
    """The latest events of the snapshots that are offered."""
    current = publish(publisher, folded(service.states[-1], {"p": "string"}))
    found = asyncio.run(OlderSnapshots(service, kept_hours).with_them(current, publisher))
    return [event_of(snapshot) for snapshot in opened(found).snapshots()]


@pytest.mark.parametrize(
    ("ages", "wipes", "expected"),
    [
        ([9, 2, 1], [], [1, 2, 3]),
        ([90, 30, 1], [], [2, 3]),  # the first was replaced 30 hours ago
        ([90, 80, 70], [], [3]),
        ([9, 2, 1], [1], [3]),
        ([9, 2, 1], [0], [2, 3]),
        ([9, 2, 1], [2], [3]),
    ],
)
def test_revisions_that_are_offered(
    publisher: Publisher, ages: Sequence[float], wipes: Sequence[int], expected: Sequence[int]
) -> None:
    assert events(Remembering([parts(1), parts(2), parts(3)], ages=ages, wipes=wipes), publisher) == expected


def test_what_was_published_is_not_read_again(publisher: Publisher) -> None:
    """Unless the event has another time: SQLite gives the ids of wiped events again."""
    service = Remembering([parts(1), parts(2)], ages=[2, 1])
    publish(publisher, folded(parts(1), {"p": "string"}))
    for ms, reads in ((1, 0), (7, 1)):
        times = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at) for at in (2, ms)]
        service.told = [generation(number, at) for number, at in zip((2, 1), times, strict=True)]
        assert events(service, publisher, kept_hours=10**6) == [1, 2]
        assert service.reads == reads


def test_a_search_reads_each_state_once(publisher: Publisher) -> None:
    service = Remembering([parts(count) for count in range(1, 9)], ages=range(8, 0, -1))
    assert events(service, publisher) == [*range(1, 9)]
    assert service.reads == 7


def test_a_document_has_one_mapping_of_names(publisher: Publisher) -> None:
    """A column that is left out now must not be read from older files by the same name."""
    added = [*parts(1), Part(["S1"], {"id": "string", "more": "int64"}, {})]
    assert events(Remembering([parts(1), added], ages=[2, 1]), publisher) == [2]
    kept = [*parts(1), Part(["S1"], {"more": "int64"}, {})]
    assert events(Remembering([parts(1), kept], ages=[2, 1]), publisher) == [1, 2]


def test_objects_that_may_be_others_now_are_not_offered(publisher: Publisher) -> None:
    """Both revisions write one partition, and no object is named after a run."""
    before, after = [Part(["S0"], {"id": "int64"}, {}, number=1)], [Part(["S0"], {"id": "int64"}, {}, number=1)] * 2
    service = Remembering([before, after], ages=[2, 1])
    assert events(service, publisher) == [2]
    # Nor when a client has loaded the table in between.
    known = publish(publisher, folded(before, {"p": "string"})).snapshot.version
    service.told[1] = generation(1, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=known.at_ms))
    assert events(service, publisher, kept_hours=10**6) == [2]
    assert service.reads == 1


def test_a_repaired_object_is_not_offered_as_of_before() -> None:
    """The same object under a new event, also when a third run has replaced it since."""
    (table,) = folded(parts(1), {"p": "string"}).tables.values()

    def state(event_id: int, run_id: str, named: str) -> Any:
        uri = f"s3://bucket/orgs/t-{named}.parquet"
        files = table.files
        for name, value in (("event_id", event_id), ("uri", uri), ("run_id", run_id)):
            at = files.column_names.index(name)
            files = files.set_column(at, files.schema.field(at), pa.array([value], files.schema.field(at).type))
        return replace(table, files=files)

    assert NewerObjects(state(2, "b", "b")).add_if_unchanged(state(1, "a", "a"))
    assert not NewerObjects(state(2, "b", "a")).add_if_unchanged(state(1, "a", "a"))
    newer = NewerObjects(state(3, "a", "c"))
    assert newer.add_if_unchanged(state(2, "a", "a"))
    assert not newer.add_if_unchanged(state(1, "a", "a"))
    assert not NewerObjects(state(2, "b", "b")).add_if_unchanged(state(1, "a", "x"))


def listed(kind: str) -> dict[str, Any]:
    return {"list": {"name": "item", "type": kind, "nullable": True}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("int32", "string"), ("int64", "string"), [1, 2]),
        (("float", "string"), ("double", "string"), [1, 2]),
        (("int64", "string"), ("double", "string"), [2]),
        (("int64", "string"), ("int32", "string"), [2]),
        (("int64", "string"), ("string", "string"), [2]),
        ((listed("int32"), "string"), (listed("int64"), "string"), [1, 2]),
        ((listed("int64"), "string"), (listed("double"), "string"), [2]),
        ((listed("int64"), "string"), ("int64", "string"), [2]),
        (("int64", "date32[day]"), ("int64", "string"), [2]),
        (("int64", "int32"), ("int64", "int64"), [2]),
    ],
)
def test_bounds_are_those_of_the_newer_type(
    publisher: Publisher, before: tuple[Any, str], after: tuple[Any, str], expected: Sequence[int]
) -> None:
    """A client reads bounds of older files by the current schema: it must be able to convert them."""
    values = {"string": "2024-01-01", "date32[day]": "2024-01-01", "int32": 1, "int64": 1}
    old, new = (
        [Part([values[place]], {"n": kind}, {}, number=n) for n in range(count)]
        for count, (kind, place) in enumerate((before, after), 1)
    )
    snapshots = [publish(publisher, folded(some, {"p": kinds[1]})) for some, kinds in ((old, before), (new, after))]
    found = opened(with_older(publisher, snapshots[1], snapshots[0].snapshot))
    assert [event_of(snapshot) for snapshot in found.snapshots()] == expected


def test_the_time_limit_counts_from_the_first_event_of_newer_runs(publisher: Publisher) -> None:
    """A backfill of hours, in which another run ended: what it replaced first is deleted first."""
    states = [parts(1), parts(2), parts(3)]
    assert events(Remembering(states, ages=[40, 20, 1], firsts=[40, 20, 26]), publisher) == [2, 3]
    assert events(Remembering(states, ages=[40, 20, 1], firsts=[40, 20, 2]), publisher) == [1, 2, 3]
    assert events(Remembering([parts(1), parts(2)], ages=[40, 1], firsts=[40, 26]), publisher) == [2]


def test_the_past_of_one_table_is_sought_at_a_time(publisher: Publisher) -> None:
    service = Remembering([parts(1), parts(2)], ages=[2, 1])
    current = publish(publisher, folded(parts(2), {"p": "string"}))
    tables = [replace(current.table, name=TableName("uat_default", f"t{n}")) for n in range(3)]
    older = OlderSnapshots(service, 24)

    async def load() -> None:
        await asyncio.gather(*(older.with_them(replace(current, table=table), publisher) for table in tables))

    # No generation is older than the current state: only the event log is asked.
    service.told = service.told[:1]
    asyncio.run(load())
    assert service.at_once == 1


@pytest.mark.parametrize("error", [UnknownTableError("gone at once"), ValueError("a fault")])
def test_a_state_that_cannot_be_read_costs_itself_at_most(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    service = Remembering([parts(1), parts(2), parts(3)], ages=[9, 2, 1])
    service.unreadable[1] = error
    current = publish(publisher, folded(parts(3), {"p": "string"}))
    older = OlderSnapshots(service, 24)

    async def twice() -> list[list[int]]:
        found = [await older.with_them(current, publisher) for _ in range(2)]
        return [[event_of(snapshot) for snapshot in opened(one).snapshots()] for one in found]

    expected = [2, 3] if isinstance(error, UnknownTableError) else [3]
    assert asyncio.run(twice()) == [expected] * 2
    assert service.reads == 2
    assert str(error) in caplog.text
    assert ("Traceback" in caplog.text) == isinstance(error, ValueError)


def test_without_the_event_log_the_current_snapshot_is_loaded(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    service = Remembering([parts(1), parts(2)], ages=[2, 1])
    service.error = EnvironmentUnavailableError("the database is down")
    assert events(service, publisher) == [2]
    assert "the database is down" in caplog.text
