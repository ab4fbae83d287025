"""Inputs, for real: the exact objects of the partitions a run needs, as the annotation asks for them."""

import datetime as dt
from typing import Any

import dagster as dg
import obstore
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.errors import ConfigurationError, FrameError, MissingObjectError
from dagfusion_pipeline.store import ObjectStore

DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
STATES = dg.StaticPartitionsDefinition(["TX", "CA", "NY"])
MULTI = dg.MultiPartitionsDefinition({"date": DAILY, "state": STATES})
DAY = dt.date(2024, 1, 1)


def key_range(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


@dg.asset(partitions_def=MULTI, key_prefix="Silver")
def orgs(context: dg.AssetExecutionContext) -> pl.DataFrame:
    keys = [key.keys_by_dimension for key in context.partition_keys if isinstance(key, dg.MultiPartitionKey)]
    rows = [(key["state"], dt.date.fromisoformat(key["date"]), n) for key in keys for n in range(2)]
    return pl.DataFrame(rows, schema={"state": pl.String, "date": pl.Date, "n": pl.Int64}, orient="row")


def materialize_orgs(manager: dg.ConfigurableIOManager, first: str, last: str, instance: dg.DagsterInstance) -> None:
    dg.materialize([orgs], resources={"io_manager": manager}, tags=key_range(first, last), instance=instance)


class Watch(dg.IOManager):
    """Keeps the output it was given."""

    seen: object = None

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        assert context.has_asset_key
        self.seen = obj

    def load_input(self, context: dg.InputContext) -> object:
        raise NotImplementedError(context.asset_key)


def load(
    manager: dg.ConfigurableIOManager, downstream: dg.AssetsDefinition, instance: dg.DagsterInstance, **run: Any
) -> Any:
    """What the downstream asset was given: it returns its input."""
    watch = Watch()
    resources = {"io_manager": manager, "watched": watch}
    dg.materialize([orgs, downstream], selection=[downstream], resources=resources, instance=instance, **run)
    return watch.seen


def watched(frame_type: Any, **options: Any) -> dg.AssetsDefinition:
    """An asset that gives back its input."""

    def seen(orgs):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - the annotation is the parameter
        return orgs

    if frame_type is not None:
        seen.__annotations__["orgs"] = frame_type
    return dg.asset(ins={"orgs": dg.AssetIn(key=["Silver", "orgs"], **options)}, io_manager_key="watched")(seen)


@pytest.mark.parametrize("frame_type", [pl.DataFrame, pl.LazyFrame, pa.Table, pd.DataFrame, None])
def test_all_partitions_as_the_annotation_asks(
    frame_type: type | None, hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    for state in ("CA", "NY", "TX"):
        materialize_orgs(hive, f"2024-01-01|{state}", f"2024-01-31|{state}", instance)
    loaded: Any = load(hive, watched(frame_type), instance)
    assert isinstance(loaded, frame_type or pl.DataFrame)
    frame = as_polars(loaded)
    assert frame.columns == ["n", "state", "date"]
    assert frame.height == 3 * 31 * 2
    # In the order of the partitions: by date, then by the states as their definition lists them.
    assert frame["state"][:6].to_list() == ["TX", "TX", "CA", "CA", "NY", "NY"]
    assert frame["date"].is_sorted()
    assert pl.Series(frame["date"]).dtype.is_temporal()


def test_states_of_a_day_through_the_partition_mapping(
    hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    for state in ("CA", "NY", "TX"):
        materialize_orgs(hive, f"2024-01-01|{state}", f"2024-01-02|{state}", instance)

    @dg.asset(partitions_def=DAILY, ins={"orgs": dg.AssetIn(key=["Silver", "orgs"])}, io_manager_key="watched")
    def day(orgs: pl.DataFrame) -> pl.DataFrame:
        return orgs

    loaded = load(hive, day, instance, partition_key="2024-01-02")
    assert loaded.rows() == [(n, state, dt.date(2024, 1, 2)) for state in ("TX", "CA", "NY") for n in range(2)]


def test_one_partition(hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    materialize_orgs(hive, "2024-01-01|CA", "2024-01-01|CA", instance)

    @dg.asset(partitions_def=MULTI, ins={"orgs": dg.AssetIn(key=["Silver", "orgs"])}, io_manager_key="watched")
    def same(orgs: pl.DataFrame) -> pl.DataFrame:
        return orgs

    assert load(hive, same, instance, partition_key="2024-01-01|CA").rows() == [(0, "CA", DAY), (1, "CA", DAY)]


def test_flat_assets_come_back_as_they_were(flat: S3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    @dg.asset
    def raw() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset(partitions_def=DAILY)
    def daily(context: dg.AssetExecutionContext, raw: pl.DataFrame) -> pl.DataFrame:
        return raw.with_columns(key=pl.lit(context.partition_key))

    @dg.asset
    def total(daily: pl.DataFrame) -> pl.DataFrame:
        return daily

    resources = {"io_manager": flat}
    dg.materialize([raw], resources=resources, instance=instance)
    keys = DAILY.get_partition_keys()
    for key in keys[:2]:
        dg.materialize([raw, daily], selection=[daily], resources=resources, instance=instance, partition_key=key)
    with pytest.raises(MissingObjectError, match="29 partitions of asset 'daily' are not in the store: '2024-01-03', "):
        dg.materialize([daily, raw, total], selection=[total], resources=resources, instance=instance)
    allowing = daily.map_asset_specs(lambda spec: spec.merge_attributes(metadata={"allow_missing_partitions": True}))
    result = dg.materialize([raw, allowing, total], selection=[total], resources=resources, instance=instance)
    assert result.output_for_node("total").rows() == [(1, keys[0]), (1, keys[1])]


def test_missing_partitions_are_named(hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    materialize_orgs(hive, "2024-01-01|CA", "2024-01-01|CA", instance)
    with pytest.raises(MissingObjectError) as missing:
        load(hive, watched(pl.DataFrame), instance)
    assert str(missing.value) == (
        "92 partitions of asset 'Silver/orgs' are not in the store: '2024-01-01|TX', '2024-01-01|NY', '2024-01-02|TX',"
        " '2024-01-02|CA', '2024-01-02|NY', '2024-01-03|TX', '2024-01-03|CA', '2024-01-03|NY', '2024-01-04|TX',"
        f" '2024-01-04|CA', ...; the first would be s3://lake/{hive.prefix}/Silver/orgs/state=TX/date=2024-01-01/data.parquet:"
        " materialize them first, or set the metadata allow_missing_partitions=True on the asset or on the input"
    )


def test_missing_partitions_are_left_out_where_the_input_allows(
    hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    allowing = watched(pl.DataFrame, metadata={"allow_missing_partitions": True})
    assert load(hive, allowing, instance).is_empty()
    materialize_orgs(hive, "2024-01-01|CA", "2024-01-01|CA", instance)
    assert load(hive, allowing, instance).rows() == [(0, "CA", DAY), (1, "CA", DAY)]


def test_missing_unpartitioned_upstream_is_named(flat: S3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    @dg.asset(key_prefix="Silver")
    def raw() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset(ins={"raw": dg.AssetIn(key=["Silver", "raw"])})
    def copy(raw: pl.DataFrame) -> pl.DataFrame:
        return raw

    where = f"s3://lake/{flat.prefix}/Silver/raw.parquet"
    with pytest.raises(MissingObjectError, match=f"asset 'Silver/raw' has no object in the store at {where}: mat"):
        dg.materialize([raw, copy], selection=[copy], resources={"io_manager": flat}, instance=instance)


def as_polars(frame: Any) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    return frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(frame)


def evolving(rows: pl.DataFrame) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=STATES, key_prefix="Silver", name="orgs")
    def orgs() -> pl.DataFrame:
        return rows

    return orgs


def load_evolved(
    manager: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance, **frames: pl.DataFrame
) -> pl.DataFrame:
    for state, rows in frames.items():
        dg.materialize([evolving(rows)], resources={"io_manager": manager}, instance=instance, partition_key=state)

    @dg.asset(ins={"orgs": dg.AssetIn(key=["Silver", "orgs"])})
    def total(orgs: pl.DataFrame) -> pl.DataFrame:
        return orgs

    upstream = evolving(pl.DataFrame())
    result = dg.materialize([upstream, total], selection=[total], resources={"io_manager": manager}, instance=instance)
    return pl.DataFrame(result.output_for_node("total"))


def test_columns_are_unified(hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    loaded = load_evolved(
        hive,
        instance,
        TX=pl.DataFrame({"n": pl.Series([1], dtype=pl.Int32), "old": ["x"]}),
        CA=pl.DataFrame({"n": [2**40]}),
        NY=pl.DataFrame({"new": [True], "n": pl.Series([None], dtype=pl.Null)}),
    )
    assert loaded.schema == {"n": pl.Int64, "old": pl.String, "partition": pl.String, "new": pl.Boolean}
    assert loaded.rows() == [(1, "x", "TX", None), (2**40, None, "CA", None), (None, None, "NY", True)]


def test_columns_that_do_not_fit_are_named(hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    expected = (
        r"partitions of asset 'Silver/orgs' do not fit into one frame: column 'n' is int64 in 'TX' and string in 'NY':"
        " materialize them again with one type"
    )
    frames = {"TX": pl.DataFrame({"n": [1]}), "CA": pl.DataFrame({"n": [1]}), "NY": pl.DataFrame({"n": ["x"]})}
    with pytest.raises(FrameError, match=expected):
        load_evolved(hive, instance, **frames)


def test_other_annotations_are_refused(hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance) -> None:
    with pytest.raises(
        FrameError, match=r"an input that loads asset 'Silver/orgs' must be annotated with .*; got dict"
    ):
        load(hive, watched(dict), instance)


def test_per_run_files_are_found_by_the_event_log(fields: dict[str, Any], instance: dg.DagsterInstance) -> None:
    manager = PartitionedS3ParquetIOManager(**fields, file_naming="per_run")
    allowing = watched(pl.DataFrame, metadata={"allow_missing_partitions": True})
    for _ in range(2):
        materialize_orgs(manager, "2024-01-01|CA", "2024-01-02|CA", instance)
    assert load(manager, allowing, instance).height == 4
    with pytest.raises(
        MissingObjectError, match=r"91 partitions of asset 'Silver/orgs' are not in the store: '2024-01-01\|TX'"
    ):
        load(manager, watched(pl.DataFrame), instance)


def test_per_run_file_of_an_unpartitioned_asset(fields: dict[str, Any], instance: dg.DagsterInstance) -> None:
    @dg.asset
    def raw(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"run": [context.run.run_id]})

    @dg.asset
    def copy(raw: pl.DataFrame) -> pl.DataFrame:
        return raw

    resources = {"io_manager": S3ParquetIOManager(**fields, file_naming="per_run")}
    with pytest.raises(MissingObjectError, match=r"asset 'raw' has no object in the store: materialize it first"):
        dg.materialize([raw, copy], selection=[copy], resources=resources, instance=instance)
    runs = [dg.materialize([raw, copy], resources=resources, instance=instance) for _ in range(2)]
    assert [run.output_for_node("copy")["run"].item() for run in runs] == [run.run_id for run in runs]


def test_wiped_files_are_gone(fields: dict[str, Any], instance: dg.DagsterInstance) -> None:
    manager = PartitionedS3ParquetIOManager(**fields, file_naming="per_run")
    materialize_orgs(manager, "2024-01-01|CA", "2024-01-01|CA", instance)
    instance.wipe_assets([orgs.key])
    with pytest.raises(MissingObjectError, match="93 partitions"):
        load(manager, watched(pl.DataFrame), instance)


def test_files_of_another_bucket_are_told(fields: dict[str, Any], instance: dg.DagsterInstance) -> None:
    written = PartitionedS3ParquetIOManager(**fields, file_naming="per_run")
    materialize_orgs(written, "2024-01-01|CA", "2024-01-01|CA", instance)
    other = PartitionedS3ParquetIOManager(**{**fields, "bucket": "other"}, file_naming="per_run")
    allowing = watched(pl.DataFrame, metadata={"allow_missing_partitions": True})
    with pytest.raises(
        ConfigurationError, match=r"asset 'Silver/orgs' wrote s3://lake/.*, and this IO manager reads s3://other/"
    ):
        load(other, allowing, instance)


def test_nothing_is_listed(
    fields: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("an IO manager listed the bucket")

    monkeypatch.setattr(obstore, "list", refuse)
    monkeypatch.setattr(ObjectStore, "list_objects", refuse)
    manager = PartitionedS3ParquetIOManager(**fields)
    materialize_orgs(manager, "2024-01-01|CA", "2024-01-02|CA", instance)
    allowing = watched(pl.DataFrame, metadata={"allow_missing_partitions": True})
    assert load(manager, allowing, instance).height == 4
