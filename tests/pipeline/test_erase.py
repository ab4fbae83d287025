"""Erased rows: they are gone from the objects, the rest stays, and the proof names what still has the bytes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dagfusion_pipeline import build_erasure_job, maintenance, rewriter, wipe_partitions
from dagfusion_pipeline.commands import commands
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_pipeline.erase import erase_rows
from dagfusion_pipeline.erasure_keys import Keys, read_keys
from dagfusion_pipeline.errors import BusyAssetError, ConfigurationError, MissingObjectError
from dagfusion_pipeline.event_objects import Unrecorded
from dagfusion_pipeline.latest_files import latest_files
from dagfusion_pipeline.logged_files import current_files
from dagfusion_pipeline.parquet import decode
from dagfusion_pipeline.repair import repair_asset
from dagfusion_pipeline.vacuum import superseded_objects
from tests.pipeline.in_memory import STORE, Flat, Hive
from tests.tiers import examples

pytestmark = pytest.mark.usefixtures("heavy")
LETTERS = list("abcd")
RUN = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
UNNAMED = "this event log does not name it; queries may read it (a checkpoint or discovery may name it)"
ROWS = {"a": [1, 2, 3], "b": [3, 4], "c": [10, 11], "d": [3]}
KEY = dg.AssetKey(["Silver", "people"])
PARTITIONS = dg.StaticPartitionsDefinition(LETTERS)
ALL = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "d"}


@dg.asset(key=KEY, partitions_def=PARTITIONS, metadata={"partition_expr": "letter"})
def people(context: dg.AssetExecutionContext) -> pl.DataFrame:
    rows = [(letter, number, f"name {number}") for letter in context.partition_keys for number in ROWS[letter]]
    return pl.DataFrame(rows, schema=["letter", "id", "name"], orient="row")


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).translate(str.maketrans("[]", "--"))


def write(instance: dg.DagsterInstance, manager: dg.ConfigurableIOManager) -> None:
    assert dg.materialize([people], instance=instance, resources={"io_manager": manager}, tags=ALL).success


def stored(uri: str) -> list[int]:
    (content,) = STORE.read_many([uri.removeprefix(STORE.uri(""))], 1)
    return [int(number) for number in decode(content)["id"].to_pylist()]


def latest(instance: dg.DagsterInstance) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in reversed(instance.fetch_materializations(KEY, limit=100).records):
        found[str(record.partition_key)] = record.asset_materialization
    return found


@pytest.mark.parametrize("naming", ["stable", "per_run"])
@pytest.mark.parametrize("kind", [Hive, Flat])
def test_rows_are_gone_and_the_proof_names_what_has_them(
    instance: dg.DagsterInstance, prefix: str, kind: type[Hive | Flat], naming: Any
) -> None:
    manager = kind(bucket="lake", prefix=prefix, file_naming=naming)
    write(instance, manager)
    before = latest(instance)
    planned = erase_rows(instance, manager, KEY, Keys("id", ["3", "99"]), run_id=RUN, dry_run=True)
    assert (planned.rows_removed, planned.still_held, latest(instance)) == (3, [], before)

    proof = erase_rows(instance, manager, KEY, Keys("ID", ["3", "99"]), run_id=RUN)
    assert (proof.examined, proof.read, proof.keys, proof.rows_removed) == (4, 3, 2, 3)
    assert [(one.partition, one.rows_removed) for one in proof.rewritten] == [("a", 1), ("b", 1), ("d", 1)]
    after = latest(instance)
    for letter, numbers in ROWS.items():
        record, old = (events[letter].metadata["dagfusion/file"].data for events in (after, before))
        rest = [number for number in numbers if number != 3]
        assert stored(record["uri"]) == rest
        assert record["rows"] == len(rest)
        assert record["schema"] == old["schema"]
        assert record["partition"] == old["partition"]
    assert after["c"] == before["c"], "its statistics show that it has none of the keys"
    assert after["a"].metadata["erased_rows"].value == 1
    assert "3" not in str(after["a"].description).split()

    old_uris = {one.old_uri for one in proof.rewritten}
    new_uris = {one.new_uri for one in proof.rewritten}
    if naming == "stable":
        assert (new_uris, proof.still_held) == (old_uris, [])
    else:
        assert all(RUN in str(uri) for uri in new_uris)
        assert {one.uri for one in proof.still_held} == old_uris
        assert all(3 in stored(uri) for uri in old_uris)
    again = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert (again.rows_removed, again.rewritten) == (0, [])
    assert {one.uri for one in again.still_held} == {one.uri for one in proof.still_held}
    assert json.loads(json.dumps(proof.document))["rows_removed"] == 3


def test_the_proof_names_consolidated_wiped_and_unknown_objects(instance: dg.DagsterInstance, prefix: str) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    consolidate_asset(instance, manager, KEY, RUN, instance.report_runless_asset_event)
    wipe_partitions(instance, KEY, ["d"])
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition="foreign"))
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition="c"))  # its file is the one before
    with STORE.uploads(1) as uploads:
        uploads.put(f"{prefix}/Silver/people/letter=x/data.parquet", pa.py_buffer(b"x"), lambda _: None)
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert [one.partition for one in proof.rewritten] == ["a", "b"]
    assert proof.not_examined == ["foreign"]
    held = {one.uri.removeprefix(f"s3://lake/{prefix}/").split("-")[0]: one.why for one in proof.still_held}
    assert {place: why.partition(":")[0] for place, why in held.items()} == {
        "Silver/people/letter=d/data.parquet": "superseded",
        "Silver/people/letter=x/data.parquet": UNNAMED,
        "_consolidated/Silver/people/data": "consolidated",
    }


def test_a_run_that_may_write_the_asset_has_to_end_first(instance: dg.DagsterInstance, prefix: str) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    run = dg.DagsterRun(job_name="nightly", run_id=RUN, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    with pytest.raises(BusyAssetError, match=f"run {RUN} of job 'nightly' may write asset 'Silver/people'"):
        erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id="other")
    assert erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN).rows_removed == 3, "its own run"


def test_a_partition_that_is_written_meanwhile_is_left_and_told(
    instance: dg.DagsterInstance, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Hive(bucket="lake", prefix=prefix, file_naming="per_run")
    write(instance, manager)
    read = type(STORE).read_versions

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.undo()
        found = read(*arguments)
        write(instance, manager)
        return found

    monkeypatch.setattr(type(STORE), "read_versions", overtaken)
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert (proof.rewritten, sorted(map(str, proof.written_meanwhile))) == ([], ["a", "b", "d"])


@pytest.mark.parametrize(
    ("column", "texts", "said"),
    [
        ("letter", ["a"], "'letter' is a partition column: wipe the partitions"),
        ("id", ["1", "secret"], "key 2 is not a value of column 'id', whose type is int64"),
    ],
)
def test_what_cannot_be_erased_is_told_without_the_key(
    instance: dg.DagsterInstance, prefix: str, column: str, texts: list[str], said: str
) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    with pytest.raises(ConfigurationError, match="has no object of asset 'Silver/people'"):
        erase_rows(instance, manager, KEY, Keys("id", ["1"]), run_id=RUN)
    write(instance, manager)
    with pytest.raises(ConfigurationError, match=said) as raised:
        erase_rows(instance, manager, KEY, Keys(column, texts), run_id=RUN)
    assert "secret" not in str(raised.value)
    assert erase_rows(instance, manager, KEY, Keys("no_such_column", ["1"]), run_id=RUN).read == 0


def test_an_object_that_is_gone_is_told(instance: dg.DagsterInstance, prefix: str) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    STORE.delete_objects([f"{prefix}/Silver/people/letter=a/data.parquet"])
    with pytest.raises(MissingObjectError, match=r"letter=a/data.parquet .* is gone, or is not the object"):
        erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)


def test_the_job_reports_the_proof(instance: dg.DagsterInstance, prefix: str, tmp_path: Path) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    (tmp_path / "keys").write_text("3\n\n 4 \n")
    defs = dg.Definitions(jobs=[build_erasure_job([people])], resources={"io_manager": manager})
    config = {"column": "id", "keys_file": str(tmp_path / "keys"), "dry_run": False}
    run = defs.resolve_job_def("erase_rows").execute_in_process(
        instance=instance, run_config={"ops": {"rewrite_objects": {"config": config}}}
    )
    (handled,) = [one for one in run.all_events if one.event_type_value == "STEP_OUTPUT"]
    metadata = handled.step_output_data.metadata
    assert (metadata["rows_removed"].value, metadata["objects_rewritten"].value) == (4, 3)
    proof: Any = metadata["proof"].value
    assert [one["partition"] for one in proof["rewritten"]] == ["a", "b", "d"]


def test_keys_are_read_from_a_file_or_the_bucket(prefix: str, tmp_path: Path) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    with STORE.uploads(1) as uploads:
        uploads.put(f"{prefix}/keys", pa.py_buffer(b"1\n2\n"), lambda _: None)
    assert read_keys(f"s3://lake/{prefix}/keys", manager) == ["1", "2"]
    (tmp_path / "empty").touch()
    for place, error, said in [
        (f"s3://lake/{prefix}/none", MissingObjectError, "there is no object"),
        ("s3://other/keys", ConfigurationError, "must be a local file or an object below s3://lake/"),
        (str(tmp_path / "none"), ConfigurationError, "cannot be read"),
        (str(tmp_path / "empty"), ConfigurationError, "has no keys"),
    ]:
        with pytest.raises(error, match=said):
            read_keys(place, manager)


@settings(max_examples=examples(100))
@given(
    numbers=st.lists(st.none() | st.integers(-5, 5), max_size=6),
    keys=st.lists(st.integers(-6, 6), min_size=1, max_size=4),
)
def test_statistics_never_hide_a_key(numbers: list[int | None], keys: list[int]) -> None:
    known = [number for number in numbers if number is not None]
    bounds = {"min": min(known), "max": max(known)} if known else {}
    record = {
        "partition": [],
        "schema": {"fields": [{"name": "n", "type": "int64", "nullable": True}]},
        "columns": {"n": {**bounds, "nulls": len(numbers) - len(known)}},
        "rows": len(numbers),
    }
    wanted = Keys("n", [str(key) for key in keys])
    table = pa.table({"n": pa.array(numbers, pa.int64())})
    kept, removed = wanted.split(table)
    assert kept["n"].to_pylist() == [number for number in numbers if number not in keys]
    assert removed == sum(number in keys for number in numbers)
    assert wanted.may_be_in(record) or not removed


@pytest.mark.usefixtures("processes")
def test_the_command_erases_rows_of_a_table(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DAGSTER_HOME": str(tmp_path), "ENVIRONMENT": "local", "S3_BUCKET": "lake"}.items():
        monkeypatch.setenv(name, value)
    manager = Hive(bucket="lake", prefix=prefix)
    monkeypatch.setattr(maintenance, "PartitionedS3ParquetIOManager", lambda **_: manager)
    (tmp_path / "dagster.yaml").touch()
    (tmp_path / "keys").write_text("3\n")
    with dg.DagsterInstance.get() as instance:
        write(instance, manager)
    app = typer.Typer()
    commands(app)

    def run(*options: str) -> str:
        arguments = ["erase", "local_silver.people", "--column", "id", "--keys-file", str(tmp_path / "keys"), *options]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    assert "4 objects examined, 3 read, 3 would be rewritten: 3 rows with 1 keys of 'id'" in run()
    assert "This is a dry run. Add --yes" in run()
    assert json.loads(run("--yes", "--json"))["rows_removed"] == 3
    assert "0 are rewritten: 0 rows" in run("--yes")


def test_objects_that_an_event_names_without_a_record_are_not_examined_nor_replaced(
    instance: dg.DagsterInstance, prefix: str
) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    folder = STORE.uri(f"{prefix}/Silver/people/letter=a/")
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition="a", metadata={"dagster/uri": folder}))
    STORE.delete_objects([f"{prefix}/Silver/people/letter=b/data.parquet"])
    found = repair_asset(instance, manager, KEY)
    assert (found.missing, found.not_examined) == (["b"], ("a",))
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3", "77"]), run_id=RUN)
    assert ([one.partition for one in proof.rewritten], proof.not_examined) == (["d"], ["a"])
    assert proof.keys_without_rows == 1
    assert [one.why for one in proof.still_held if one.uri == f"{folder}data.parquet"] == [
        "queries read it: not examined, because its event has no record of it"
    ]
    assert stored(f"{folder}data.parquet") == ROWS["a"]
    (layout,) = current_files(instance, KEY)
    assert layout.files.num_rows == 2, "of c and d"
    assert latest_files(instance, KEY, ["a", "b"]) == {"a": Unrecorded(folder), "b": None}
    assert not superseded_objects(instance, manager, KEY, datetime.now(UTC) - timedelta(hours=1))
    with pytest.raises(ConfigurationError, match="without a record of one object"):
        dg.materialize([people, reader], instance=instance, resources={"io_manager": manager}, selection=[reader])


@dg.asset(ins={"rows": dg.AssetIn(KEY)})
def reader(rows: dict[str, pl.DataFrame]) -> None: ...


def test_an_object_that_another_run_replaced_is_left(
    instance: dg.DagsterInstance, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Hive(bucket="lake", prefix=prefix)
    write(instance, manager)
    key = f"{prefix}/Silver/people/letter=d/data.parquet"

    def is_still_current(*_: object) -> bool:
        with STORE.uploads(1) as uploads:
            uploads.put(key, pa.py_buffer(b"of a run whose event comes later"), lambda _: None)
        return True

    monkeypatch.setattr(rewriter, "is_current", is_still_current)
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition="x"))
    wipe_partitions(instance, KEY, ["a", "b"])
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert (proof.rewritten, proof.written_meanwhile) == ([], ["d"])
    (content,) = STORE.read_many([key], 1)
    assert content is not None
    assert bytes(content) == b"of a run whose event comes later"


def test_stable_names_that_end_in_a_uuid_are_kept(instance: dg.DagsterInstance, prefix: str) -> None:
    keys = [f"cust-0000000{number}-8b86-4d01-b42d-00cf4fc964ff" for number in (1, 2)]

    @dg.asset(key=KEY, partitions_def=dg.StaticPartitionsDefinition(keys), metadata={"partition_expr": "customer"})
    def customers(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"customer": context.partition_keys, "id": [3, 3]})

    tags = dict(zip(ALL, keys, strict=True))
    manager = Flat(bucket="lake", prefix=prefix)
    assert dg.materialize([customers], instance=instance, resources={"io_manager": manager}, tags=tags).success
    proof = erase_rows(instance, manager, KEY, Keys("id", ["3"]), run_id=RUN)
    assert [one.new_uri for one in proof.rewritten] == [one.old_uri for one in proof.rewritten]
    assert len({one.new_uri for one in proof.rewritten}) == 2


def test_keys_that_fit_one_type_of_a_column_are_no_error(prefix: str, tmp_path: Path) -> None:
    keys = Keys("id", ["1", " x"])
    assert keys.split(pa.table({"id": [1, 2]}))[1] == 1
    assert keys.split(pa.table({"id": [" x", "x"]}))[0]["id"].to_pylist() == ["x"]
    keys.check()
    assert keys.unmatched == 0
    unfit = Keys("id", ["1", "x"])
    unfit.split(pa.table({"id": [1]}))
    with pytest.raises(ConfigurationError, match="key 2 is not a value"):
        unfit.check()
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbfa \r\nb\x0cc\n")
    manager = Hive(bucket="lake", prefix=prefix)
    assert read_keys(str(tmp_path / "keys"), manager) == ["a ", "b\x0cc"]
    (tmp_path / "keys").write_bytes(b"a\n\xff\n")
    with pytest.raises(ConfigurationError, match=r"line 2 of .* is not UTF-8"):
        read_keys(str(tmp_path / "keys"), manager)
