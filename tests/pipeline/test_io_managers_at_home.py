"""Projects as others have them, small: what changes is the IO manager, and nothing else."""

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_polars
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_pipeline import FrameType
from dagfusion_pipeline.errors import ConfigurationError, FrameError
from dagfusion_pipeline.frame_types import FRAME_TYPES
from tests.pipeline.in_memory import Flat, Hive
from tests.pipeline.written import entry_of, key_range, materializations

pytestmark = pytest.mark.usefixtures("heavy")
DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-04")


# A newsletter: ops count and clean, a graph asset puts them together, and one IO manager is the default of them all.


@dg.op
def sign_ups() -> list[str]:
    return ["ada@example.org", "Ada@example.org", "bob@example.org"]


@dg.op
def lower(addresses: list[str]) -> list[str]:
    return [address.lower() for address in addresses]


@dg.op
def subscribers_of(addresses: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"address": addresses}).unique(maintain_order=True)


@dg.graph_asset
def subscribers() -> pl.DataFrame:
    return subscribers_of(lower(sign_ups()))  # type: ignore[no-any-return] # Dagster's, not a frame yet


@dg.asset
def settings() -> dict[str, int]:
    return {"limit": 1}


@dg.asset
def recipients(subscribers: pl.DataFrame, settings: dict[str, int]) -> pl.DataFrame:
    return subscribers.head(settings["limit"])


@dg.asset
def report(recipients, settings) -> str:  # type: ignore[no-untyped-def] # noqa: ANN001 - as people write them
    return f"{recipients.height} of {settings['limit']}"


@dg.asset
def printed(report) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - as people write them
    assert report == "1 of 1"


NEWSLETTER = [subscribers, settings, recipients, report, printed]


@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")  # Dagster's own call
def test_a_project_of_ops_graph_assets_and_other_values_keeps_them_in_the_fallback(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    manager = Flat(bucket="lake", prefix="newsletter", fallback=dg.FilesystemIOManager(base_dir=str(tmp_path)))
    run = dg.materialize(NEWSLETTER, resources={"io_manager": manager}, instance=instance)
    events = {
        event.step_materialization_data.materialization.asset_key.to_user_string(): event.step_materialization_data
        for event in run.get_asset_materialization_events()
    }
    stored = {key: "dagfusion/file" in data.materialization.metadata for key, data in events.items()}
    assert stored == {"subscribers": True, "settings": False, "recipients": True, "report": False, "printed": False}
    again = dg.materialize(
        NEWSLETTER, selection=[report, printed], resources={"io_manager": manager}, instance=instance
    )
    assert again.output_for_node("report") == "1 of 1"


def test_without_a_fallback_each_value_is_refused_with_what_to_do(instance: dg.DagsterInstance) -> None:
    resources = {"io_manager": Flat(bucket="lake", prefix="refused")}
    with pytest.raises(FrameError, match=r"got dict: .*fallback=dagster.FilesystemIOManager\(\)"):
        dg.materialize([settings], resources=resources, instance=instance)
    with pytest.raises(ConfigurationError, match=r"belongs to an op: make the op an asset, .*set fallback="):
        dg.materialize([subscribers], resources=resources, instance=instance)


@dg.asset(partitions_def=DAILY)
def limits(context: dg.AssetExecutionContext) -> dict[str, str]:
    return {"day": context.partition_key}


@dg.asset(ins={"limits": dg.AssetIn(metadata={"allow_missing_partitions": True})})
def strictest(limits) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - as people write them
    LOADED.append(limits)


@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")  # Dagster's own call
def test_partitions_are_found_in_the_fallback_where_the_first_is_missing(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    fallback = dg.FilesystemIOManager(base_dir=str(tmp_path))
    resources = {"io_manager": Flat(bucket="lake", prefix="limits", fallback=fallback)}
    dg.materialize([limits], partition_key="2024-01-02", resources=resources, instance=instance)
    dg.materialize([limits, strictest], selection=[strictest], resources=resources, instance=instance)
    assert LOADED.pop() == {"2024-01-02": {"day": "2024-01-02"}}


# A shop: orders have a time, each day is backfilled in one run, and the columns are called as the database called them.


@dg.asset(partitions_def=DAILY, metadata={"partition_expr": "ORDERED_AT"})
def orders(context: dg.AssetExecutionContext) -> pl.DataFrame:
    window = context.partition_time_window
    hours = pl.datetime_range(window.start, window.end, "8h", closed="left", time_zone="UTC", eager=True)
    return pl.DataFrame({"ordered_at": hours, "amount": range(len(hours))})


@dg.asset(partitions_def=DAILY)
def daily_total(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(pl.len().alias("orders"), pl.col("ordered_at").min().dt.date().alias("first"))


@pytest.mark.parametrize("manager", [Hive(bucket="lake", prefix="shop"), Flat(bucket="lake", prefix="flat-shop")])
def test_a_partition_expr_of_a_timestamp_is_the_window_of_the_partition(
    manager: dg.ConfigurableIOManager, instance: dg.DagsterInstance
) -> None:
    resources = {"io_manager": manager}
    backfill = dg.materialize(
        [orders], tags=key_range("2024-01-01", "2024-01-02"), resources=resources, instance=instance
    )
    entries = {key: entry_of(event) for key, event in materializations(backfill).items()}
    assert {key: entry["rows"] for key, entry in entries.items()} == {"2024-01-01": 3, "2024-01-02": 3}
    assert entries["2024-01-02"]["partition"] == [{"name": "date", "type": "date32[day]", "value": "2024-01-02"}]
    assert [field["name"] for field in entries["2024-01-02"]["schema"]["fields"]] == ["ordered_at", "amount"]

    run = dg.materialize([orders, daily_total], partition_key="2024-01-03", resources=resources, instance=instance)
    assert run.output_for_node("daily_total").rows() == [(3, dt.date(2024, 1, 3))]


# A weather station: its managers are those of dagster-polars, and one asset after the other moves.
# dagster-polars 0.27 cannot load anything with polars 2, so that there it is asked to write only.
THEIRS_LOAD = int(pl.__version__.split(".")[0]) < 2


def test_assets_move_from_dagster_polars_one_by_one(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    theirs = dagster_polars.PolarsParquetIOManager(base_dir=str(tmp_path))
    ours = Hive(bucket="lake", prefix="weather")

    @dg.asset(partitions_def=DAILY, io_manager_key="raw")
    def readings(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"day": [context.partition_key], "celsius": [4.5]})

    @dg.asset(partitions_def=DAILY, io_manager_key="clean")
    def checked(readings: pl.LazyFrame) -> pl.LazyFrame:
        return readings.filter(pl.col("celsius") < 60)

    @dg.asset(io_manager_key="last")
    def warmest(checked: dict[str, pl.DataFrame]) -> pl.DataFrame:
        return pl.DataFrame({"day": list(checked), "celsius": [frame["celsius"].max() for frame in checked.values()]})

    first_steps = [(theirs, theirs, theirs), (theirs, ours, theirs)] if THEIRS_LOAD else []
    steps = [*first_steps, (ours, ours, theirs), (ours, ours, ours)]
    for raw, clean, last in steps:
        resources = {"raw": raw, "clean": clean, "last": last}
        assets = [readings, checked, warmest]
        for key in DAILY.get_partition_keys():
            daily = assets[:2]
            dg.materialize(daily, partition_key=key, resources=resources, instance=instance)
        run = dg.materialize(assets, selection=[warmest], resources=resources, instance=instance)
        assert run.output_for_node("warmest").rows() == [(key, 4.5) for key in DAILY.get_partition_keys()]


# A register: wide rows, inputs that name the few columns they need, and columns that are described.


REGISTER = dg.TableSchema(
    columns=[
        dg.TableColumn("npi", "number", "National identifier", dg.TableColumnConstraints(nullable=False, unique=True)),
        dg.TableColumn("Name", "text", "As registered", tags={"pii": "yes"}),
        dg.TableColumn("gone", "text", "Not written any more"),
    ],
    constraints=dg.TableConstraints(other=["npi is positive"]),
)


@dg.asset(metadata={"dagster/column_schema": REGISTER}, partitions_def=DAILY)
def register(context: dg.AssetExecutionContext) -> pa.Table:
    late = {"added": ["x"]} if context.partition_key == "2024-01-03" else {}
    return pa.table({"npi": [1], "name": ["a"], "note": ["-"], **late})


def input_of(annotation: Any, columns: Any) -> dg.AssetsDefinition:
    def seen(register: Any) -> None:
        LOADED.append(register)

    seen.__annotations__ = {"register": annotation, "return": None}
    metadata = {"columns": columns, "allow_missing_partitions": True}
    return dg.asset(ins={"register": dg.AssetIn(metadata=metadata)})(seen)


LOADED: list[Any] = []


def load_register(annotation: Any, columns: Any, instance: dg.DagsterInstance) -> Any:
    resources = {"io_manager": Hive(bucket="lake", prefix="register")}
    asset = input_of(annotation, columns)
    dg.materialize([register, asset], selection=[asset], resources=resources, instance=instance)
    return LOADED.pop()


def test_inputs_read_only_the_columns_that_their_metadata_names(instance: dg.DagsterInstance) -> None:
    resources = {"io_manager": Hive(bucket="lake", prefix="register")}
    for key in ("2024-01-01", "2024-01-03"):
        dg.materialize([register], partition_key=key, resources=resources, instance=instance)

    days = [dt.date(2024, 1, 1), dt.date(2024, 1, 3)]
    assert load_register(pa.Table, ["date", "NPI"], instance).to_pydict() == {"date": days, "npi": [1, 1]}
    assert load_register(pa.Table, ["added"], instance).to_pydict() == {"added": [None, "x"]}
    assert load_register(pl.DataFrame, ["date"], instance).to_dict(as_series=False) == {"date": days}
    by_partition = load_register(dict[str, pl.DataFrame | None], ["name"], instance)
    shapes = {key: frame if frame is None else frame.shape for key, frame in by_partition.items()}
    assert shapes == {"2024-01-01": (1, 1), "2024-01-02": None, "2024-01-03": (1, 1)}
    assert list(load_register(dict[str, pa.Table], ["name"], instance)) == ["2024-01-01", "2024-01-03"]
    with pytest.raises(FrameError, match=r"asset 'register' has no columns \['nope'\], which the input's metadata"):
        load_register(pa.Table, ["nope", "npi"], instance)
    with pytest.raises(ConfigurationError, match=r"must be a list of column names; got 'npi'"):
        load_register(pa.Table, "npi", instance)


def test_what_a_definition_says_of_its_columns_is_on_the_event(instance: dg.DagsterInstance) -> None:
    manager = Hive(
        bucket="lake",
        prefix="described",
        console_url="http://console:8080/",
        object_url="http://store/{bucket}?at={key}",
    )
    run = dg.materialize([register], partition_key="2024-01-01", resources={"io_manager": manager}, instance=instance)
    metadata = materializations(run)["2024-01-01"].metadata

    schema = metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    npi, name, note, date = schema.columns
    assert (npi.type, npi.description, npi.constraints) == (
        "int64",
        "National identifier",
        REGISTER.columns[0].constraints,
    )
    assert (name.name, name.description, name.tags) == ("name", "As registered", {"pii": "yes"})
    assert (note.description, date.description) == (None, None)
    assert schema.constraints == REGISTER.constraints
    assert metadata["console"].value == "http://console:8080/#table=local_default.register&partition=2024-01-01"
    path = "described/register/date=2024-01-01/data.parquet"
    assert metadata["s3_path"].value == f"http://store/lake?at={path}"


# What a frame may be, and may not be there.


def through(value: Any, annotation: Any, manager: dg.ConfigurableIOManager | None = None) -> Any:
    @dg.asset
    def written() -> Any:
        return value

    def loaded(written: Any) -> None:
        LOADED.append(written)

    loaded.__annotations__ = {"written": annotation, "return": None}
    dg.materialize(
        [written, dg.asset(loaded)], resources={"io_manager": manager or Flat(bucket="lake", prefix="through")}
    )
    return LOADED.pop()


def test_anything_that_gives_an_arrow_stream_is_a_frame() -> None:
    import duckdb  # noqa: PLC0415 - the IO managers do not import it

    rows = duckdb.sql("SELECT range AS n, 'text' AS s FROM range(3)")
    table = pa.table({"n": [0, 1, 2], "s": ["text"] * 3})
    assert through(rows, pa.Table).equals(table)
    assert through(table.to_reader(), duckdb.DuckDBPyRelation).fetchall() == [(n, "text") for n in range(3)]
    assert through(table.to_batches()[0], pa.RecordBatchReader).read_all().equals(table)


class Columns(dict[str, list[Any]]):
    """A frame of a user's own."""


class ColumnsType(FrameType):
    name = "Columns"

    def holds(self, value: object) -> bool:
        return isinstance(value, Columns)

    def to_arrow(self, value: Any, asset: str) -> pa.Table:
        assert asset == "written"
        return pa.table(dict(value))

    def matches(self, annotation: object) -> bool:
        return annotation is Columns

    def from_arrow(self, table: pa.Table) -> Columns:
        return Columns(table.to_pydict())


class FlatColumns(Flat):
    def frame_types(self) -> list[FrameType]:
        return [ColumnsType(), *FRAME_TYPES]


def test_a_user_adds_a_type_of_frame() -> None:
    manager = FlatColumns(bucket="lake", prefix="columns")
    value = Columns(n=[1, 2])
    for annotation in (Columns, Any):
        loaded = through(value, annotation, manager)
        assert type(loaded) is Columns
        assert loaded == value
    assert through(value, pl.DataFrame, manager).rows() == [(1,), (2,)]
    with pytest.raises(FrameError, match=r"must return a Columns, polars.DataFrame, .* or pandas.DataFrame; got int"):
        through(7, Any, manager)


@pytest.mark.parametrize("value", [None, pl.DataFrame({"n": [1]})])
def test_an_optional_output_may_be_none_and_is_none_for_its_inputs(value: pl.DataFrame | None) -> None:
    @dg.asset
    def maybe() -> pl.DataFrame | None:
        return value

    @dg.asset
    def after(maybe: pl.DataFrame | None) -> None:
        LOADED.append(maybe)

    name = "none" if value is None else "some"
    dg.materialize([maybe, after], resources={"io_manager": Flat(bucket="lake", prefix=f"optional-{name}")})
    loaded = LOADED.pop()
    assert (loaded is None) == (value is None)
    assert loaded is None or loaded.equals(value)


# Columns that only happen to be called as a partition column.


@pytest.mark.parametrize("manager", [Hive(bucket="lake", prefix="names"), Flat(bucket="lake", prefix="flat-names")])
@pytest.mark.parametrize(
    ("definition", "key", "frame", "column"),
    [
        (DAILY, "2024-01-01", {"date": [1.5, 2.5]}, "partition_date"),
        (DAILY, "2024-01-01", {"date": [[1], [2]]}, "partition_date"),
        (dg.StaticPartitionsDefinition(["eu", "us"]), "eu", {"partition": [0, 7]}, "partition_key"),
    ],
)
def test_a_column_that_cannot_be_the_partition_is_data(
    manager: dg.ConfigurableIOManager, definition: Any, key: str, frame: dict[str, list[Any]], column: str
) -> None:
    @dg.asset(partitions_def=definition)
    def named() -> pa.Table:
        return pa.table(frame)

    @dg.asset(partitions_def=definition)
    def same(named: pa.Table) -> None:
        LOADED.append(named)

    run = dg.materialize([named, same], partition_key=key, resources={"io_manager": manager})
    entry = next(entry_of(event) for event in materializations_of(run, "named"))
    assert [part["name"] for part in entry["partition"]] == [column]
    assert LOADED.pop().select(list(frame)).to_pydict() == frame


def materializations_of(run: dg.ExecuteInProcessResult, name: str) -> list[dg.AssetMaterialization]:
    events = [event.step_materialization_data.materialization for event in run.get_asset_materialization_events()]
    return [event for event in events if event.asset_key == dg.AssetKey(name)]


def test_a_column_is_data_where_partition_expr_names_another() -> None:
    @dg.asset(partitions_def=DAILY, metadata={"partition_expr": "loaded_on"})
    def named() -> pl.DataFrame:
        return pl.DataFrame({"date": [dt.date(1999, 1, 1)]})

    run = dg.materialize(
        [named], partition_key="2024-01-01", resources={"io_manager": Hive(bucket="lake", prefix="expr")}
    )
    entry = entry_of(materializations(run)["2024-01-01"])
    assert entry["partition"] == [{"name": "loaded_on", "type": "date32[day]", "value": "2024-01-01"}]
    assert entry["columns"]["date"] == {"min": "1999-01-01", "max": "1999-01-01", "nulls": 0}
