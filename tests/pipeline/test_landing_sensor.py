"""Objects of other writers under an asset's prefix become materializations, each once."""

import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pytest
from obstore.store import MemoryStore

from dagfusion_contract.record import RecordReader
from dagfusion_pipeline import PartitionedS3ParquetIOManager, build_landing_sensor
from dagfusion_pipeline.erase import erase_rows
from dagfusion_pipeline.erasure_keys import Keys
from dagfusion_pipeline.errors import ArchivedObjectError, ConfigurationError
from dagfusion_pipeline.event_objects import tombstone_event
from dagfusion_pipeline.landed_objects import list_folders
from dagfusion_pipeline.landed_partitions import LANDED, Wipe, last_wipes
from dagfusion_pipeline.store import ObjectStore, ObjectVersion, StoredObject

pytestmark = pytest.mark.usefixtures("heavy")
DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
BOTH = dg.MultiPartitionsDefinition({"date": DAYS, "state": dg.StaticPartitionsDefinition(["CA", "NY"])})
ORDERS = dg.AssetSpec(["Bronze", "orders"], partitions_def=BOTH)
ROWS = pl.DataFrame({"id": [1, 2, 3], "amount": [1.5, None, 2.5]})
FOLDER = "lake/Bronze/orders"


class Lake:
    """A bucket in memory, an event log, and a sensor whose ticks are logged as the daemon logs them."""

    def __init__(self, instance: dg.DagsterInstance, sensor: dg.SensorDefinition, **fields: Any) -> None:
        self.store = ObjectStore(MemoryStore(), "s3://bucket")
        store = self.store

        class Manager(PartitionedS3ParquetIOManager):
            @property
            def object_store(self) -> ObjectStore:
                return store

        self.manager = Manager(bucket="bucket", prefix="lake", **fields)
        self.instance, self.sensor = instance, sensor
        self.cursor: str | None = None
        self.skipped: str | None = None

    def put(self, key: str, rows: pl.DataFrame | bytes = ROWS) -> None:
        content = io.BytesIO()
        if isinstance(rows, pl.DataFrame):
            rows.write_parquet(content)
        else:
            content.write(rows)
        obstore.put(self.store.client, key, content.getvalue())

    def tick(self) -> dict[str | None, Mapping[str, Any]]:
        resources = {"io_manager": self.manager}
        with dg.build_sensor_context(self.instance, cursor=self.cursor, resources=resources) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor, self.skipped = data.cursor, data.skip_message
        for request in data.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        found: dict[str | None, Mapping[str, Any]] = {}
        for event in data.asset_events:
            assert isinstance(event, dg.AssetMaterialization)
            self.instance.report_runless_asset_event(event)
            found[event.partition] = {name: value.value for name, value in event.metadata.items()}
        return found


@pytest.fixture
def lake(instance: dg.DagsterInstance) -> Lake:
    return Lake(instance, build_landing_sensor(ORDERS))


def test_an_object_becomes_a_materialization_once_and_again_when_it_is_uploaded_again(lake: Lake) -> None:
    assert lake.tick() == {}
    lake.put(f"{FOLDER}/state=CA/date=2024-01-05/part-0.parquet")
    ((partition, found),) = lake.tick().items()
    assert partition == "2024-01-05|CA"
    file = RecordReader("bucket").read(found["dagfusion/file"])
    assert file.uri == f"s3://bucket/{FOLDER}/state=CA/date=2024-01-05/part-0.parquet"
    assert (file.rows, file.layout.file.names) == (3, ["id", "amount"])
    assert file.layout.partition == pa.schema([("state", pa.string()), ("date", pa.date32())])
    assert file.partition == ["CA", "2024-01-05"]
    assert json.loads(file.columns)["amount"] == {"min": 1.5, "max": 2.5, "nulls": 1}
    assert file.checksum is not None
    assert found["dagster/partition_row_count"] == 3
    assert found["partition_keys"] == {"date": "2024-01-05", "state": "CA"}
    assert found["column_count"] == 4

    assert lake.tick() == {}
    assert lake.skipped == "1 partitions were listed, and none has new objects"
    lake.put(f"{FOLDER}/state=CA/date=2024-01-05/part-0.parquet", ROWS.head(2))
    lake.put(f"{FOLDER}/state=NY/date=2024-01-05/part-0.parquet")
    again = lake.tick()
    assert {key: one["dagster/partition_row_count"] for key, one in again.items()} == {
        "2024-01-05|CA": 2,
        "2024-01-05|NY": 3,
    }
    assert lake.tick() == {}


def test_several_objects_of_a_partition_and_what_cannot_be_read_are_named(lake: Lake) -> None:
    folder = f"{FOLDER}/state=CA/date=2024-01-05"
    lake.put(f"{folder}/part-0.parquet")
    assert "dagfusion/file" in lake.tick()["2024-01-05|CA"]
    lake.put(f"{folder}/part-1.parquet")
    lake.put(f"{FOLDER}/state=CA/date=2024-01-06/part-0.parquet", b"no Parquet")
    found = lake.tick()
    assert found.keys() == {"2024-01-05|CA", "2024-01-06|CA"}
    both, broken = found.values()
    assert both["dagster/uri"] == f"s3://bucket/{folder}/"
    assert (both["without_record"], both[LANDED]["objects"]) == ("the folder has 2 objects", 2)
    assert broken["dagster/uri"] == f"s3://bucket/{FOLDER}/state=CA/date=2024-01-06/part-0.parquet"
    assert broken["without_record"].startswith("the object cannot be read")
    assert not {"dagfusion/file"} & {*both, *broken}
    assert lake.tick() == {}
    lake.put(f"{folder}/part-1.parquet", ROWS.head(1))
    assert lake.tick().keys() == {"2024-01-05|CA"}
    obstore.delete(lake.store.client, f"{folder}/part-0.parquet")
    assert lake.tick()["2024-01-05|CA"]["dagfusion/file"]["rows"] == 1


def test_large_objects_are_named_and_not_read(instance: dg.DagsterInstance) -> None:
    lake = Lake(instance, build_landing_sensor(ORDERS, max_read_bytes=10))
    lake.put(f"{FOLDER}/state=CA/date=2024-01-05/part-0.parquet")
    assert lake.tick()["2024-01-05|CA"]["without_record"] == "the object is larger than 10 bytes"
    assert lake.tick() == {}


def test_an_object_that_the_store_does_not_give_keeps_no_other(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ObjectStore.read_versions

    def refusing(store: ObjectStore, wanted: Sequence[ObjectVersion], concurrency: int) -> Any:
        if any("2024-01-05" in version.key for version in wanted):
            raise ArchivedObjectError
        return read(store, wanted, concurrency)

    for day in ("05", "06", "07"):
        lake.put(f"{FOLDER}/state=CA/date=2024-01-{day}/a.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "read_versions", refusing)
        assert lake.tick().keys() == {"2024-01-06|CA", "2024-01-07|CA"}
        assert lake.tick() == {}
    assert lake.tick().keys() == {"2024-01-05|CA"}  # restored


def test_what_is_of_no_partition_is_left_out(lake: Lake) -> None:
    for name in (
        "data.parquet",
        "state=CA/data.parquet",
        "date=2024-01-05/state=CA/data.parquet",
        "state=TX/date=2024-01-05/data.parquet",
        "state=CA/date=2023-12-31/data.parquet",
        "state=CA/date=yesterday/data.parquet",
        "state=CA/date=2024-01-05/_SUCCESS",
        "state=CA/date=2024-01-05/notes.txt",
        "state=CA/date=2024-01-05/_temporary/0.parquet",
        "_delta_log/00000000000000000000.json",
    ):
        lake.put(f"{FOLDER}/{name}")
    lake.put("lake/Bronze/orders_of_old/state=CA/date=2024-01-05/data.parquet")
    assert lake.tick() == {}
    nothing = "0 partitions were listed, and none has new objects"
    assert lake.skipped == f"{nothing}; 6 objects or folders are of no partition, and left out"


def test_ticks_are_bounded_and_each_object_gets_its_turn(instance: dg.DagsterInstance) -> None:
    lake = Lake(instance, build_landing_sensor(ORDERS, objects_a_tick=5, events_a_tick=2))
    keys = {f"2024-01-{day:02}|{state}" for day in range(1, 8) for state in ("CA", "NY")}
    for key in keys:
        day, state = key.split("|")
        lake.put(f"{FOLDER}/state={state}/date={day}/a.parquet")
    found: list[str | None] = []
    for _ in range(12):
        events = lake.tick()
        assert len(events) <= 2
        found += events
    assert sorted(map(str, found)) == sorted(keys)
    lake.put(f"{FOLDER}/state=CA/date=2024-01-01/b.parquet")  # before where the listing is at the moment
    assert sum("2024-01-01|CA" in lake.tick() for _ in range(4)) == 1


def test_a_listing_ends_with_a_whole_folder() -> None:
    store = ObjectStore(MemoryStore(), "s3://bucket")
    for name in ("state=CA/1.parquet", "state=CA/2.parquet", "state=CA/3.parquet", "state=NY/1.parquet"):
        obstore.put(store.client, f"in/{name}", b"x")
    first = list_folders(store.list_objects("in"), "in", ["state"], limit=2)
    assert ([len(folder.objects) for folder in first.folders], first.after) == ([3], "in/state=CA/3.parquet")
    rest = list_folders(store.list_objects("in", first.after), "in", ["state"], limit=2)
    assert ([folder.dimension_keys for folder in rest.folders], rest.after) == ([("NY",)], None)


@dg.asset(key=["Bronze", "orders"], partitions_def=BOTH, io_manager_key="io_manager")
def orders() -> pl.DataFrame:
    return ROWS


def materialize(lake: Lake, *assets: dg.AssetsDefinition, partition: str) -> dg.ExecuteInProcessResult:
    date, _, state = partition.partition("|")
    tags = {"dagster/partition/date": date, "dagster/partition/state": state} if state else {}
    return dg.materialize(
        list(assets),
        instance=lake.instance,
        partition_key=partition,
        tags=tags,
        resources={"io_manager": lake.manager},
        selection=[assets[-1]],
    )


def test_what_runs_have_logged_is_not_logged_again(instance: dg.DagsterInstance) -> None:
    lake = Lake(instance, build_landing_sensor(orders))
    materialize(lake, orders, partition="2024-01-05|CA")
    assert lake.tick() == {}
    own = f"{FOLDER}/state=CA/date=2024-01-05/data.parquet"
    lake.put(own, ROWS.head(1))  # by another writer
    assert lake.tick()["2024-01-05|CA"]["dagster/partition_row_count"] == 1
    lake.put(f"{FOLDER}/state=CA/date=2024-01-05/more.parquet")
    assert lake.tick()["2024-01-05|CA"][LANDED]["objects"] == 2
    materialize(lake, orders, partition="2024-01-05|CA")  # supersedes what other writers have put there
    assert lake.tick() == {}


@pytest.mark.parametrize(
    ("spec", "folder", "partition"),
    [(ORDERS, "/state=CA/date=2024-01-05", "2024-01-05|CA"), (dg.AssetSpec(ORDERS.key), "", None)],
)
def test_wiped_partitions_stay_away_until_new_objects_land(
    instance: dg.DagsterInstance, spec: dg.AssetSpec, folder: str, partition: str | None
) -> None:
    lake = Lake(instance, build_landing_sensor(spec))
    lake.put(f"{FOLDER}{folder}/part-0.parquet")
    assert lake.tick().keys() == {partition}
    instance.report_runless_asset_event(tombstone_event(spec.key, partition, "a request"))
    assert lake.tick() == {}
    lake.put(f"{FOLDER}{folder}/part-0.parquet", ROWS.head(1))
    assert lake.tick().keys() == {partition}
    assert lake.tick() == {}


def test_wiped_objects_stay_away_when_others_land_beside_them(lake: Lake) -> None:
    folder = f"{FOLDER}/state=CA/date=2024-01-05"
    lake.put(f"{folder}/old.parquet")
    assert lake.tick().keys() == {"2024-01-05|CA"}
    lake.instance.report_runless_asset_event(tombstone_event(ORDERS.key, "2024-01-05|CA", "a request"))
    lake.put(f"{folder}/new.parquet", ROWS.head(2))
    found = lake.tick()["2024-01-05|CA"]
    assert (found["dagster/uri"], found[LANDED]["objects"]) == (f"s3://bucket/{folder}/new.parquet", 1)
    assert lake.tick() == {}
    lake.put(f"{folder}/more.parquet")
    assert lake.tick() == {}  # the folder as a whole would bring the wiped rows back
    obstore.delete(lake.store.client, f"{folder}/new.parquet")
    assert lake.tick()["2024-01-05|CA"]["dagster/uri"] == f"s3://bucket/{folder}/more.parquet"
    lake.put(f"{folder}/new.parquet")
    obstore.delete(lake.store.client, f"{folder}/old.parquet")
    assert lake.tick()["2024-01-05|CA"][LANDED]["objects"] == 2


def test_wiped_objects_stay_away_after_a_run_has_written_the_partition(instance: dg.DagsterInstance) -> None:
    lake = Lake(instance, build_landing_sensor(orders))
    folder = f"{FOLDER}/state=CA/date=2024-01-05"
    lake.put(f"{folder}/old.parquet")
    lake.tick()
    instance.report_runless_asset_event(tombstone_event(ORDERS.key, "2024-01-05|CA", "a request"))
    materialize(lake, orders, partition="2024-01-05|CA")
    lake.put(f"{folder}/new.parquet")
    assert lake.tick() == {}
    obstore.delete(lake.store.client, f"{folder}/old.parquet")
    assert lake.tick()["2024-01-05|CA"][LANDED]["objects"] == 2


@pytest.mark.parametrize(
    ("modified", "etag", "took"),
    [
        ("12:00:06.100", "other", True),
        ("12:00:06.300", "recorded", False),
        ("12:00:05.000", "other", True),
        ("12:00:06.000", "recorded", True),
        ("12:00:06.000", "other", False),  # a store of whole seconds: it may have landed after the wipe
        ("12:00:07.000", "recorded", False),
    ],
)
def test_in_the_second_of_a_wipe_only_the_recorded_object_counts_as_wiped(
    modified: str, etag: str, *, took: bool
) -> None:
    wipe = Wipe(datetime.fromisoformat("2024-01-05T12:00:06.200+00:00"), "recorded")
    found = StoredObject("a.parquet", 1, etag, datetime.fromisoformat(f"2024-01-05T{modified}+00:00"))
    assert wipe.removed(found) is took


def test_the_object_before_the_last_wipe_is_known(lake: Lake) -> None:
    lake.put(f"{FOLDER}/state=CA/date=2024-01-05/a.parquet")
    etag = lake.tick()["2024-01-05|CA"]["dagfusion/file"]["etag"]
    lake.instance.report_runless_asset_event(tombstone_event(ORDERS.key, "2024-01-05|CA", "a request"))
    ((partition, wipe),) = last_wipes(lake.instance, ORDERS.key, ["2024-01-05|CA", "2024-01-06|CA"]).items()
    assert (partition, wipe.etag) == ("2024-01-05|CA", etag)


def test_erased_rows_do_not_make_an_object_new(instance: dg.DagsterInstance) -> None:
    lake = Lake(instance, build_landing_sensor(ORDERS))
    folder = f"{FOLDER}/state=CA/date=2024-01-05"
    lake.put(f"{folder}/a.parquet")
    lake.tick()
    erase_rows(instance, lake.manager, ORDERS.key, Keys("id", ["1"]), run_id="erasure")
    assert pl.read_parquet(bytes(obstore.get(lake.store.client, f"{folder}/a.parquet").bytes())).height == 2
    assert lake.tick() == {}


def test_objects_wait_for_the_end_of_a_run_that_may_write_the_asset(lake: Lake) -> None:
    ticks = []

    @dg.asset(key=ORDERS.key, partitions_def=BOTH)
    def written() -> None:
        ticks.append((lake.tick(), lake.cursor, lake.skipped))

    lake.put(f"{FOLDER}/state=CA/date=2024-01-05/a.parquet")
    assert materialize(lake, written, partition="2024-01-06|CA").success
    ((events, cursor, skipped),) = ticks
    assert (events, cursor) == ({}, None)
    assert "may write Bronze/orders, and its objects count once it has ended" in str(skipped)
    assert lake.tick().keys() == {"2024-01-05|CA"}


def test_objects_of_a_run_that_failed_are_left_out(lake: Lake) -> None:
    own = f"{FOLDER}/state=CA/date=2024-01-05/data.parquet"

    @dg.asset(key=ORDERS.key, partitions_def=BOTH)
    def failing() -> None:
        lake.put(own, ROWS.head(1))
        message = "after the first of its objects"
        raise ValueError(message)

    materialize(lake, orders, partition="2024-01-05|CA")
    with pytest.raises(ValueError, match="after the first of its objects"):
        materialize(lake, failing, partition="2024-01-05|CA")
    assert lake.tick() == {}
    lake.put(own, ROWS.head(2))
    assert lake.tick()["2024-01-05|CA"]["dagster/partition_row_count"] == 2


def test_a_landed_object_is_an_input_like_any_other(instance: dg.DagsterInstance) -> None:
    loaded = []

    @dg.asset(partitions_def=BOTH, io_manager_key="io_manager", ins={"orders": dg.AssetIn(key=ORDERS.key)})
    def copied(orders: pl.DataFrame) -> None:
        loaded.append(orders)

    lake = Lake(instance, build_landing_sensor(ORDERS))
    lake.put(f"{FOLDER}/state=CA/date=2024-01-05/part-0.parquet")
    lake.tick()
    assert materialize(lake, orders, copied, partition="2024-01-05|CA").success
    (frame,) = loaded
    assert frame.rows() == [(*row, "CA", frame["date"][0]) for row in ROWS.rows()]
    assert frame.schema["date"] == pl.Date


def test_prefixes_orders_metrics_and_dynamic_partitions_are_the_callers(instance: dg.DagsterInstance) -> None:
    customers = dg.DynamicPartitionsDefinition(name="customers")
    definition = dg.MultiPartitionsDefinition({"date": DAYS, "customer": customers})
    sensor = build_landing_sensor(
        dg.AssetSpec("visits", partitions_def=definition),
        prefix="landing/visits/",
        partition_order=["date", "customer"],
        metrics=lambda rows: {"amount": rows["amount"].to_pylist()[0]},
        name="visits",
    )
    lake = Lake(instance, sensor, file_naming="per_run")
    lake.put("landing/visits/date=2024-01-05/customer=a%2Fb/0.parquet")
    ((partition, found),) = lake.tick().items()
    assert partition == "a/b|2024-01-05"
    assert found["amount"] == 1.5
    assert instance.get_dynamic_partitions("customers") == ["a/b"]
    assert sensor.name == "visits"


def test_an_unpartitioned_asset_has_one_folder(instance: dg.DagsterInstance) -> None:
    lake = Lake(instance, build_landing_sensor(dg.AssetSpec("flat")))
    lake.put("lake/flat/data.parquet")
    assert lake.tick()[None]["dagster/row_count"] == 3
    assert lake.tick() == {}
    lake.put("lake/flat/more.parquet")
    assert lake.tick()[None][LANDED]["objects"] == 2
    assert lake.tick() == {}


def test_mistakes_are_named(instance: dg.DagsterInstance) -> None:
    with pytest.raises(ConfigurationError, match="a landing sensor watches one asset"):
        build_landing_sensor(dg.AssetKey("orders"))  # type: ignore[arg-type]
    per_run = Lake(instance, build_landing_sensor(ORDERS), file_naming="per_run")
    with pytest.raises(Exception, match="file_naming='per_run'"):
        per_run.tick()
